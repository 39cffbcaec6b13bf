"""Dynamics over cycles and depth: looped models with a known contraction, real classes, and loops in Python."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from relax_rl.errors import DataError, ModelError
from relax_rl.latent.repeats import capture_cycles, capture_depth, capture_repeats
from relax_rl.spectra.axes import axis_spectrum

transformers = pytest.importorskip("transformers")


class Loop(nn.Module):
    """h' = h A + x: contracts to a fixed point of its own for every token."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.block = nn.Linear(len(matrix), len(matrix), bias=False).double()
        self.block.weight.data = matrix.T.clone()
        self.add = nn.Identity()

    def forward(self, embedded: torch.Tensor, cycles: int) -> torch.Tensor:
        state = torch.zeros_like(embedded)
        for _ in range(cycles):
            state = self.add(self.block(state) + embedded)
        return state


def contraction() -> torch.Tensor:
    """Eigenvalues 0.8 e^{+-0.4i}, 0.5 and -0.3 in a basis that is not orthogonal."""
    blocks = torch.zeros((4, 4), dtype=torch.float64)
    c, s = 0.8 * np.cos(0.4), 0.8 * np.sin(0.4)
    blocks[:2, :2] = torch.tensor([[c, s], [-s, c]])
    blocks[2, 2], blocks[3, 3] = 0.5, -0.3
    mixing = torch.randn((4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mixing += 2 * torch.eye(4)
    return torch.linalg.inv(mixing) @ blocks @ mixing


def test_the_spectrum_over_cycles_is_the_known_contraction() -> None:
    loop = Loop(contraction())
    embedded = torch.randn((2, 5, 4), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    states = capture_repeats(loop.add, lambda: loop(embedded, 9))
    assert states.shape == (9, 2, 5, 4)
    found = axis_spectrum("block", states.flatten(1, 2).transpose(0, 1))
    expected = sorted([0.8, 0.8, 0.5, 0.3], reverse=True)
    np.testing.assert_allclose(sorted((np.hypot(*v) for v in found.eigenvalues), reverse=True), expected, atol=1e-6)
    assert max(found.residuals) < 1e-6
    assert (found.num_tokens, found.num_steps, found.rank) == (10, 9, 4)
    assert len(found.fixed_point_residual) == 8
    assert len(found.contraction) == 7
    assert found.fixed_point_residual[-1] < found.fixed_point_residual[0]


def test_contraction_and_residual_by_step_against_a_scalar_loop() -> None:
    # h_c = 2 (1 - 0.5^c): changes 1, 1/2, 1/4, 1/8.
    found = axis_spectrum("block", torch.tensor([0.0, 1.0, 1.5, 1.75, 1.875]).double()[None, :, None])
    np.testing.assert_allclose(found.eigenvalues, [(0.5, 0.0)])
    assert found.contraction == pytest.approx([0.5, 0.5, 0.5])
    assert found.fixed_point_residual == pytest.approx([1.0, 1 / 3, 1 / 7, 1 / 15])


def test_tokens_by_the_step_at_which_they_settle() -> None:
    """Eight tokens contract by 0.1 and eight by 0.9: changes of 0.9 and 9 % fall below 1 % at the third and never."""
    rates = torch.tensor([0.1] * 8 + [0.9] * 8, dtype=torch.float64)
    goals = 1 + torch.arange(16, dtype=torch.float64) % 8
    states = goals[:, None] * (1 - rates[:, None] ** torch.arange(10, dtype=torch.float64))
    found = axis_spectrum("block", states[..., None])
    assert found.settled == pytest.approx([0.0, 0.0, *[0.5] * 7])
    assert [(step, count) for step, count, _ in found.halting] == [(3, 8), (10, 8)]
    assert [modulus for _, _, modulus in found.halting] == pytest.approx([0.1, 0.9], abs=1e-6)


def looped_model() -> tuple[Any, int, int]:
    config = transformers.HrmTextConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=8,
        num_layers_per_stack=1,
        H_cycles=3,
        L_cycles=4,
        max_position_embeddings=64,
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config), 3, 12


@pytest.mark.skipif(not hasattr(transformers, "HrmTextConfig"), reason="this transformers has no HRM text model")
def test_a_real_looped_class_gives_every_block_its_cycles() -> None:
    model, high, low = looped_model()
    inputs = {
        "input_ids": torch.randint(3, 32, (2, 7), generator=torch.Generator().manual_seed(2)),
        "attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3]),
    }
    found = capture_cycles(model, inputs)
    assert {name: tuple(states.shape) for name, states in found.items()} == {
        "L_module": (11, low, 16),
        "H_module": (11, high, 16),
    }
    last = model.get_decoder()(**inputs, use_cache=False).last_hidden_state
    torch.testing.assert_close(found["H_module"][:, -1], last[inputs["attention_mask"].bool()].detach())
    for name, states in found.items():
        spectrum = axis_spectrum(name, states)
        assert all(np.isfinite(value).all() for value in spectrum.eigenvalues)
    # The padded row is what it is alone.
    alone = capture_cycles(model, {"input_ids": inputs["input_ids"][1:, :4]})
    torch.testing.assert_close(found["H_module"][7:], alone["H_module"], atol=1e-5, rtol=1e-5)


def ordinary_model() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=32, num_hidden_layers=4, num_attention_heads=2
    )
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config)


