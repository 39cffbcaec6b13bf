"""Methods of a trainer that has not trained: rewards of a rollout batch, places in the data, refused resumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import LoraConfig
from transformers import TrainerControl
from trl import GRPOTrainer

from relax_rl.config import GuardConfig
from relax_rl.errors import NumericalError, RunError
from relax_rl.objectives import build_objective
from relax_rl.objectives.updates import UpdateReport
from relax_rl.runs.checkpoints import Checkpoint
from relax_rl.runs.manifest import MANIFEST_FILE, Manifest, begin, installed_versions
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.guard import LARGEST_REWARD
from relax_rl.training.models import complete_tokenizer, load_model, load_tokenizer
from relax_rl.training.notices import Notices
from relax_rl.training.trl import resuming
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.guarded import GuardedTrainer
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.resuming import ResumableTrainer
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import ScriptedTrainer, make_trainer, tiny_llama


class Rows:
    """Two reward functions with weights, and what they were told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    def first(self, completions: list[Any], **named: Any) -> list[float | None]:
        self.told.append(named)
        return [1.0, 2.0, None, None, 0.5, LARGEST_REWARD][: len(completions)]

    def second(self, completions: list[Any], **named: Any) -> list[float | None]:
        return [4.0, None, -3.0, None, 0.0, -4.0][: len(completions)]


@pytest.fixture(scope="module")
def rows() -> Rows:
    return Rows()


