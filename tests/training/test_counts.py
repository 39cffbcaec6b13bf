"""What the trainer counts and says, without a trainer: skipped updates, degenerate figures, scores, the entropy."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from objectives.batches import random_batch, with_inputs
from relax_rl.config import GuardConfig
from relax_rl.errors import DataError
from relax_rl.objectives.base import ObjectiveOutput
from relax_rl.objectives.updates import UpdateReport
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.guard import NumericalGuard, in_words, is_sound, nonfinite_in, nonfinite_names
from relax_rl.training.notices import Notices
from relax_rl.training.trl.update_sums import UpdateSums
from relax_rl.training.unscored import UnscoredLimit
from relax_rl.training.watch import LearningWatch


def guard_of(**limits: Any) -> tuple[NumericalGuard, list[str]]:
    said: list[str] = []
    notices = Notices()
    notices.listen(said.append)
    return NumericalGuard(GuardConfig(**limits), notices), said


# Skipped updates --------------------------------------------------------------------------------------------------


def test_as_many_in_a_row_as_the_limit_stop_the_run_and_one_less_does_not() -> None:
    guard, said = guard_of(max_consecutive=3, max_share=1.0)
    assert guard.state() == {"skipped": 0, "first": 0, "in_a_row": 0}
    for update in (5, 6):
        guard.skipped(update, ["a", "a", "b"])
        assert guard.reason_to_stop(update) is None
    guard.skipped(7, ["c"])
    assert guard.reason_to_stop(8) is None
    reason = guard.reason_to_stop(7)
    assert reason is not None
    assert reason.startswith("the updates 5 to 7 were skipped")
    assert "(c)" in reason
    assert len(said) == 1
    assert said[0].startswith("Update 5 was skipped, because numbers in it are not finite: a; b. The")
    guard.conclude(9)
    assert said[1].startswith("3 of 9 updates were skipped since update 5")


def test_a_step_with_a_gradient_ends_a_row_and_one_without_does_not() -> None:
    for norm, expected in ((0.0, 2), (1e-9, 1), (1.0, 1)):
        guard, said = guard_of(max_share=1.0)
        guard.skipped(1, ["a"])
        guard.stepped(norm)
        guard.skipped(2, ["a"])
        assert guard.state() == {"skipped": 2, "first": 1, "in_a_row": expected}
        assert len(said) == 1


def test_a_share_may_be_reached_and_not_passed_and_one_update_is_always_forgiven() -> None:
    guard, said = guard_of(max_consecutive=99, max_share=0.5)
    guard.skipped(1, ["a"])
    assert guard.reason_to_stop(1) is None
    guard.conclude(1)
    assert len(said) == 1
    guard.skipped(4, ["b"])
    assert guard.reason_to_stop(4) is None
    guard.skipped(5, ["c"])
    assert (guard.reason_to_stop(5) or "").startswith("3 of 5 updates were skipped, the first of them 1,")


def test_a_resumed_run_goes_on_counting() -> None:
    guard, _ = guard_of(max_share=1.0)
    guard.skipped(3, ["a"])
    resumed, said = guard_of(max_share=1.0)
    resumed.restore(guard.state())
    assert resumed.reason_to_stop(3) is None
    resumed.skipped(4, ["b"])
    assert resumed.state() == {"skipped": 2, "first": 3, "in_a_row": 2}
    assert said == []
    with pytest.raises(KeyError):
        resumed.restore({"skipped": 1, "first": 1})


def output_of(loss: float = 1.0, **terms: float) -> ObjectiveOutput:
    return ObjectiveOutput(torch.tensor(loss), {}, {}, terms={key: torch.tensor(value) for key, value in terms.items()})


def spoilt(values: torch.Tensor, *places: tuple[int, ...]) -> torch.Tensor:
    values = values.detach().clone()
    for place in places:
        values[place] = math.nan
    return values


def test_a_loss_or_a_log_probability_under_the_mask_makes_a_batch_unsound() -> None:
    batch = random_batch()
    mask = batch.mask.clone()
    mask[0, 0, -1], mask[0, 0, 0] = False, True
    batch = dataclasses.replace(batch, mask=mask)
    assert bool(is_sound(batch, output_of()))
    for loss in (math.nan, math.inf):
        assert not bool(is_sound(batch, output_of(loss)))
    assert bool(is_sound(dataclasses.replace(batch, log_probs=spoilt(batch.log_probs, (0, 0, -1))), output_of()))
    assert not bool(is_sound(dataclasses.replace(batch, log_probs=spoilt(batch.log_probs, (0, 0, 0))), output_of()))


def test_what_is_not_finite_is_named_by_completion_and_term() -> None:
    batch = random_batch(prompts=2, group=4)
    mask = torch.ones_like(batch.mask)
    mask[1, 3, 5] = False
    states = torch.zeros(2, 4, 6, 3)
    states[1, 2, 4, 1] = math.inf
    batch = dataclasses.replace(batch, mask=mask, log_probs=spoilt(batch.log_probs, (0, 1, 0), (1, 3, 5)))
    batch = with_inputs(batch, hidden_states=states, entropy=None, ref_log_probs=None)
    found = nonfinite_in(batch, output_of(math.nan, policy=math.nan, kl=1.0, bonus=-math.inf), "micro-batch 2")
    assert found == [
        "the log-probabilities of completion 2 in micro-batch 2",
        "the hidden states of completion 7 in micro-batch 2",
        "the loss terms policy, bonus in micro-batch 2",
    ]
    many = dataclasses.replace(random_batch(), old_log_probs=spoilt(random_batch().old_log_probs, (0,), (1,)))
    many = dataclasses.replace(many, mask=torch.ones_like(many.mask))
    (words,) = nonfinite_in(many, output_of(), "it")
    assert words == "the log-probabilities at sampling of completions 1, 2, 3 and 5 more in it"
    assert nonfinite_in(random_batch(), output_of(math.nan), "it") == ["the loss in it"]


def test_three_names_are_spelt_out_and_more_are_counted() -> None:
    assert in_words("the gradient", ["a"]) == "the gradient of a"
    assert in_words("the gradient", ["a", "b", "c"]) == "the gradient of a, b, c"
    assert in_words("the gradient", ["a", "b", "c", "d"]) == "the gradient of a, b, c and 1 more"
    values = {"good": torch.ones(2), "bad": torch.tensor([1.0, math.inf]), "empty": torch.ones(0)}
    assert nonfinite_names(values.items()) == ["bad"]


# Completions without a score --------------------------------------------------------------------------------------


def test_a_run_stops_above_the_share_of_three_batches_and_not_at_it() -> None:
    none, some = torch.full((4, 2), math.nan), torch.tensor([[math.nan, 1.0]] * 3 + [[math.nan, math.nan]])
    limit = UnscoredLimit(0.5)
    assert [limit.count(scores, 0) for scores in (none, some, some)] == [1.0, 0.25, 0.25]
    # The last three: 1 + 1 + 4 of 12, which is the half.
    assert limit.count(none, 1) == 1.0
    with pytest.raises(DataError, match=r"rollouts of update 8: 9 of the 12 completions of the last 3"):
        limit.count(none, 7)


# Degenerate figures -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "holds", "does_not", "words"),
    [
        ("grad_norm", [0.0], [1e-9, None], "the gradient is 0"),
        ("reward", [None, math.nan], [0.0], "no completion could be scored"),
        ("frac_reward_zero_std", [1.0], [0.99, None], "the rewards of each group are all equal"),
        ("completions/clipped_ratio", [1.0], [0.99, 0.0], "every completion is truncated"),
        ("completions/max_length", [1.0, 0.0], [2.0, None], "every completion is empty"),
    ],
)
def test_each_condition_has_its_figure(name: str, holds: list, does_not: list, words: str) -> None:
    for values, expected in ((holds, True), (does_not, False)):
        for value in values:
            said: list[str] = []
            LearningWatch(1, said.append).update(1, 9, {name: value})
            assert bool(said) == expected
            assert all(sentence.startswith(f"Since update 1 {words}") for sentence in said)


def test_identical_completions_are_those_of_every_rollout_batch_of_an_update() -> None:
    said: list[str] = []
    watch = LearningWatch(2, said.append)
    same, other = [[1, 2], [1, 2]], [[1, 2], [1]]
    for step, rollouts in enumerate([[same, other], [other, same], [same], [], [same, same]], start=1):
        for rollout in rollouts:
            watch.rollout(rollout)
        watch.update(step, 100, {})
        # An update without a rollout of its own neither ends the row nor begins one.
        assert len(said) == int(step >= 4)
    assert said[0].startswith("Since update 3 all completions of a rollout batch are identical (up to update 4)")


def test_a_run_shorter_than_the_patience_is_told_at_its_end() -> None:
    said: list[str] = []
    watch = LearningWatch(10, said.append)
    watch.update(1, 2, {"grad_norm": 0.0, "reward": 1.0})
    assert not said
    watch.update(2, 2, {"grad_norm": 0.0, "reward": None})
    assert said == [
        "Since update 1 the gradient is 0, so nothing is learned (up to update 2); look at the completions and their "
        "rewards."
    ]


def test_conditions_that_began_apart_are_told_by_their_beginnings() -> None:
    said: list[str] = []
    watch = LearningWatch(3, said.append)
    watch.update(2, 100, {"reward": None, "grad_norm": 0.0})  # of two updates
    watch.update(3, 100, {"reward": None, "grad_norm": 1.0})
    assert len(said) == 1
    assert said[0].startswith("Since update 1 no completion could be scored (up to update 3)")
    watch.update(4, 100, {"frac_reward_zero_std": 1.0, "completions/max_length": 0})
    watch.update(5, 100, {"grad_norm": 0.0})
    watch.update(6, 100, {})
    assert said[1].startswith(
        "Since update 4 the rewards of each group are all equal, every completion is empty (up to update 6)"
    )
    watch.update(7, 100, {})
    assert said[2].startswith("Since update 5 the gradient is 0")


def test_what_was_told_before_a_resume_is_not_told_again_and_the_rest_is() -> None:
    said: list[str] = []
    watch = LearningWatch(3, said.append)
    history = [
        {"step": 1, "grad_norm": 0.0, "reward": 1.0},
        {"step": 2, "grad_norm": 0.0, "reward": None},
        {"step": 2, "eval_reward": 1.0},
        {"step": 3, "grad_norm": 0.0, "reward": None},
    ]
    watch.begin(3, history)
    watch.update(4, 100, {"grad_norm": 0.0, "reward": None})
    assert len(said) == 1
    assert said[0].startswith("Since update 2 no completion could be scored (up to update 4)")
    # Where the log ends before the checkpoint, a condition begins after it.
    watch = LearningWatch(2, said.append)
    watch.begin(7, [])
    watch.update(8, 100, {"grad_norm": 0.0})
    watch.update(9, 100, {"grad_norm": 0.0})
    assert said[1].startswith("Since update 8 the gradient")


# The entropy ------------------------------------------------------------------------------------------------------


def after(*pairs: tuple[float, float]) -> EntropyForecast:
    forecast = EntropyForecast()
    for step, (entropy, covariance) in enumerate(pairs, start=1):
        forecast = forecast.after(UpdateReport(step=step, num_steps=9, entropy=entropy, covariance=covariance))
    return forecast


def test_an_update_whose_entropy_or_covariance_is_not_finite_is_passed_over() -> None:
    known = after((1.0, 0.5), (0.9, 0.5))
    for entropy, covariance in ((math.nan, 0.5), (0.9, math.nan), (math.inf, 0.1)):
        assert after((1.0, 0.5), (0.9, 0.5), (entropy, covariance)) == known


def test_the_forecast_by_hand() -> None:
    first = after((1.0, 0.5))
    assert (first.first_entropy, first.entropy, first.covariance) == (1.0, 1.0, 0.5)
    assert (first.predicted_change, first.steps_to_floor) == (None, None)
    # eta = 0.2 by the first change; the second has 0.9 of its weight.
    second = after((1.0, 0.5), (0.9, 0.25))
    assert second.predicted_change == pytest.approx(-0.05)
    assert second.steps_to_floor == pytest.approx((0.9 - 0.1) / 0.05)
    third = after((1.0, 0.5), (0.9, 0.25), (0.8, 0.5))
    eta = (0.9 * 0.05 + 0.25 * 0.1) / (0.9 * 0.25 + 0.0625)
    assert third.predicted_change == pytest.approx(-eta * 0.5)
    assert third.slope == pytest.approx(0.9 * -0.05 + 0.1 * -eta * 0.5)
    assert third.metrics == pytest.approx(
        {
            "entropy/covariance": 0.5,
            "entropy/predicted_change": third.predicted_change,
            "entropy/steps_to_floor": third.steps_to_floor,
        }
    )


def test_the_floor_is_reached_at_a_tenth_of_the_first_entropy() -> None:
    at_floor = after((1.0, 0.5), (0.1, 0.5))
    assert at_floor.steps_to_floor == 0.0
    assert after((1.0, 0.5), (0.2, 0.0)).steps_to_floor is None  # nothing is predicted to fall
    assert EntropyForecast(first_entropy=1.0, entropy=0.5).steps_to_floor is None
    assert EntropyForecast(first_entropy=1.0, entropy=0.5, slope=0.1).steps_to_floor is None
    assert after((1.0, 0.0), (0.9, 0.5)).predicted_change is None  # no covariance came before a change
    assert after((1.0, 0.0), (0.9, 0.5)).slope is None


class TwoProcesses:
    """Both have the same sums."""

    @staticmethod
    def reduce(tensor: torch.Tensor, reduction: str = "none") -> torch.Tensor:
        return 2 * tensor if reduction == "sum" else tensor


def test_an_update_without_tokens_or_entropy_reports_nan_and_one_without_batches_nothing() -> None:
    with pytest.raises(ValueError, match="without micro-batches"):
        UpdateSums().report(TwoProcesses(), 1, 2)
    batch = random_batch()
    sums = UpdateSums()
    sums.add(dataclasses.replace(batch, entropy=None), batch.rewards, {"a": 1.0})
    sums.add(dataclasses.replace(batch, entropy=None), batch.rewards, {"a": 2.0, "b": 4.0})
    report = sums.report(TwoProcesses(), 1, 2)
    assert math.isnan(report.entropy)
    assert math.isfinite(report.covariance)
    assert report.metrics == {"a": 1.5, "b": 4.0}
    empty = UpdateSums()
    empty.add(dataclasses.replace(batch, mask=torch.zeros_like(batch.mask)), batch.rewards, {})
    report = empty.report(TwoProcesses(), 1, 2)
    assert math.isnan(report.entropy)
    assert math.isnan(report.covariance)
