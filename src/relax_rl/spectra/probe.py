"""Do the dynamics of a completion's steps tell right from wrong? A linear probe, tested on problems it never saw.

The controls are probes of the same kind: on length, on entropy, on both, and on the mean state, which knows the words
but no dynamics. A claim about dynamics needs more than any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from relax_rl.errors import DataError
from relax_rl.spectra.segments import SegmentedCompletion, feature_names
from relax_rl.statistics.auc import bootstrap_auc, bootstrap_auc_difference, bootstrap_auc_within
from relax_rl.statistics.intervals import Estimate

__all__ = [
    "CONTROLS",
    "DYNAMICS",
    "ProbeResult",
    "check_labels",
    "out_of_problem_scores",
    "probe_result",
    "problem_folds",
]

DYNAMICS = "segment dynamics"
CONTROLS = "length and entropy"
_BOTH = "dynamics, length, entropy"
_FOLDS = 5
_FEW_PROBLEMS = 20
_MOST_COMPONENTS = 16


@dataclass(frozen=True)
class ProbeResult:
    """How well each kind of feature ranks right completions above wrong ones, on problems kept apart.

    Attributes:
        auc: by features, over all pairs of a right and a wrong completion; intervals over problems.
        within: the same over pairs of one problem, so that the difficulty of a problem counts for nothing; None where
            no problem has both kinds.
        gain: AUC of dynamics, length and entropy together less that of length and entropy.
        weights: by feature of the dynamics, the weight of its standardised value, mean over the folds.
        num_folds: parts that the problems were split into.
        num_right, num_wrong, num_problems: numbers of completions and problems that were probed.
        scores: scores of each completion, by the probe of the dynamics that did not see its problem; higher is more
            right.
    """

    auc: dict[str, Estimate]
    within: dict[str, Estimate | None]
    gain: Estimate
    weights: dict[str, float]
    num_folds: int
    num_right: int
    num_wrong: int
    num_problems: int
    scores: tuple[float, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and lists."""
        return asdict(self)


def check_labels(labels: Sequence[bool], problems: Sequence[str]) -> None:
    """Whether a probe can be fitted and tested across problems.

    Raises:
        DataError: fewer than two problems, labels that are all equal, or all of a kind in one problem.
    """
    count = len(set(problems))
    if count < 2:
        raise DataError(
            f"The completions are of {count} problem{'s' * (count != 1)}, but a probe is tested on problems that it "
            "never saw: give completions of two problems or more."
        )
    if all(labels) or not any(labels):
        kind = "right" if any(labels) else "wrong"
        raise DataError(
            f"All {len(labels)} completions are {kind}, so there is nothing to distinguish; give completions of both "
            "kinds: other problems, more samples, or another temperature."
        )
    for kind, is_right in (("right", True), ("wrong", False)):
        owners = {problem for problem, label in zip(problems, labels, strict=True) if label == is_right}
        if len(owners) < 2:
            raise DataError(
                f"All {kind} completions are of the problem '{owners.pop()}', so that a probe tested out of problem "
                "has none to learn from or none to find; give more problems or more samples."
            )


def probe_result(completions: Sequence[SegmentedCompletion], *, seed: int = 0) -> ProbeResult:
    """Fit and test the probe of the dynamics and its controls.

    Args:
        completions: two or more right ones and wrong ones, each kind of two problems or more.
        seed: seed of the bootstrap.

    Raises:
        DataError: see :func:`check_labels`.
    """
    labels = [each.is_right for each in completions]
    problems = [each.problem_id for each in completions]
    check_labels(labels, problems)
    dynamics = np.array([each.dynamics_features for each in completions])
    length = np.array([each.length_features for each in completions])
    entropy = np.array([each.entropy_features for each in completions])
    features = {
        DYNAMICS: dynamics,
        "length": length,
        "entropy": entropy,
        CONTROLS: np.hstack([length, entropy]),
        "mean state": np.stack([each.mean_state.double().numpy() for each in completions]),
        _BOTH: np.hstack([dynamics, length, entropy]),
    }
    folds = problem_folds(labels, problems)
    scores = {name: out_of_problem_scores(values, labels, folds) for name, values in features.items()}
    return ProbeResult(
        auc={name: bootstrap_auc(values, labels, problems, seed=seed) for name, values in scores.items()},
        within={name: bootstrap_auc_within(values, labels, problems, seed=seed) for name, values in scores.items()},
        gain=bootstrap_auc_difference(scores[CONTROLS], scores[_BOTH], labels, problems, seed=seed),
        weights=dict(zip(feature_names(), _weights(dynamics, labels, folds), strict=True)),
        num_folds=len(folds),
        num_right=sum(labels),
        num_wrong=len(labels) - sum(labels),
        num_problems=len(set(problems)),
        scores=tuple(scores[DYNAMICS].tolist()),
    )


Folds = Sequence[tuple[np.ndarray, np.ndarray]]
"""(rows to fit on, rows to score) of each fold; together the latter are all rows."""


def out_of_problem_scores(features: np.ndarray, labels: Sequence[bool], folds: Folds) -> np.ndarray:
    """(N,) scores of a linear probe, each row by the one that did not see its problem.

    Without the intercept: it follows the share of right rows that a fold was fitted on, which is lower where the rows
    kept apart have many. With it, scores of different folds would rank against the truth.
    """
    scores, positive = np.zeros(len(features)), np.asarray(labels, dtype=bool)
    for fit, rest in folds:
        transform, weights = _fitted(features[fit], positive[fit])
        scores[rest] = transform.transform(features[rest]) @ weights
    return scores


def _fitted(features: np.ndarray, labels: np.ndarray) -> tuple[Pipeline, np.ndarray]:
    """The scaling of features, and the weights behind it; more than a few are reduced to leading components first."""
    parts: list[Any] = [StandardScaler()]
    if features.shape[1] > 2 * _MOST_COMPONENTS:
        parts.append(PCA(min(_MOST_COMPONENTS, len(features) - 1), random_state=0))
        parts.append(StandardScaler())
    transform = make_pipeline(*parts)
    return transform, LogisticRegression(max_iter=1000).fit(transform.fit_transform(features), labels).coef_[0]


def _weights(features: np.ndarray, labels: Sequence[bool], folds: Folds) -> list[float]:
    positive = np.asarray(labels, dtype=bool)
    return np.mean([_fitted(features[fit], positive[fit])[1] for fit, _ in folds], axis=0).tolist()


def problem_folds(labels: Sequence[bool], problems: Sequence[str]) -> Folds:
    """Rows to fit on and rows to score, whole problems apart.

    Each problem is a part by itself where they are few; otherwise there are parts with like shares of right ones.
    """
    positive, groups = np.asarray(labels, dtype=bool), np.asarray(problems)
    rows = np.zeros((len(groups), 1))
    alone = LeaveOneGroupOut()
    if len(set(problems)) <= _FEW_PROBLEMS:
        return list(alone.split(rows, positive, groups))
    scarcest = min(len(set(groups[positive])), len(set(groups[~positive])))
    folds = list(StratifiedGroupKFold(min(_FOLDS, scarcest)).split(rows, positive, groups))
    # A part may take every problem with a kind that is rare; one problem never does.
    has_both = all(0 < positive[fit].sum() < len(fit) for fit, _ in folds)
    return folds if has_both else list(alone.split(rows, positive, groups))
