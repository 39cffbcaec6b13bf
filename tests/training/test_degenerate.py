"""Policies and rewards that teach nothing: the run goes on without NaN, and says what is wrong and since when."""

import json
import math
from typing import Any

import pytest
import torch

from relax_rl.config import GuardConfig
from relax_rl.errors import DataError
from relax_rl.objectives import build_objective
from relax_rl.objectives.probe import DictionarySettings
from relax_rl.training.models import load_model
from relax_rl.training.watch import LearningWatch
from relax_rl.workflows.progress import Progress
from relax_rl.workflows.train import train
from support.scripted import ScriptedTrainer, make_trainer, parity_reward

SMALL = {"num_observables": 8, "steps": 3}


class Empty(ScriptedTrainer):
    """From the second update on, or from the first one, a policy that ends at once."""

    sound_updates = 0

    def completion(self, ids: list[int]) -> list[int]:
        return [self._tokenizer.eos_token_id]

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        scripted, nothing = super()._generate_single_turn(prompt_ids, *args, **kwargs)
        if self.state.global_step < self.sound_updates:
            return scripted, nothing
        return [self.completion(ids) for ids in scripted], nothing


class Truncated(Empty):
    def completion(self, ids: list[int]) -> list[int]:
        return ids[:15]


class Constant(Empty):
    def completion(self, ids: list[int]) -> list[int]:
        return [*range(5, 25), self._tokenizer.eos_token_id]


class Yes(Empty):
    def completion(self, ids: list[int]) -> list[int]:
        return [17, self._tokenizer.eos_token_id]


class SoundAtFirst(Empty):
    sound_updates = 1


class TruncatedLater(Truncated):
    sound_updates = 1


def trained(folder: Any, kind: type, method: str = "grpo", **settings: Any) -> tuple[Any, list[str]]:
    said: list[str] = []
    if method.startswith("relax"):
        objective = build_objective(method, xi="quantile:0.5", dictionary=SMALL | {"refit_interval": 2})
    else:
        objective = build_objective(method).monitored(DictionarySettings(8, steps=3))
    trainer = make_trainer(objective, folder, trainer_class=kind, **({"max_steps": 3} | settings))
    trainer.notices.listen(said.append)
    trainer.train()
    return trainer, said


def rows(trainer: Any) -> list[dict[str, Any]]:
    return [row for row in trainer.state.log_history if "grad_norm" in row]


def numbers(trainer: Any) -> list[float]:
    return [value for row in rows(trainer) for value in row.values() if value is not None]


TRUNCATED = "every completion is truncated at max_completion_length"


@pytest.mark.parametrize(
    ("method", "kind", "word"),
    [
        ("grpo", Empty, "every completion is empty"),
        ("grpo", Yes, "all completions of a rollout batch are identical"),
        ("grpo", Constant, "all completions of a rollout batch are identical"),
        ("grpo", Truncated, TRUNCATED),
        ("dapo", Truncated, TRUNCATED),
        ("dr_grpo", Truncated, TRUNCATED),
    ],
)
def test_the_monitor_never_ends_a_run(method, kind, word, tmp_path):
    trainer, said = trained(tmp_path, kind, method, mask_truncated_completions=True)
    assert trainer.state.global_step == 3
    assert all(math.isfinite(value) for value in numbers(trainer))
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    warned = [sentence for sentence in said if sentence.startswith("Since update 1 ")]
    assert len(warned) == 1
    assert word in warned[0]
    missing = [sentence for sentence in said if "cannot be measured since update 1" in sentence]
    assert len(missing) == (0 if kind is Constant else 1)
    if missing:
        assert all(row["latent/dsd"] is None for row in rows(trainer))


def test_the_monitor_begins_as_soon_as_it_can_and_a_checkpoint_without_it_is_resumed(tmp_path):
    class LateAnswers(Empty):
        def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
            self.sound_updates = 0 if self.state.global_step < 2 else 9
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    trainer, _ = trained(tmp_path, LateAnswers, max_steps=4, save_strategy="steps", save_steps=1)
    assert [row["latent/dsd"] is not None for row in rows(trainer)] == [False, False, True, True]
    objective = build_objective("grpo").monitored(DictionarySettings(8, steps=3))
    resumed = make_trainer(objective, tmp_path, trainer_class=LateAnswers, max_steps=4)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))
    ours, theirs = resumed.model.state_dict(), trainer.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("kind", [SoundAtFirst, TruncatedLater])
def test_relax_goes_on_where_later_rollouts_have_no_dispersion(kind, tmp_path):
    trainer, said = trained(tmp_path, kind, "relax", mask_truncated_completions=True, max_steps=4)
    assert all(math.isfinite(value) for value in numbers(trainer))
    assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
    assert [sentence for sentence in said if "could not be fitted again before update 3, so it stays" in sentence]


