"""What is read of the whole vocabulary: entropy flow and features, and how far log-probabilities may be off."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from relax_rl.errors import ModelError
from relax_rl.objectives.inputs import ENTROPY_FLOW, SCORE_FEATURES
from relax_rl.training.inputs import vocabulary
from relax_rl.training.inputs.provider import MicroBatch
from relax_rl.training.inputs.vocabulary import EntropyFlow, ScoreFeatures, entropy_flow, vocabulary_statistics


@dataclass
class HeadOnly:
    """A model that is nothing but its head."""

    head: Any

    def get_output_embeddings(self) -> Any:
        return self.head


def statistics(head: nn.Module, mask: list[list[bool]], **more: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Of random states and tokens, with the logits that they come from."""
    torch.manual_seed(1)
    states, tokens = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [3, 4, 0]])
    logits = head(states).detach() / 0.5
    log_probs = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    keep = torch.tensor(mask)
    # Outside the mask nothing is compared.
    found = vocabulary_statistics(HeadOnly(head), states, tokens, keep, log_probs.where(keep, -99.0), 0.5, **more)
    expected = entropy_flow(logits, tokens).where(keep, 0.0)
    return found, expected


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_the_statistics_are_those_of_the_heads_logits_bias_included(
    bias: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vocabulary, "_TOKENS_AT_ONCE", at_once)
    torch.manual_seed(0)
    head = nn.Linear(4, 5, bias=bias)
    found, expected = statistics(head, [[True, True, False], [True, False, True]])
    torch.testing.assert_close(found["entropy_flow"], expected)
    weight = head.weight.detach()
    torch.manual_seed(1)
    states = torch.randn(2, 3, 4)
    one = [
        weight[token] - (head(states[1, place]).detach() / 0.5).softmax(-1) @ weight
        for place, token in ((0, 3), (2, 0))
    ]
    torch.testing.assert_close(found["score_features"][1], sum(one) / 2)


def test_a_completion_without_tokens_has_features_of_zero() -> None:
    torch.manual_seed(0)
    found, _ = statistics(nn.Linear(4, 5), [[False] * 3, [True] * 3])
    assert found["score_features"][0].tolist() == [0.0] * 4
    assert found["entropy_flow"][0].tolist() == [0.0] * 3


def test_an_entropy_flow_where_a_token_is_impossible() -> None:
    logits = torch.tensor([0.3, -0.2, -math.inf], dtype=torch.float64)
    found = entropy_flow(logits.expand(2, 3), torch.tensor([0, 1]))
    torch.testing.assert_close(found, entropy_flow(logits[:2].expand(2, 2), torch.tensor([0, 1])))
    assert entropy_flow(logits, torch.tensor(2)).isfinite()


@pytest.mark.parametrize(
    ("off", "dtype", "half", "is_refused"),
    [
        (0.0005, torch.float32, False, False),
        (0.002, torch.float32, False, True),
        (0.1, torch.float32, True, False),
        (0.1, torch.bfloat16, False, False),
        (0.3, torch.float32, True, True),
        (math.nan, torch.float32, False, False),
    ],
)
def test_how_far_the_log_probabilities_may_be_off(off: float, dtype: Any, half: bool, is_refused: bool) -> None:
    head = nn.Linear(2, 2, bias=False)
    nn.init.zeros_(head.weight)
    states, tokens = torch.zeros(1, 3, 2, dtype=dtype), torch.zeros(1, 3, dtype=torch.long)
    for sign in (1, -1):
        log_probs = torch.full((1, 3), math.log(0.5) + sign * off)
        arguments = (HeadOnly(head), states, tokens, tokens == 0, log_probs, 1.0)
        if is_refused:
            with pytest.raises(ModelError, match="a cap or a scale"):
                vocabulary_statistics(*arguments, is_half_precision=half)
        else:
            vocabulary_statistics(*arguments, is_half_precision=half)


@pytest.mark.parametrize(("precision", "is_refused"), [("bf16", False), ("fp16", False), ("", True)])
def test_in_half_precision_the_log_probabilities_may_be_further_off(precision: str, is_refused: bool) -> None:
    """Of a micro-batch with two tokens of the prompt, which the forward has and the statistics leave out."""
    torch.manual_seed(0)
    head, states, tokens = nn.Linear(4, 5, bias=False), torch.randn(2, 5, 4), torch.tensor([[0, 1, 2], [3, 4, 0]])
    predicting = states[:, 1:4]
    log_probs = (head(predicting) / 0.5).log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1).detach()
    forward: Any = SimpleNamespace(
        hidden_states=states, log_probs=torch.cat([torch.full((2, 2), -99.0), log_probs + 0.1], 1)
    )
    args = SimpleNamespace(bf16=precision == "bf16", fp16=precision == "fp16")
    trainer: Any = SimpleNamespace(args=args, policy=HeadOnly(head), temperature=0.5)
    micro = MicroBatch({"completion_ids": tokens}, forward, torch.ones(2, 3, dtype=torch.bool), 2)
    provider = EntropyFlow(ENTROPY_FLOW, trainer)
    if is_refused:
        with pytest.raises(ModelError, match="a cap or a scale"):
            provider.tensor(micro)
        forward.log_probs = forward.log_probs - 0.1
    expected = entropy_flow((head(predicting) / 0.5).detach(), tokens)
    torch.testing.assert_close(provider.tensor(micro), expected)
    features = ScoreFeatures(SCORE_FEATURES, trainer).tensor(micro)
    assert features.shape == (2, 4)
    forward.log_probs = None
    with pytest.raises(ModelError, match="gave no log-probabilities"):
        provider.tensor(micro)
