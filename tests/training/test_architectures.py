"""Architectures in training: each kind of cache, TRL's head, and what is refused before weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from relax_rl.errors import ConfigError, ModelError
from relax_rl.objectives import build_objective
from relax_rl.training.trl.architectures import check_architecture, of_one_length
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer
from support.architectures import build, config_of
from support.scripted import make_trainer

SETTINGS: dict[str, Any] = {"max_completion_length": 8, "gradient_accumulation_steps": 1}


@pytest.mark.parametrize("name", ["Granite-4 hybrid", "RecurrentGemma"])
def test_rollouts_and_updates_of_a_model_with_a_state(name: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(build(name, tmp_path / "model"))
    trainer = make_trainer(
        build_objective("grpo", beta=0.04), tmp_path / "run", model=model, trainer_class=RelaxTrainer, **SETTINGS
    )
    trainer.train()
    first, second, _ = trainer.state.log_history
    # The reference model is the policy itself, and the experts' load is nothing that is trained.
    assert first["kl"] == 0.0
    assert second["kl"] > 0.0
    assert 0.0 < first["grad_norm"] < 100.0
    assert "aux_loss" not in first


@pytest.mark.parametrize("name", ["RecurrentGemma", "GPT-2", "Cohere-2", "Granite"])
def test_log_probs_of_training_are_those_of_the_model_alone(name: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(build(name, tmp_path / "model"))
    trainer = make_trainer(build_objective("grpo", beta=0.0), tmp_path / "run", model=model)
    prompt, completion = [5, 6, 7], [60, 61, 62, 63]
    ids = torch.tensor([[0, 0, 0, 0, *prompt, *completion]])
    mask = torch.tensor([[0] * 4 + [1] * 7])
    with torch.no_grad():
        found = trainer._get_per_token_logps_and_entropies(model, ids, mask, 4)[0]
        logits = model(input_ids=torch.tensor([prompt + completion]), use_cache=False).logits[0, 2:-1].float()
    expected = logits.log_softmax(-1)[range(4), completion]
    torch.testing.assert_close(found[0], expected, rtol=0, atol=2e-6)


def test_prompts_of_several_lengths_are_never_padded_where_padding_enters_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = AutoModelForCausalLM.from_pretrained(build("RecurrentGemma", tmp_path / "model"))
    trainer = make_trainer(
        build_objective("grpo", beta=0.0), tmp_path / "run", model=model, trainer_class=RelaxTrainer, **SETTINGS
    )
    seen: list[torch.Tensor] = []
    sample = model.generate

    def generate(**inputs: Any) -> Any:
        seen.append(inputs["attention_mask"])
        return sample(**inputs)

    monkeypatch.setattr(model, "generate", generate)
    prompts = [[5, 6, 7], [8, 9], [10, 11, 12], [13]]
    completions, _ = trainer._generate_single_turn(prompts, None, {}, 4)
    assert [tuple(mask.shape) for mask in seen] == [(1, 1), (1, 2), (2, 3)]
    assert all(bool(mask.all()) for mask in seen)
    assert all(1 <= len(completion) <= 8 for completion in completions)
    # In the order of the prompts: the one alone of its length is greedy here, and so the same again.
    trainer.generation_config.do_sample = False
    again, _ = trainer._generate_single_turn(prompts, None, {}, 4)
    alone, _ = trainer._generate_single_turn([prompts[1]], None, {}, 4)
    assert again[1] == alone[0]


@pytest.mark.parametrize(
    ("name", "settings", "error", "words"),
    [
        ("RWKV", {}, ModelError, "type 'rwkv' are read, but do not write"),
        ("Llama-4 text", {}, ModelError, "does not name its backbone"),
        ("Falcon with alibi", {"cache_implementation": "static"}, ConfigError, "cache_implementation dynamic"),
        ("GPT-Neo", {"cache_implementation": "static"}, ConfigError, "cache_implementation dynamic"),
        ("RecurrentGemma", {"pad_to_multiple_of": 8}, ConfigError, "take padding into their state"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_its_configuration_alone(
    name: str, settings: dict[str, Any], error: type[Exception], words: str, tmp_path: Path
) -> None:
    args = RelaxConfig(str(tmp_path), bf16=False, use_cpu=True, **settings)
    with pytest.raises(error, match=words):
        check_architecture(config_of(name), args)


def test_prompts_of_one_length_are_completed_together_and_come_back_in_their_order() -> None:
    asked: list[Any] = []

    def complete(prompts: list[Any]) -> list[list[int]]:
        asked.append(prompts)
        return [[sum(prompt)] for prompt in prompts]

    assert of_one_length([[5, 5], [1], [2, 2], [7]], complete) == [[10], [1], [4], [7]]
    assert asked == [[[1], [7]], [[5, 5], [2, 2]]]