def test_relax_names_the_settings_that_leave_it_nothing(tmp_path):
    with pytest.raises(DataError) as refused:
        trained(tmp_path, Truncated, "relax", mask_truncated_completions=True)
    sentence = str(refused.value)
    assert "16 of 16 completions were truncated at max_completion_length = 32" in sentence
    assert "mask_truncated_completions" in sentence
    with pytest.raises(DataError, match="its 16 completions have at most 1 tokens"):
        trained(tmp_path, Empty, "relax")


@pytest.mark.parametrize("value", [0.0, 1.0, None, math.nan])
def test_rewards_that_say_nothing_are_told_of_once(value, tmp_path):
    def reward(completions: list[str], **_: Any) -> list[float | None]:
        # It is tried on two rows first, where saying nothing would be refused.
        return [float(len(completions) == 2) or value] * len(completions)

    never_stops = GuardConfig(max_unscored=1.0)
    trainer, said = trained(tmp_path, ScriptedTrainer, reward=reward, guard=never_stops)
    scored = value is not None and not math.isnan(value)
    word = "the rewards of each group are all equal" if scored else "no completion could be scored"
    # A function that gave no score at all is named, and that once, too.
    *named, told = said
    assert len(named) == (not scored)
    assert all("test_degenerate.py" in sentence for sentence in named)
    assert told.startswith("Since update 1 the gradient is 0, so nothing is learned, ")
    assert word in told
    assert all(math.isfinite(value) for value in numbers(trainer))


def test_since_when_is_said_after_so_many_updates_and_again_only_after_it_was_over():
    said: list[str] = []
    watch = LearningWatch(3, said.append)
    for step, norm in enumerate([1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], start=1):
        watch.update(step, 100, {"grad_norm": norm})
        assert len(said) == (step >= 4) + (step >= 9)
    assert "Since update 2 the gradient is 0" in said[0]
    assert "(up to update 4)" in said[0]
    assert "Since update 7 " in said[1]


def test_rows_without_a_figure_and_a_resume_leave_a_streak_as_it_is():
    said: list[str] = []
    watch = LearningWatch(4, said.append)
    history = [{"step": 1, "grad_norm": 1.0, "reward": None}, {"step": 2, "grad_norm": 0.5}]
    watch.begin(2, history)
    watch.update(3, 100, {"grad_norm": 0.5, "reward": None})
    assert not said
    watch.update(4, 100, {"grad_norm": 0.5})
    assert said == [
        "Since update 1 no completion could be scored (up to update 4); look at the completions and their rewards."
    ]
    again = LearningWatch(4, said.append)
    again.begin(4, [*history, {"step": 4, "grad_norm": 0.5, "reward": None}])
    again.update(5, 100, {"grad_norm": 0.5, "reward": None})
    assert len(said) == 1


def ends_at_once() -> tuple[Any, Any]:
    """The embedded policy, whose head knows the end token alone."""
    model, tokenizer = load_model("tiny")

    def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.full_like(output, -50.0).index_fill(-1, torch.tensor(tokenizer.eos_token_id), 50.0)

    model.get_output_embeddings().register_forward_hook(hook)
    return model, tokenizer


def test_evaluations_go_on_without_a_dictionary(tmp_path, monkeypatch):
    monkeypatch.setattr("relax_rl.training.measurement._NUM_PROMPTS", 2)
    model, tokenizer = ends_at_once()
    told: list[Progress] = []
    words = [
        "--trainer.per_device_train_batch_size=8",
        "--trainer.gradient_accumulation_steps=1",
        "--trainer.num_generations=8",
        "--trainer.max_steps=1",
        "--trainer.max_completion_length=32",
        "--evaluation.num_problems=2",
        "--evaluation.num_samples=2",
        "--objective=grpo",
        f"--output={tmp_path / 'run'}",
    ]
    result = train("countdown", overrides=words, model=model, tokenizer=tokenizer, on_progress=told.append)
    notices = [progress.message for progress in told if progress.stage == "notice"]
    assert [sentence for sentence in notices if sentence.startswith("The evaluations have no dispersion: ")]
    assert [sentence for sentence in notices if sentence.startswith("The dispersion, which grpo only logs")]
    assert [sentence for sentence in notices if "every completion is empty" in sentence]
    assert len(notices) == 3
    assert result.after is not None
    assert result.after.metrics["mean@1"].value == 0.0
    assert "dsd" not in result.after.metrics
    row = json.loads((tmp_path / "run/metrics.jsonl").read_text())
    assert row["latent/dsd"] is None


def test_the_number_of_updates_is_a_setting(tmp_path):
    heard: list[str] = []
    trainer = make_trainer(
        build_objective("grpo"),
        tmp_path,
        guard=GuardConfig(warn_after=2),
        reward=lambda completions, trainer_state, **_: (
            [0.0] * len(completions) if trainer_state.global_step in (1, 2) else parity_reward(completions)
        ),
        max_steps=5,
    )
    trainer.notices.listen(heard.append)
    trainer.train()
    assert len(heard) == 1
    assert "Since update 2 " in heard[0]
