"""What hears of a trainer's events, without a trainer: the log, progress, recordings, inputs, ends."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import TrainerControl, TrainerState

from relax_rl.errors import ConfigError, DataError, ModelError, RunError
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import ENTROPY, HIDDEN_STATES, OLD_ENTROPY, REF_LOG_PROBS
from relax_rl.stopping import Reason, StopRequest
from relax_rl.training.inputs.provider import MicroBatch
from relax_rl.training.inputs.providers import PROVIDERS, check_provided, provider_of
from relax_rl.training.trl.callbacks import LearningNotices, MetricsFile, ProgressReport
from relax_rl.training.trl.emergency import disk_fault, keep_last_update
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.rehearsal import rehearse_optimisation
from relax_rl.training.trl.stopping import StopWhenAsked

ARGS: Any = SimpleNamespace(world_size=1, device="cpu")


def state_of(step: int = 3, *, is_first: bool = True) -> TrainerState:
    return TrainerState(global_step=step, max_steps=9, is_world_process_zero=is_first)


# The log ----------------------------------------------------------------------------------------------------------


def test_figures_are_kept_and_told_once_by_the_first_process() -> None:
    kept: list[Any] = []
    told: list[Any] = []
    run: Any = SimpleNamespace(append_metrics=lambda step, logs: kept.append((step, logs)))
    callbacks = (MetricsFile(run), ProgressReport(lambda *given: told.append(given)))
    for callback in callbacks:
        for is_first in (False, True):
            state = state_of(is_first=is_first)
            callback.on_train_begin(ARGS, state, TrainerControl())
            for logs in (None, {}, {"loss": 1.0}, {"train_runtime": 5.0, "loss": 1.0}):
                callback.on_log(ARGS, state, TrainerControl(), logs=logs)
    assert kept == [(3, {"loss": 1.0})]
    assert told == [(3, 9, {}), (3, 9, {"loss": 1.0})]


def test_the_watch_follows_the_rows_of_updates_alone() -> None:
    seen: list[Any] = []
    watch: Any = SimpleNamespace(begin=lambda *given: seen.append(given), update=lambda *given: seen.append(given))
    notices, state = LearningNotices(watch), state_of()
    state.log_history = [{"step": 1}]
    notices.on_train_begin(ARGS, state, TrainerControl())
    for logs in (None, {"eval_loss": 1.0}, {"grad_norm": 0.0}):
        notices.on_log(ARGS, state, TrainerControl(), logs=logs)
    assert seen == [(3, [{"step": 1}]), (3, 9, {"grad_norm": 0.0})]


def test_a_stop_that_was_asked_for_is_obeyed_after_an_update_and_after_a_checkpoint() -> None:
    request = StopRequest()
    callback = StopWhenAsked(request)
    for asks in (False, True):
        if asks:
            request.ask(Reason("Ctrl-C", 130))
        after_update, after_save = TrainerControl(), TrainerControl()
        callback.on_step_end(ARGS, TrainerState(), after_update)
        callback.on_save(ARGS, TrainerState(), after_save)
        assert (after_update.should_save, after_update.should_training_stop) == (asks, asks)
        assert (after_save.should_save, after_save.should_training_stop) == (False, asks)


# Recordings -------------------------------------------------------------------------------------------------------


def test_a_recording_joins_what_was_scored_and_what_was_learned() -> None:
    written: list[Any] = []
    run: Any = SimpleNamespace(write_completions=lambda step, rows: written.append((step, rows)))
    recorder = RolloutRecorder(run)
    recorder.finish(1)
    given = [{"prompt": "p", "problem_id": "a", "answer": "5", "images": ["pixels"]}, {"prompt": "q"}]
    recorder.start(given, ["x", [{"content": "y"}]], [True, False], [3, 4], {"f": [1.0, math.nan]}, [1.0, math.nan])
    recorder.add({"advantage": torch.tensor([[0.5]])}, torch.tensor([0]))
    kept = recorder.kept()
    recorder.add({"advantage": torch.tensor([[math.nan]])}, torch.tensor([1]))
    recorder.finish(7)
    recorder.finish(8)
    row = {"step": 7, "problem_id": "a", "prompt": "p", "completion": "x", "answer": "5", "reward": 1.0}
    other = {"step": 7, "problem_id": None, "prompt": "q", "completion": "y", "answer": None, "reward": None}
    assert written == [
        (
            7,
            [
                row | {"scores": {"f": 1.0}, "num_tokens": 3, "truncated": True, "advantage": 0.5},
                other | {"scores": {"f": None}, "num_tokens": 4, "truncated": False, "advantage": None},
            ],
        )
    ]
    # From a checkpoint in the middle: the first micro-batch was there, the second comes again.
    resumed = RolloutRecorder(run)
    resumed.restore(kept)
    resumed.add({"advantage": torch.tensor([[0.25]])}, torch.tensor([1]))
    resumed.finish(7)
    assert [row["advantage"] for row in written[1][1]] == [0.5, 0.25]
    # A rollout batch begins without what was learned of the last one.
    resumed.start(given[:1], ["x"], [True], [3], {"f": [1.0]}, [1.0])
    resumed.add({"advantage": torch.tensor([[2.0]])}, torch.tensor([0]))
    resumed.finish(8)
    assert written[2][1][0]["advantage"] == 2.0


# Inputs -----------------------------------------------------------------------------------------------------------


def micro_of(entropy: torch.Tensor | None, **rows: Any) -> MicroBatch:
    forward: Any = SimpleNamespace(entropy=entropy, hidden_states=torch.arange(2.0 * 5).view(2, 5, 1))
    return MicroBatch(rows, forward, torch.ones(2, 2, dtype=torch.bool), 2)


def test_the_entropy_is_that_of_the_completion() -> None:
    trainer: Any = SimpleNamespace(objective=SimpleNamespace(reads_predicting_states=True))
    entropy = torch.arange(2.0 * 4).view(2, 4).requires_grad_()
    found = provider_of(ENTROPY, trainer).tensor(micro_of(entropy))
    assert found is not None
    assert found.tolist() == [[2.0, 3.0], [6.0, 7.0]]
    with pytest.raises(ModelError, match="no entropy"):
        provider_of(ENTROPY, trainer).tensor(micro_of(None))
    states = provider_of(HIDDEN_STATES, trainer)
    for trainer.objective.reads_predicting_states, expected in ((True, [2.0, 3.0]), (False, [3.0, 4.0])):
        found = states.tensor(micro_of(entropy))
        assert found is not None
        assert found[0].flatten().tolist() == expected
    reference = provider_of(REF_LOG_PROBS, trainer)
    assert reference.tensor(micro_of(entropy, ref_per_token_logps=5)) == 5
    assert reference.tensor(micro_of(entropy)) is None


def test_the_entropy_of_the_policy_that_sampled_is_kept_where_the_rollout_serves_several_updates() -> None:
    forwards: list[Any] = []

    def forward_only(batch: Any) -> Any:
        forwards.append(batch)
        return SimpleNamespace(entropy=torch.full((2, 5), 7.0) if batch["measures"] else None)

    trainer: Any = SimpleNamespace(forward_only=forward_only)
    provider = provider_of(OLD_ENTROPY, trainer)
    ids = torch.zeros(2, 2)
    once: list[Any] = [{"completion_ids": ids, "measures": True}]
    provider.before_updates(once)
    assert forwards == []
    entropy = torch.arange(2.0 * 4).view(2, 4).requires_grad_()
    found = provider.tensor(micro_of(entropy))
    assert found is not None
    assert found.tolist() == [[2.0, 3.0], [6.0, 7.0]]
    assert not found.requires_grad
    several: list[Any] = [
        {"completion_ids": ids, "old_per_token_logps": ids, "measures": measures} for measures in (True, False)
    ]
    provider.before_updates(several)
    assert len(forwards) == 2
    assert several[0]["old_entropy"].tolist() == [[7.0, 7.0]] * 2
    assert "old_entropy" not in several[1]
    kept = provider.tensor(micro_of(entropy, old_entropy=several[0]["old_entropy"]))
    assert kept is several[0]["old_entropy"]
    assert provider.tensor(micro_of(None)) is None


def test_an_input_that_nobody_makes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    objective = build_objective("relax", xi=1.0)
    check_provided(objective)
    monkeypatch.delitem(PROVIDERS, HIDDEN_STATES)
    with pytest.raises(ConfigError, match="'relax' reads the input 'hidden_states', which no provider makes"):
        check_provided(objective)


# Ends -------------------------------------------------------------------------------------------------------------


class Keeper:
    """Saves, or fails as told."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.asked = 0

    def save_last_update(self) -> Path | None:
        self.asked += 1
        if self.fault is not None:
            raise self.fault
        return Path("checkpoint-1")


