"""A push in a linear recurrence, whose response is known, and in the embedded policy."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman.spectra.control import controllability_gramian
from relax_rl.latent.steering import steering_differences
from relax_rl.spectra.reading import LatentText
from relax_rl.spectra.steering import steering_response

transformers = pytest.importorskip("transformers")


class Recurrence(nn.Module):
    """h_t = h_{t-1} K + u_t over the tokens of a text."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, states: Tensor) -> tuple[Tensor]:
        state, rows = torch.zeros_like(states[:, 0]), []
        for token in states.unbind(1):
            state = state @ self.matrix + token
            rows.append(state)
        return (torch.stack(rows, 1),)


class LinearDecoder(nn.Module):
    """Two layers, of which the first adds nothing and the second is the recurrence."""

    def __init__(self, matrix: Tensor, tokens: Tensor) -> None:
        super().__init__()
        self.config = transformers.LlamaConfig(num_hidden_layers=2)
        self.tokens = nn.Embedding.from_pretrained(tokens)
        self.layers = nn.ModuleList([nn.Identity(), Recurrence(matrix)])
        self.device = tokens.device

    def get_decoder(self) -> nn.Module:
        return self

    def forward(self, input_ids: Tensor, **_: Any) -> Any:
        states = self.layers[0](self.tokens(input_ids))
        return SimpleNamespace(last_hidden_state=self.layers[1](states)[0])


def linear() -> tuple[LinearDecoder, Tensor]:
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn((4, 4), generator=generator, dtype=torch.float64)
    matrix *= 0.85 / torch.linalg.eigvals(matrix).abs().max()
    tokens = torch.randn((64, 4), generator=generator, dtype=torch.float64)
    return LinearDecoder(matrix, tokens - tokens.mean(0)), matrix


def texts(count: int, length: int, size: int = 64) -> list[LatentText]:
    ids = torch.randint(1, size, (count, length), generator=torch.Generator().manual_seed(6)).tolist()
    return [LatentText(str(number), tuple(row)) for number, row in enumerate(ids)]


def test_a_push_in_a_linear_recurrence_is_advanced_by_its_matrix() -> None:
    model, matrix = linear()
    push = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    (text,) = texts(1, 12)
    found = steering_differences(model, text.token_ids, "layer_0_out", push, at=[2, 7], steps=5, strength=3.0)
    expected = torch.stack([push @ torch.linalg.matrix_power(matrix, n) for n in range(5)])
    torch.testing.assert_close(found, expected.expand(2, 5, 4))
    held = steering_differences(model, text.token_ids, "embed", push, at=[2], steps=5, holds=True)
    torch.testing.assert_close(held[0], expected.cumsum(0))
    assert not model.layers[0]._forward_hooks
    assert not model.layers[0]._forward_pre_hooks


def test_the_fitted_operator_predicts_it_and_the_gramian_holds_its_energy() -> None:
    model, matrix = linear()
    push = torch.tensor([1.0, -2.0, 0.5, 0.0]).double()
    found = steering_response(model, texts(20, 200), push, site="layer_0_out", rank=4, steps=6)
    assert found.num_pushes == 40
    exact = torch.stack([push @ torch.linalg.matrix_power(matrix, n) for n in range(6)])
    torch.testing.assert_close(found.measured, exact)
    # 4,000 tokens drawn at random drive it: the operator is right to about 1 / sqrt(4000).
    assert found.relative_error < 0.1
    assert found.cosines.min() > 0.95
    torch.testing.assert_close(found.moduli[0], torch.tensor(0.85).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(found.gramian, controllability_gramian(matrix, push, horizon=6), atol=0.15, rtol=0.05)
    predicted, measured = found.energy
    assert predicted == pytest.approx(measured, rel=0.2)
    torch.testing.assert_close(found.gramian.trace(), found.predicted.square().sum())


@pytest.mark.slow
def test_a_push_in_the_embedded_policy_reaches_later_tokens_only_through_the_layers() -> None:
    from relax_rl.training.models import load_model

    loaded: tuple[Any, Any] = load_model("tiny")
    model, tokenizer = loaded
    ids = tuple(tokenizer("Use 3 5 7 to make 22. 3 + 5 = 8, 8 + 7 = 15")["input_ids"])
    width = model.config.hidden_size
    push = torch.randn(width, generator=torch.Generator().manual_seed(7))
    found = steering_differences(model, ids, "layer_1_out", push, at=[4], steps=6, strength=1e-2)
    assert (found[0].norm(dim=-1) > 0).all()
    # The derivative of the states by automatic differentiation.
    layers, decoder = model.get_decoder().layers, model.get_decoder()

    def pushed(size: Tensor) -> Tensor:
        def add(module: nn.Module, args: Any, output: Any) -> Any:
            states = output if isinstance(output, Tensor) else output[0]
            marked = torch.zeros_like(states).index_fill(1, torch.tensor([4]), 1.0)
            return states + size * marked * push

        handle = layers[1].register_forward_hook(add)
        try:
            return decoder(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0, 4:10]
        finally:
            handle.remove()

    exact: Any = torch.autograd.functional.jacobian(pushed, torch.zeros(()))
    torch.testing.assert_close(found[0], exact.double(), rtol=0.05, atol=0.05 * float(exact.abs().max()))
    # At the last layer nothing is left that a later token reads.
    last = steering_differences(model, ids, "layer_-1_out", push, at=[4], steps=3)
    assert float(last[0, 0].norm()) > 0
    assert float(last[0, 1:].abs().max()) == 0


def test_what_cannot_be_steered_is_refused() -> None:
    model, _ = linear()
    (text,) = texts(1, 8)
    push = torch.ones(4).double()
    with pytest.raises(ConfigError, match="read by the head alone"):
        steering_differences(model, text.token_ids, "final_norm_out", push, at=[1], steps=2)
    with pytest.raises(ConfigError, match="strength of 0"):
        steering_differences(model, text.token_ids, "embed", push, at=[1], steps=2, strength=0.0)
    with pytest.raises(DataError, match="needs 4 tokens"):
        steering_differences(model, text.token_ids, "embed", push, at=[5], steps=4)
    with pytest.raises(DataError, match=r"finite \(4,\)"):
        steering_differences(model, text.token_ids, "embed", push[:3], at=[1], steps=2)
    with pytest.raises(DataError, match="No text has 9 tokens"):
        steering_response(model, [text], push, site="embed", steps=9)
