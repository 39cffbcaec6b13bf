"""Jacobian-vector products of a language model against its Jacobian, written out by automatic differentiation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relax_rl.errors import ConfigError, DataError, ModelError
from relax_rl.koopman.spectra.lyapunov import exponents_of_products
from relax_rl.latent.jacobian import token_jacobians

transformers = pytest.importorskip("transformers")

IDS = [3, 9, 4, 4, 17, 2]


def small(kind: str, **words: Any) -> Any:
    shared = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shared |= {"num_attention_heads": 2, "num_key_value_heads": 2} | words
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, kind)(**shared))
    with torch.no_grad():
        # Freshly made models hardly read their tokens; these do.
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model.double()


def by_hand(model: Any, place: int, temperature: float, scale: float = 1.0, cap: float | None = None) -> Tensor:
    """J (H, H), column j for state j, from one forward over the whole text with the state in the place of h_t."""
    decoder, table = model.get_decoder(), model.get_input_embeddings()(torch.arange(32)).detach()
    state = decoder(input_ids=torch.tensor([IDS[: place + 1]])).last_hidden_state[0, -1].detach()

    def chances(given: Tensor) -> Tensor:
        logits = given @ model.get_output_embeddings().weight.T * scale
        logits = logits if cap is None else cap * torch.tanh(logits / cap)
        return torch.softmax(logits / temperature, -1)

    def following(given: Tensor) -> Tensor:
        token = table[IDS[place + 1]] + (chances(given) - chances(state)) @ table
        whole = torch.cat([table[torch.tensor(IDS[: place + 1])], token[None]])[None]
        return decoder(inputs_embeds=whole, use_cache=False).last_hidden_state[0, -1]

    found: Any = torch.autograd.functional.jacobian(following, state)
    return found


@pytest.mark.parametrize(
    ("kind", "words", "rule"),
    [
        ("LlamaConfig", {}, {}),
        ("MistralConfig", {"sliding_window": 3}, {}),
        ("GraniteConfig", {"logits_scaling": 4.0, "embedding_multiplier": 1.0}, {"scale": 0.25}),
        ("Gemma2Config", {"final_logit_softcapping": 5.0, "head_dim": 8, "sliding_window": 3}, {"cap": 5.0}),
    ],
)
def test_products_are_those_of_the_jacobian(kind: str, words: dict[str, Any], rule: dict[str, float]) -> None:
    model = small(kind, **words)
    frame = torch.randn((16, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for jacobian in token_jacobians(model, IDS, start=2, temperature=0.7):
        exact = by_hand(model, jacobian.position, 0.7, **rule)
        assert float(exact.norm()) > 1e-3
        # Rotations and norms of these models are single precision, whatever the dtype of the weights.
        torch.testing.assert_close(jacobian.push(frame), exact @ frame, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(jacobian.pull(frame), exact.T @ frame, rtol=1e-4, atol=1e-6)
        found.append(jacobian.position)
    assert found == [1, 2, 3, 4]
    assert torch.is_grad_enabled()


def test_a_mixture_of_experts_is_read_without_its_fused_kernels_and_left_as_it_was() -> None:
    model = small("MixtralConfig", num_local_experts=4, num_experts_per_tok=2).float()
    usual = model.get_experts_implementation()
    pushed = next(token_jacobians(model, IDS, start=2)).push(torch.eye(16).double())
    assert model.get_experts_implementation() == usual != {"": "eager"}
    model.set_experts_implementation("eager")
    torch.testing.assert_close(pushed, by_hand(model.double(), 1, 1.0), rtol=1e-3, atol=1e-5)


def test_exponents_of_a_text_are_those_of_its_jacobians_one_after_the_other() -> None:
    model = small("LlamaConfig")
    found = exponents_of_products((each.push for each in token_jacobians(model, IDS)), 16, count=3)
    exact = [by_hand(model, place, 1.0) for place in range(len(IDS) - 1)]
    expected = exponents_of_products((lambda frame, each=each: each @ frame for each in exact), 16, count=3)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_a_recurrent_model_is_read_again_from_its_start() -> None:
    torch.manual_seed(0)
    config = transformers.Mamba2Config(
        vocab_size=32,
        hidden_size=16,
        num_hidden_layers=2,
        state_size=8,
        head_dim=8,
        num_heads=4,
        n_groups=1,
        expand=2,
        chunk_size=4,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).double()
    jacobian = next(token_jacobians(model, IDS, start=3))
    torch.testing.assert_close(jacobian.push(torch.eye(16).double()), by_hand(model, 2, 1.0), rtol=1e-4, atol=1e-6)


def test_what_has_no_jacobian_is_refused() -> None:
    model = small("LlamaConfig")
    with pytest.raises(ConfigError, match="temperature above 0"):
        next(token_jacobians(model, IDS, temperature=0.0))
    for start in (0, 6):
        with pytest.raises(DataError, match="no token with a next one"):
            next(token_jacobians(model, IDS, start=start))

    class Own(type(model)):
        def forward(self, *args: Any, **words: Any) -> Any:
            output = super().forward(*args, **words)
            output.logits = -output.logits
            return output

    model.__class__ = Own
    with pytest.raises(ModelError, match="not its head applied to the final state"):
        next(token_jacobians(model, IDS))
    model.set_output_embeddings(None)
    with pytest.raises((ModelError, AttributeError)):
        next(token_jacobians(model, IDS))
    assert isinstance(model, nn.Module)