@pytest.mark.parametrize(
    ("error", "is_tried"),
    [
        (ValueError("a bug"), True),
        (DataError("data"), True),
        (OSError(errno.ECONNRESET, "gone"), True),
        (RunError("another process has the folder"), False),
        (OSError(errno.ENOSPC, "full"), False),
        (RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"), False),
    ],
)
def test_a_last_update_is_kept_unless_the_folder_is_at_fault(error: Exception, is_tried: bool) -> None:
    keeper = Keeper()
    assert keep_last_update(keeper, error) == (Path("checkpoint-1") if is_tried else None)
    assert keeper.asked == int(is_tried)


@pytest.mark.parametrize("fault", [RunError("a"), OSError("b"), RuntimeError("c")])
def test_a_checkpoint_that_cannot_be_kept_hides_no_error(fault: Exception) -> None:
    assert keep_last_update(Keeper(fault), ValueError("the first")) is None


def test_what_a_disk_says_is_told_from_other_faults() -> None:
    assert disk_fault(OSError(errno.ENOSPC, "x")) == "no space is left on the device"
    for error in (OSError(errno.ECONNRESET, "x"), OSError("x"), ValueError("x"), RunError("no space"), KeyError("a")):
        assert disk_fault(error) is None


def trainer_for(options: dict[str, Any], kind: Any = torch.optim.SGD) -> Any:
    args = SimpleNamespace(
        lr_scheduler_type="cosine",
        lr_scheduler_kwargs=None,
        get_warmup_steps=lambda steps: steps // 2,
        max_steps=4,
        optim="sgd",
    )
    return SimpleNamespace(args=args, model=None, get_optimizer_cls_and_kwargs=lambda *_: (kind, options))


def test_an_optimiser_is_rehearsed_unless_it_needs_the_model() -> None:
    rehearse_optimisation(trainer_for({"lr": 0.1}))
    rehearse_optimisation(trainer_for({"params": [], "no such": 1}))
    with pytest.raises(ConfigError, match=r"The optimiser \(sgd\) or the schedule \(cosine\) .*no_such"):
        rehearse_optimisation(trainer_for({"no_such": 1}))
    trainer = trainer_for({"lr": 0.1})
    trainer.args.lr_scheduler_kwargs = {"no_such": 1}
    with pytest.raises(ConfigError, match="no_such"):
        rehearse_optimisation(trainer)
    trainer.args.lr_scheduler_kwargs, trainer.args.lr_scheduler_type = None, "no such schedule"
    with pytest.raises(ConfigError, match=r"schedule \(no such schedule\)"):
        rehearse_optimisation(trainer)
