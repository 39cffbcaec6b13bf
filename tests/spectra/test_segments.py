"""Steps of completions: where they are cut, the spectrum of each, and a probe with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm

from relax_rl.errors import ConfigError, DataError
from relax_rl.spectra.probe import (
    CONTROLS,
    DYNAMICS,
    check_labels,
    out_of_problem_scores,
    probe_result,
    problem_folds,
)
from relax_rl.spectra.segments import SegmentedCompletion, feature_names, segment_spectra
from relax_rl.spectra.steps import LEAST_TOKENS, SegmentRule, cut
from relax_rl.statistics.auc import area_under_curve, bootstrap_auc_difference, bootstrap_auc_within

QUIET = [0.0] * 1000


def test_line_breaks_end_segments_and_blank_lines_belong_to_what_they_end() -> None:
    pieces = [*("abcdefgh"), ".\n", "\n", *("ijklmnop"), "\n", *("qrstuvwxyz")]
    assert cut(SegmentRule("newline"), pieces, QUIET) == [(0, 10), (10, 19), (19, 29)]


def test_a_marker_begins_a_segment_also_inside_a_token_and_over_several() -> None:
    pieces = [*("12345678"), " St", "ep", *("1234567"), "x Step", *("1234567")]
    rule = SegmentRule.parse("marker=Step")
    assert cut(rule, pieces, QUIET) == [(0, 8), (8, 17), (17, 25)]
    assert cut(SegmentRule.parse("marker=\\n\\n"), ["a"] * 8 + ["\n\n"] + ["b"] * 8, QUIET) == [(0, 8), (8, 17)]


def test_the_least_sure_tokens_begin_segments() -> None:
    rule = SegmentRule.parse("entropy=0.1")
    entropies = [[0.1] * 9 + [2.0] + [0.1] * 10, [0.1] * 19 + [2.0]]
    threshold = rule.threshold(entropies)
    assert [cut(rule, ["x"] * 20, row, threshold) for row in entropies] == [[(0, 9), (9, 20)], [(0, 20)]]


def test_a_short_segment_is_a_part_of_the_one_before() -> None:
    pieces = ["a\n"] * (2 * LEAST_TOKENS + 3)
    assert cut(SegmentRule("newline"), pieces, QUIET) == [(0, LEAST_TOKENS), (LEAST_TOKENS, 2 * LEAST_TOKENS + 3)]


@pytest.mark.parametrize(
    "words", ["lines", "newline=3", "marker", "marker=", "entropy=0", "entropy=2", "entropy=x", ""]
)
def test_another_rule_is_refused(words: str) -> None:
    with pytest.raises(ConfigError, match="give newline, marker=TEXT, entropy"):
        SegmentRule.parse(words)


def rotation(modulus: float, angle: float, count: int, start: int = 0) -> torch.Tensor:
    """Around a fixed point that is not the origin, in five features."""
    steps = torch.arange(count, dtype=torch.float64)
    plane = modulus ** steps[:, None] * torch.stack([torch.cos(angle * steps), torch.sin(angle * steps)], 1)
    mixing = torch.randn((2, 5), generator=torch.Generator().manual_seed(start), dtype=torch.float64)
    return plane @ mixing + 3.0


def test_each_segment_has_the_eigenvalues_of_its_own_system() -> None:
    states = torch.cat([rotation(0.9, 0.4, 12), rotation(0.5, 1.0, 9, start=1)])
    entropy = torch.cat([torch.full((12,), 0.5), torch.full((9,), 1.5)])
    first, second = segment_spectra(states, entropy, [(0, 12), (12, 21)])
    for segment, modulus, angle in ((first, 0.9, 0.4), (second, 0.5, 1.0)):
        found = segment.eigenvalues
        assert [np.hypot(*value) for value in found] == pytest.approx([modulus, modulus], abs=1e-8)
        assert sorted(np.arctan2(value[1], value[0]) for value in found) == pytest.approx([-angle, angle], abs=1e-8)
        assert segment.residual < 1e-8
        assert segment.max_modulus == pytest.approx(modulus)
        assert segment.dispersion == pytest.approx(0, abs=1e-8)
    assert (first.entropy, second.entropy) == (0.5, 1.5)


def test_states_that_are_all_the_same_have_no_modes() -> None:
    (found,) = segment_spectra(torch.full((9, 3), 2.0), torch.zeros(9), [(0, 9)])
    assert (found.eigenvalues, found.max_modulus, found.residual) == ((), 0.0, 1.0)


def completion(problem: int, is_right: bool, decay: float, seed: int, lengths: tuple[int, ...]) -> SegmentedCompletion:
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(6, generator=generator)]
    for _ in range(sum(lengths) - 1):
        states.append(decay * states[-1] + torch.randn(6, generator=generator))
    ends = np.cumsum(lengths).tolist()
    parts = list(zip([0, *ends[:-1]], ends, strict=True))
    all_states = torch.stack(states)
    entropy = torch.rand(len(all_states), generator=generator)
    return SegmentedCompletion(
        problem_id=f"p{problem}",
        is_right=is_right,
        texts=("",) * len(parts),
        segments=tuple(segment_spectra(all_states, entropy, parts)),
        mean_state=all_states.double().mean(0),
    )


def completions(right: float, wrong: float, *, longer: int = 0) -> list[SegmentedCompletion]:
    found = []
    for problem in range(24):
        for sample in range(4):
            is_right = sample % 2 == 0
            lengths = (16, 16, 16 + longer * is_right)
            decay = right if is_right else wrong
            found.append(completion(problem, is_right, decay, 10 * problem + sample, lengths))
    return found


def test_dynamics_that_differ_are_found_beyond_length_and_entropy() -> None:
    found = probe_result(completions(0.95, 0.2))
    assert found.auc[DYNAMICS].low > 0.85
    within = found.within[DYNAMICS]
    assert within is not None
    assert within.low > 0.85
    assert found.auc[CONTROLS].low < 0.5 < found.auc[CONTROLS].high
    assert found.gain.low > 0.2
    assert (found.num_right, found.num_wrong, found.num_problems, found.num_folds) == (48, 48, 24, 5)
    assert set(found.weights) == set(feature_names())
    assert max(found.weights.items(), key=lambda item: abs(item[1]))[0].split(",")[0] in {
        *("max_modulus", "step", "curvature", "dispersion", "effective_rank"),
    }


def test_length_alone_is_no_gain_of_dynamics() -> None:
    found = probe_result(completions(0.6, 0.6, longer=24))
    assert found.auc["length"].value > 0.99
    assert found.gain.low <= 0.0
    assert found.gain.high < 0.05


def test_equal_dynamics_tell_nothing() -> None:
    found = probe_result(completions(0.6, 0.6))
    assert found.auc[DYNAMICS].low < 0.5 < found.auc[DYNAMICS].high


def test_the_probe_reaches_the_auc_that_is_known() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(3000) % 3 == 0
    features = np.column_stack([generator.standard_normal(3000) + labels, generator.standard_normal(3000)])
    problems = [str(place // 6) for place in range(3000)]
    scores = out_of_problem_scores(features, labels.tolist(), problem_folds(labels.tolist(), problems))
    # One shifted by a standard deviation: Phi(1 / sqrt 2), but for the draw; to rank by it is the best there is.
    assert area_under_curve(features[:, 0], labels) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.04)
    assert area_under_curve(scores, labels) == pytest.approx(area_under_curve(features[:, 0], labels), abs=0.005)


def test_what_only_names_the_problem_is_not_learnt_and_a_constant_is_worth_one_half() -> None:
    generator = np.random.default_rng(1)
    problems = [str(place // 5) for place in range(200)]
    right = generator.random(40) < 0.5
    labels = [bool(right[int(problem)]) for problem in problems]
    signature = generator.standard_normal((40, 30))
    features = np.stack([signature[int(problem)] for problem in problems])
    folds = problem_folds(labels, problems)
    for fit, rest in folds:
        assert not {problems[row] for row in fit} & {problems[row] for row in rest}
    assert abs(area_under_curve(out_of_problem_scores(features, labels, folds), labels) - 0.5) < 0.2
    # With an intercept it would rank against the truth, since each fold learns the share of the others.
    assert area_under_curve(out_of_problem_scores(np.ones((200, 1)), labels, folds), labels) == 0.5


@pytest.mark.parametrize(
    ("labels", "problems", "said"),
    [
        ([True, False], ["a", "a"], "of 1 problem,"),
        ([True, True], ["a", "b"], "All 2 completions are right"),
        ([False, False], ["a", "b"], "All 2 completions are wrong"),
        ([True, True, False, False], ["a", "a", "b", "c"], "All right completions are of the problem 'a'"),
    ],
)
def test_labels_that_cannot_be_probed(labels: list[bool], problems: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        check_labels(labels, problems)


def test_a_rare_kind_is_never_missing_from_a_fit() -> None:
    problems = [str(place // 2) for place in range(80)]
    labels = [place in (0, 70) for place in range(80)]
    for fit, _ in problem_folds(labels, problems):
        assert any(labels[row] for row in fit)


def test_pairs_within_problems_and_differences_of_areas() -> None:
    # Problem a ranks its one pair right, problem b two of its four pairs.
    scores = [1.0, 0.0, 5.0, 8.0, 6.0, 9.0]
    labels = [True, False, True, False, False, True]
    within = bootstrap_auc_within(scores, labels, ["a", "a", "b", "b", "b", "b"])
    assert within is not None
    assert within.value == pytest.approx((1 + 2) / (1 + 4))
    assert within.num_problems == 2
    assert bootstrap_auc_within(scores, labels, list("abcdef")) is None
    same = bootstrap_auc_difference(scores, scores, labels)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