def test_depth_is_the_layers_of_an_ordinary_model_and_cycles_are_refused() -> None:
    model = ordinary_model()
    inputs = {"input_ids": torch.tensor([[3, 4, 5], [6, 7, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]])}
    states = capture_depth(model, inputs)
    assert states.shape == (5, 5, 16)
    hidden = model(**inputs, output_hidden_states=True).hidden_states
    for layer in range(4):  # transformers' last one is after the norm
        torch.testing.assert_close(states[:, layer], hidden[layer][inputs["attention_mask"].bool()].detach())
    assert axis_spectrum("layers", states).num_steps == 5
    with pytest.raises(ModelError, match="runs once in a forward pass: it has no cycles"):
        capture_cycles(model, inputs)


def test_a_hidden_state_fed_back_as_an_embedding() -> None:
    """Coconut: the last state of the prompt is the next input, several times."""
    model = ordinary_model()
    embedded = model.get_input_embeddings()(torch.tensor([[3, 4, 5]]))

    def thoughts() -> None:
        inputs = embedded
        for _ in range(5):
            state = model.get_decoder()(inputs_embeds=inputs).last_hidden_state[:, -1:]
            inputs = torch.cat([inputs, state], 1)

    last_norm = model.get_decoder().norm
    with pytest.raises(ModelError, match="different shapes"):
        capture_repeats(last_norm, thoughts)

    class Last(nn.Module):
        def forward(self, state: torch.Tensor) -> torch.Tensor:
            return state

    mark = Last()

    def marked() -> None:
        inputs = embedded
        for _ in range(5):
            state = mark(model.get_decoder()(inputs_embeds=inputs).last_hidden_state[:, -1:])
            inputs = torch.cat([inputs, state], 1)

    states = capture_repeats(mark, marked)
    assert states.shape == (5, 1, 1, 16)
    assert axis_spectrum("thoughts", states[:, 0].transpose(0, 1)).num_steps == 5


def test_what_has_no_dynamics_is_refused() -> None:
    with pytest.raises(ModelError, match="was not called"):
        capture_repeats(nn.Identity(), lambda: None)
    with pytest.raises(DataError, match="at least 3 steps"):
        axis_spectrum("block", torch.ones((4, 2, 3)))
    with pytest.raises(DataError, match="never change"):
        axis_spectrum("block", torch.ones((4, 5, 3)))
    with pytest.raises(DataError, match="NaN or Inf"):
        axis_spectrum("block", torch.full((4, 5, 3), torch.nan))
