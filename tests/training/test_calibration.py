"""Fitting the dictionary on a sample of the rollouts: when, on what, and where that is impossible."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from relax_rl.config import TrainConfig
from relax_rl.errors import DataError
from relax_rl.objectives import build_objective
from relax_rl.training.calibration import Calibration
from relax_rl.training.notices import Notices
from relax_rl.training.objective import build_objective_from
from relax_rl.training.sampled_states import MOST_COMPLETIONS, SampledStates, sampled_places, sampled_states

STATES: Any = SimpleNamespace(tensor=lambda micro: micro.rows["states"])


@dataclass
class FakeTrainer:
    """What a calibration reads of a trainer: states are in the batch, and no other process is asked."""

    objective: Any
    process_index: int = 0
    num_processes: int = 1
    steps_per_generation: int = 2
    num_iterations: int = 1
    gradient_accumulation_steps: int = 1
    mask_truncated_completions: bool = False
    said: list[str] = field(default_factory=list)
    num_forwards: int = 0

    @property
    def args(self) -> Any:
        return SimpleNamespace(
            steps_per_generation=self.steps_per_generation,
            num_iterations=self.num_iterations,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            num_generations=2,
            mask_truncated_completions=self.mask_truncated_completions,
            max_completion_length=40,
        )

    @property
    def accelerator(self) -> Any:
        return SimpleNamespace(
            gather=lambda tensor: tensor,
            device=torch.device("cpu"),
            process_index=self.process_index,
            num_processes=self.num_processes,
        )

    def completion_mask(self, batch: Any) -> torch.Tensor:
        return batch["mask"]

    def forward_only(self, batch: Any) -> Any:
        self.num_forwards += 1
        return batch

    def calibration(self) -> Calibration:
        notices = Notices()
        notices.listen(self.said.append)
        return Calibration(self, STATES, notices)  # pyright: ignore[reportArgumentType]

    def sampled(self, batches: list[Any]) -> SampledStates:
        return sampled_states(self, STATES, batches, [batch["mask"] for batch in batches])  # pyright: ignore[reportArgumentType]


def rollout_of(length: int, rows: int = 8, seed: int = 0) -> list[Any]:
    states = torch.randn(rows, length, 6, generator=torch.Generator().manual_seed(seed)).cumsum(1)
    return [{"states": states, "mask": torch.ones(rows, length, dtype=torch.bool), "row": torch.arange(rows)}]


def in_parts(batch: dict[str, Any], size: int) -> list[Any]:
    return [
        {key: value[start : start + size] for key, value in batch.items()}
        for start in range(0, len(batch["row"]), size)
    ]


def relax_of(**dictionary: Any) -> Any:
    return build_objective("relax", xi=1.0, dictionary={"num_observables": 4, "steps": 2} | dictionary)


def test_a_dictionary_is_due_at_first_and_once_in_each_interval() -> None:
    assert not FakeTrainer(build_objective("grpo")).calibration().is_due(0)
    trainer = FakeTrainer(relax_of(refit_interval=5))
    calibration = trainer.calibration()
    assert [calibration.is_due(update) for update in (0, 2)] == [True, True]
    trainer.objective = calibration.fitted(rollout_of(20), 0)
    # Rollout batches begin at every second update: 5 has passed at 6, and 10 at 10.
    due = [update for update in range(0, 16, 2) if calibration.is_due(update)]
    assert due == [6, 10]
    calibration.fitted(rollout_of(20), 10)
    assert not calibration.is_due(10)
    once = FakeTrainer(relax_of())
    once.objective = once.calibration().fitted(rollout_of(20), 0)
    assert not any(once.calibration().is_due(update) for update in range(9))
    longer = FakeTrainer(trainer.objective, steps_per_generation=4, num_iterations=2, gradient_accumulation_steps=2)
    assert [update for update in range(0, 25, 4) if longer.calibration().is_due(update)] == [8, 12, 16, 20]


def test_the_states_of_all_micro_batches_are_fitted_on() -> None:
    halves = in_parts(rollout_of(20)[0], 4)
    whole, parts = (FakeTrainer(relax_of()).calibration().fitted(given, 0) for given in (rollout_of(20), halves))
    assert whole.probe.dictionary.digest == parts.probe.dictionary.digest
    assert FakeTrainer(build_objective("grpo")).calibration().fitted([], 0).probe is None


def test_micro_batches_may_be_of_any_width_and_order() -> None:
    batch = rollout_of(20)[0]
    batch["mask"][4:, 14:] = False
    long, short = in_parts(batch, 4)
    short = short | {"states": short["states"][:, :14], "mask": short["mask"][:, :14]}
    whole = FakeTrainer(relax_of()).calibration().fitted([batch], 0)
    parts = FakeTrainer(relax_of()).calibration().fitted([short, long], 0)
    assert whole.probe.dictionary.digest == parts.probe.dictionary.digest


def test_a_broken_completion_is_left_out_of_the_fit_and_of_xi() -> None:
    batch = rollout_of(20, rows=6)[0]
    batch["states"][2, 3, 1] = float("nan")
    rest = {key: value[[0, 1, 3, 4, 5]] for key, value in batch.items()}
    method = build_objective("relax", xi="quantile:0.5", dictionary={"num_observables": 4, "steps": 2})
    found = FakeTrainer(method).calibration().fitted([batch], 0).probe
    expected = method.probe.calibrated(rest["states"], rest["mask"])
    assert found.dictionary.digest == expected.dictionary.digest
    assert found.bound.value == pytest.approx(expected.bound.value, rel=1e-9)


def test_a_dictionary_is_fitted_on_so_many_completions_and_first_positions() -> None:
    batch = rollout_of(30)[0]
    method = relax_of(max_trajectories=4, max_positions=11)
    found = FakeTrainer(method).calibration().fitted(in_parts(batch, 2), 0).probe
    expected = method.probe.settings.fit([states[:11] for states in batch["states"][:4]])
    assert found.dictionary.digest == expected.digest
    assert method.probe.settings.max_positions == 11
    assert relax_of().probe.settings.max_positions == 512


@pytest.mark.parametrize(
    ("completions", "group", "most", "groups"),
    [
        (32, 8, 512, [0, 1, 2, 3]),
        (512, 16, 512, list(range(32))),
        (1024, 16, 512, list(range(0, 64, 2))),
        (8192, 16, 512, list(range(0, 512, 16))),
        (48, 8, 20, [0, 3]),
        (48, 8, 3, [0]),
    ],
)
def test_whole_groups_are_sampled_evenly(completions: int, group: int, most: int, groups: list[int]) -> None:
    places = sampled_places(completions, group, most)
    assert places == [first * group + row for first in groups for row in range(group)]


@pytest.mark.parametrize("num_processes", [1, 2, 8, 64])
def test_what_calibration_keeps_and_sends_does_not_grow_with_the_processes(num_processes: int) -> None:
    rows, kept, sent = 1024, [], 0
    for process in range(num_processes):
        trainer = FakeTrainer(relax_of(max_positions=3), process_index=process, num_processes=num_processes)
        batch = rollout_of(5, rows)[0]
        sample = trainer.sampled(in_parts(batch, 16))
        kept += sample.places
        assert len(sample.states) == len(sample.mask) == len(sample.places) == MOST_COMPLETIONS // num_processes
        rows_of = Calibration._fit_rows(sample, trainer.objective.probe)
        sent += sum(states.untyped_storage().nbytes() for _, states in rows_of)
        # Only micro-batches that hold a sampled completion are read.
        assert trainer.num_forwards == min(rows // 16, len(sample.places) // 2)
    assert sorted(kept) == list(range(MOST_COMPLETIONS))
    assert sent == MOST_COMPLETIONS * 3 * 6 * 4


def test_a_process_without_a_sampled_completion_keeps_none_and_runs_no_forward() -> None:
    """Of 600 groups 256 are sampled, and that of the second process is not among them."""
    trainer = FakeTrainer(relax_of(), process_index=1, num_processes=600)
    sample = trainer.sampled(rollout_of(5, rows=2))
    assert (sample.places, sample.mask.shape, sample.mask.dtype) == ([], (0, 5), torch.bool)
    assert len(sample.states) == trainer.num_forwards == 0
    assert Calibration._fit_rows(sample, trainer.objective.probe) == []


@pytest.mark.parametrize(("length", "is_fitted"), [(6, True), (5, False)])
def test_a_method_that_only_logs_needs_more_pairs_than_observables(length: int, is_fitted: bool) -> None:
    settings = {"objective": {"name": "grpo"}, "dictionary": {"num_observables": 4, "steps": 2}}
    trainer = FakeTrainer(build_objective_from(TrainConfig.model_validate(settings)))
    calibration = trainer.calibration()
    found = calibration.fitted(rollout_of(length), 3)
    assert found.is_calibrated == is_fitted
    assert len(trainer.said) == int(not is_fitted)
    if not is_fitted:
        assert trainer.said[0].startswith("The dispersion, which grpo only logs, cannot be measured since update 4:")
        calibration.fitted(rollout_of(length), 5)
        assert len(trainer.said) == 1  # once for as long as it lasts
        trainer.objective = calibration.fitted(rollout_of(20), 7)
        trainer.objective = calibration.fitted(rollout_of(length), 9)
        assert trainer.said[1].startswith("The dictionary could not be fitted again before update 10, so it stays:")


def test_a_method_that_reads_the_dispersion_says_why_it_cannot_begin() -> None:
    trainer = FakeTrainer(relax_of())
    with pytest.raises(DataError, match=r"update 3: its 8 completions have at most 1 tokens; lower"):
        trainer.calibration().fitted(rollout_of(1), 2)
    batch = rollout_of(1)
    batch[0]["mask"][:2] = False
    trainer.mask_truncated_completions = True
    with pytest.raises(DataError, match=r"2 of 8 completions were truncated at max_completion_length = 40"):
        trainer.calibration().fitted(batch, 2)
    with pytest.raises(DataError, match="its 8 completions"):
        trainer.calibration().fitted(rollout_of(1), 2)
    trainer.mask_truncated_completions = False
    with pytest.raises(DataError, match="its 8 completions"):
        trainer.calibration().fitted(batch, 2)