@pytest.fixture(scope="module")
def trainer(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """With rollout batches of 4 micro-batches, each used twice, and 2 of them an update."""
    tokenizer = load_tokenizer("tiny")
    args = RelaxConfig(
        output_dir=str(tmp_path_factory.mktemp("run")),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        num_iterations=2,
        num_generations=4,
        max_completion_length=32,
        max_steps=20,
        reward_weights=[2.0, 0.5],
        seed=11,
        use_cpu=True,
        bf16=False,
        report_to="none",
        save_strategy="no",
        activation_checkpointing=False,
    )
    trainer = ScriptedTrainer(
        objective=build_objective("grpo"),
        model=tiny_llama(),
        args=args,
        processing_class=tokenizer,
        reward_funcs=[rows.first, rows.second],
        train_dataset=prompt_dataset(CountdownTask().problems("train", 32), tokenizer),
        guard=GuardConfig(max_unscored=1.0),
    )
    trainer.notices.listen(lambda _: None)
    return trainer


@pytest.fixture(autouse=True)
def _is_training(trainer: Any) -> None:
    """The trainer is made once for all, and each test may run first."""
    trainer.model.train()
    trainer._metrics["train"].clear()


# Rewards ----------------------------------------------------------------------------------------------------------


def test_rewards_are_weighted_sums_of_the_scores_there_are(trainer: Any, rows: Rows) -> None:
    trainer.model.train()
    end, pad = trainer._tokenizer.eos_token_id, trainer._tokenizer.pad_token_id
    ids = [[5, end], [5, 6], [], [5, pad], [end, 5], [5, 6, end]]
    inputs = [{"prompt": str(place), "answer": "1 2>3"} for place in range(6)]
    rows.told.clear()
    trainer._metrics["train"].clear()
    scores = trainer._calculate_rewards(inputs, [row["prompt"] for row in inputs], ["text"] * 6, ids)
    assert rows.told[0]["truncated"] == [False, True, True, False, True, False]
    assert trainer._local_lengths.tolist() == [2, 2, 0, 2, 2, 3]
    assert scores[:, 0].isnan().tolist() == [False, False, True, True, False, False]
    expected = [2 * 1.0 + 0.5 * 4.0, 2 * 2.0, 0.5 * -3.0, math.nan, 1.0, 2 * LARGEST_REWARD - 2.0]
    torch.testing.assert_close(trainer._local_rewards, torch.tensor(expected), equal_nan=True)
    assert trainer._metrics["train"]["grading/unscored"] == [pytest.approx(1 / 6)]
    # In an evaluation of TRL's nothing is counted for the run.
    trainer.model.eval()
    trainer._metrics["train"].clear()
    trainer._calculate_rewards(inputs, [row["prompt"] for row in inputs], ["text"] * 6, ids)
    trainer.model.train()
    assert trainer._metrics["train"].get("grading/unscored") is None


def test_rewards_beyond_the_largest_are_no_scores(trainer: Any) -> None:
    said: list[str] = []
    fine = torch.tensor([[1.0, -LARGEST_REWARD], [LARGEST_REWARD, math.nan]])
    assert trainer._finite_rewards(fine) is fine
    beyond = torch.tensor([[1.0, math.inf], [-2 * LARGEST_REWARD, 0.0], [0.5, -math.inf]])
    trainer._metrics["train"].clear()
    trainer.notices, kept = Notices(), trainer.notices
    trainer.notices.listen(said.append)
    found = trainer._finite_rewards(beyond)
    trainer.notices = kept
    assert found.isnan().tolist() == [[False, True], [True, False], [False, True]]
    assert trainer._metrics["train"]["guard/infinite_rewards"] == [3.0]
    assert [sentence.partition(" since")[0] for sentence in said] == [
        "The reward 'first' is infinite or beyond 1e+18",
        "The reward 'second' is infinite or beyond 1e+18",
    ]
    assert "since update 1 (the first time for completion 2 of the rollout batch)" in said[0]
    trainer.model.eval()
    trainer._metrics["train"].clear()
    trainer._finite_rewards(beyond)
    trainer.model.train()
    assert "guard/infinite_rewards" not in trainer._metrics["train"]


def test_a_distribution_that_cannot_be_sampled_is_said_to_be_the_logits_where_no_layer_is(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = "probability tensor contains either `inf`, `nan` or element < 0"

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(words)

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", fail)
    with pytest.raises(NumericalError) as stopped:
        RelaxTrainer._generate_single_turn(trainer, [[5, 6]])
    assert "in the rollouts of update 1: its logits are not finite" in str(stopped.value)
    assert str(stopped.value).endswith("no checkpoint was saved before.")
    words = "out of memory"
    with pytest.raises(RuntimeError, match="out of memory"):
        RelaxTrainer._generate_single_turn(trainer, [[5, 6]])


def test_what_one_rank_found_holds_for_all() -> None:
    def found(is_so: bool, others: float, num_processes: int) -> bool:
        accelerator = SimpleNamespace(
            num_processes=num_processes,
            device="cpu",
            reduce=lambda tensor, reduction="mean": tensor + others if reduction == "sum" else tensor,
        )
        return GuardedTrainer._on_any_rank(SimpleNamespace(accelerator=accelerator), is_so)  # pyright: ignore[reportArgumentType]

    assert [found(*case) for case in ((True, 0.0, 1), (False, 1.0, 1))] == [True, False]
    assert [found(*case) for case in ((True, 0.0, 2), (False, 1.0, 2), (False, 0.0, 2))] == [True, True, False]


def test_an_adapter_that_was_asked_for_is_what_learns(tmp_path: Path) -> None:
    trainer = RelaxTrainer(
        tiny_llama(),
        lambda completions, **_: [0.0] * len(completions),
        RelaxConfig(
            output_dir=str(tmp_path), per_device_train_batch_size=4, num_generations=4, use_cpu=True, bf16=False
        ),
        prompt_dataset(CountdownTask().problems("train", 4), load_tokenizer("tiny")),
        processing_class=load_tokenizer("tiny"),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
        objective="grpo",
    )
    learning = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)


def test_a_report_is_of_the_update_to_come_and_an_evaluation_has_groups_of_its_own(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def report(accelerator: Any, step: int, num_steps: int) -> UpdateReport:
        seen.append(step)
        return UpdateReport(step=step, num_steps=num_steps, entropy=math.nan, covariance=math.nan)

    monkeypatch.setattr(trainer, "_update", SimpleNamespace(report=report))
    monkeypatch.setattr(trainer.state, "global_step", 6)
    trainer._end_of_update()
    assert seen == [7]
    monkeypatch.setattr(trainer, "num_generations_eval", 2)
    monkeypatch.setattr(trainer, "current_gradient_accumulation_steps", 2, raising=False)
    columns: dict[str, Any] = {"completion_mask": torch.ones(4, 3, dtype=torch.long), "rewards": torch.zeros(4)}
    forward: Any = SimpleNamespace(log_probs=torch.zeros(4, 3), entropy=torch.zeros(4, 3), hidden_states=None)
    for is_training, shape in ((True, (1, 4, 3)), (False, (2, 2, 3))):
        trainer.model.train(is_training)
        batch = trainer.rollout_batch(columns, forward)
        assert batch.mask.shape == shape
        # In training of the whole update, which has two such micro-batches.
        assert batch.totals.num_completions == (8 if is_training else 4)
    trainer.model.train()


def test_what_a_method_remembers_comes_back_after_the_last_use_of_a_rollout_batch(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    came: list[torch.Tensor] = []

    class Method:
        def on(self, device: Any) -> Method:
            return self

        def after_rollout(self, rows: torch.Tensor) -> Method:
            came.append(rows)
            return self

    report = UpdateReport(step=1, num_steps=2, entropy=math.nan, covariance=math.nan)
    monkeypatch.setattr(trainer, "objective", Method())
    monkeypatch.setattr(trainer, "_step", 0)
    left = []
    for step in (3, 6, 7, 8):
        monkeypatch.setattr(trainer, "_update", SimpleNamespace(report=lambda *_: report))
        trainer._to_remember.extend([torch.ones(2, 3), torch.zeros(1, 3)])
        trainer._step = step
        trainer._end_of_update()
        left.append(len(trainer._to_remember))
        trainer._to_remember.clear()
    assert left == [2, 2, 0, 2]
    assert [rows.tolist() for rows in came] == [[[1.0] * 3, [1.0] * 3, [0.0] * 3]]


# Resuming ---------------------------------------------------------------------------------------------------------


def test_a_rollout_batch_is_in_use_until_each_of_its_micro_batches_was_used_as_often_as_asked(trainer: Any) -> None:
    kept = trainer._step
    inside = []
    for trainer._step in range(18):
        inside.append(trainer._is_inside_rollout)
    trainer._step = kept
    assert inside == [step % 8 != 0 for step in range(18)]


def test_what_a_resume_must_find_again(trainer: Any) -> None:
    facts = [trainer.training_facts(step) for step in range(6)]
    assert [fact["updates_into_rollout"] for fact in facts] == [0, 1, 2, 3, 0, 1]
    assert {fact["completions_per_update"] for fact in facts} == {8}
    assert facts[0]["has_optimizer"] is True
    assert facts[0]["num_processes"] == 1
    assert facts[0]["device"] == "cpu"
    # 4 prompts a rollout batch of 4 updates: 8 rollout batches and 32 updates a pass.
    assert [trainer.training_facts(step)["prompts"]["pass_index"] for step in (31, 32, 64)] == [0, 1, 2]
    assert facts[0]["prompts"]["seed"] == 11
    assert facts[0]["data"] == trainer.training_facts(9)["data"] is not None
    trainer.args.save_only_model = True
    assert trainer.training_facts(0)["has_optimizer"] is False
    trainer.args.save_only_model = False


@pytest.mark.parametrize("shuffles", [True, False])
def test_the_first_pass_is_trls(trainer: Any, shuffles: bool) -> None:
    trainer.shuffle_dataset, kept = shuffles, trainer.shuffle_dataset
    ours, theirs = trainer._get_train_sampler(), GRPOTrainer._get_train_sampler(trainer)
    assert theirs is not None
    assert list(ours) == list(theirs)
    assert len(ours) == len(list(ours)) == 32 * 4 * 8
    part = trainer._get_train_sampler(trainer.train_dataset.select(range(8)))
    assert sorted(set(part)) == list(range(8))
    trainer.shuffle_dataset = kept


def manifest_of(trainer: Any, step: int = 4, **changes: Any) -> Manifest:
    return Manifest(step, installed_versions(), trainer.training_facts(step) | changes)


def test_a_run_that_would_not_be_the_same_is_not_resumed(trainer: Any) -> None:
    assert trainer.check_manifest(manifest_of(trainer)) == []
    cases: list[tuple[dict[str, Any], str]] = [
        ({"data": "other"}, "the training data is not that of checkpoint-4"),
        ({"completions_per_update": 16}, r"an update had 16 completions .* and now has 8 \(1 processes\)"),
        ({"prompts": {"seed": 1}}, "the prompts come in another order"),
        ({"strategy": "FSDP2"}, "checkpoint-4 was written under FSDP2, and this is one process, which cannot read"),
    ]
    for changes, words in cases:
        with pytest.raises(RunError, match=words):
            trainer.check_manifest(manifest_of(trainer, **changes))
    (said,) = trainer.check_manifest(manifest_of(trainer, num_processes=2, strategy="DDP"))
    assert said.startswith("resumed with 1 processes instead of 2: an update has 8 completions")
    with pytest.raises(RunError, match=r"checkpoint-5 lies inside a rollout batch.*with 2 processes"):
        trainer.check_manifest(manifest_of(trainer, 5, num_processes=2))


def test_the_optimiser_of_deepspeed_is_in_as_many_parts_as_there_were_processes(
    trainer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "strategy_of", lambda _: "DeepSpeed ZeRO-2")
    manifest = manifest_of(trainer)
    assert trainer.check_manifest(manifest) == []
    with pytest.raises(RunError, match=r"optimiser in 2 parts, and this run has 1 processes; resume it with 2"):
        trainer.check_manifest(manifest_of(trainer, num_processes=2))
    # Earlier versions noted no strategy.
    without = {name: fact for name, fact in manifest.training.items() if name != "strategy"}
    assert trainer.check_manifest(replace(manifest, training=without)) == []


def test_a_checkpoint_that_was_checked_is_not_read_again(trainer: Any, tmp_path: Path) -> None:
    trainer.checked_checkpoint = tmp_path / "checkpoint-3"
    assert trainer._checkpoint_to_resume(str(tmp_path / "checkpoint-3")) == (tmp_path / "checkpoint-3", [])
    with pytest.raises(RunError):
        trainer._checkpoint_to_resume(str(tmp_path / "checkpoint-2"))
    with pytest.raises(RunError):
        trainer._checkpoint_to_resume(True)
    trainer.checked_checkpoint = None
    with pytest.raises(RunError):
        trainer._checkpoint_to_resume(str(tmp_path / "checkpoint-3"))
    begin(tmp_path / "checkpoint-3")
    with pytest.raises(RunError, match=r"checkpoint-3: it was never finished; give an older checkpoint"):
        trainer._checkpoint_to_resume(str(tmp_path / "checkpoint-3"))


@pytest.mark.parametrize("strategy", ["steps", "no"])
def test_an_update_asks_for_a_checkpoint_only_where_it_ends_the_run(
    trainer: Any, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[bool, bool]] = []
    monkeypatch.setattr(
        ResumableTrainer,
        "_maybe_log_save_evaluate",
        lambda self: asked.append((self.control.should_log, self.control.should_save)),
    )
    monkeypatch.setattr(trainer, "control", TrainerControl())
    monkeypatch.setattr(trainer, "_last_judged", None)
    monkeypatch.setattr(trainer.args, "save_strategy", strategy)
    monkeypatch.setattr(trainer.args, "save_total_limit", 2)
    trainer._maybe_log_save_evaluate()
    assert (asked, trainer.args.save_total_limit) == ([(False, False)], 2)
    # Judged once an update.
    monkeypatch.setattr(trainer._guard, "reason_to_stop", lambda update: "too much is lost")
    trainer._maybe_log_save_evaluate()
    assert asked == [(False, False)] * 2
    trainer._last_judged = None
    with pytest.raises(NumericalError, match="stops after update 0: too much is lost; no checkpoint was saved before"):
        trainer._maybe_log_save_evaluate()
    assert asked[2:] == [(True, strategy == "steps")]
    assert trainer.args.save_total_limit is None


def test_versions_that_differ_are_said_and_a_model_alone_is_refused(tmp_path: Path) -> None:
    trainer = make_trainer(build_objective("grpo"), tmp_path, max_steps=1, save_strategy="steps", save_steps=1)
    trainer.train()
    checkpoint = tmp_path / "checkpoint-1"
    assert trainer._checkpoint_to_resume(checkpoint) == (checkpoint, [])
    assert trainer._checkpoint_to_resume(True) == (checkpoint, [])
    assert not list(checkpoint.glob("guard.json"))
    path = checkpoint / MANIFEST_FILE
    as_written = json.loads(path.read_text())

    def rewrite(part: str, **changes: Any) -> None:
        path.write_text(json.dumps(as_written | {part: as_written[part] | changes}))

    rewrite("versions", torch="0.1")
    (said,) = trainer._checkpoint_to_resume(checkpoint)[1]
    assert said.startswith(f"{checkpoint} was written by other versions: ")
    rewrite("training", has_optimizer=False)
    with pytest.raises(RunError, match="it holds the model alone"):
        trainer._checkpoint_to_resume(checkpoint)
    # Kept at the end of the last update: nothing of it need be written again.
    rewrite("training")
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert trainer.save_last_update() == checkpoint
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before
    # A folder of that name that is not whole is written anew.
    (checkpoint / "model.safetensors").write_bytes(b"")
    assert trainer.save_last_update() == checkpoint
    assert Checkpoint.inspect(checkpoint, digests=True).state == "whole"
    as_written = json.loads(path.read_text())
    trainer.note_step()
    assert trainer.save_last_update() is None
    rewrite("versions", torch="0.1")
    heard: list[str] = []
    trainer.notices.listen(heard.append)
    trainer.train(resume_from_checkpoint=str(checkpoint))
    assert heard == [said]


def test_a_run_that_is_resumed_inside_a_rollout_batch_goes_on_with_it(tmp_path: Path) -> None:
    def trained(folder: Path, checkpoint: Path | None = None) -> Any:
        saving = {"save_strategy": "steps", "save_steps": 1, "num_iterations": 2, "logging_steps": 2}
        trainer = make_trainer(build_objective("grpo"), folder, max_steps=2, **saving)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        return trainer

    whole = trained(tmp_path / "whole")
    resumed = trained(tmp_path / "resumed", tmp_path / "whole" / "checkpoint-1")
    assert all(torch.equal(*pair) for pair in zip(resumed.model.parameters(), whole.model.parameters(), strict=True))
    # One row for both updates: what the first of them measured is in the checkpoint, too.
    rows = [[row for row in trainer.state.log_history if "grad_norm" in row] for trainer in (whole, resumed)]
    for row in (*rows[0], *rows[1]):
        for key in [key for key in row if key.startswith(("step_time", "time/"))]:
            del row[key]
    assert rows[0] == rows[1]


# Tokenizers -------------------------------------------------------------------------------------------------------


def test_a_tokenizer_is_completed_with_the_end_that_the_model_names() -> None:
    model, tokenizer = load_model("tiny")
    words, end = tokenizer.get_vocab(), str(tokenizer.eos_token)
    tokenizer.eos_token = tokenizer.pad_token = None
    model.generation_config.eos_token_id = [words[end], words[end] + 1]
    complete_tokenizer(model, tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token) == (end, end)
    tokenizer.pad_token = "a"
    complete_tokenizer(model, tokenizer)
    assert (tokenizer.eos_token, tokenizer.pad_token) == (end, "a")
    tokenizer.eos_token = tokenizer.pad_token = None
    model.generation_config.eos_token_id = model.config.eos_token_id = None
    complete_tokenizer(model, tokenizer)
    assert tokenizer.eos_token is None
    assert load_tokenizer("tiny").padding_side == "left"
