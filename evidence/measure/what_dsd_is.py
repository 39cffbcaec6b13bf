"""Study A: what the dispersion of a completion's dynamics measures, and what it tells of the completion.

python -m evidence.measure.what_dsd_is --out runs/evidence --size small    the embedded policy, minutes
python -m evidence.measure.what_dsd_is --out runs/evidence --size full     SmolLM2 too (make smollm2), half an hour

Every table goes to OUT/a_*.csv. Which numbers count for what is in docs/research/evidence/plan.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from evidence.measure.associations import association
from evidence.measure.completions import Rollout, sample
from evidence.tables.tables import Rows, write_table
from relax_rl.evaluation import pass_at_k
from relax_rl.koopman import Dispersion, KoopmanDictionary, dispersion_from_lifted
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.koopman.pairs.snapshots import gram_from_trajectories
from relax_rl.koopman.spectra.eigenpairs import eigenpairs
from relax_rl.koopman.spectra.residuals import squared_residuals

ESTIMATORS = ("paper", "singular", "robust")
TRUSTED_RESIDUAL = 0.25
"""An eigenpair counts as spurious above this relative residual."""


@dataclass(frozen=True)
class Size:
    """How much of a policy is looked at."""

    policy: str
    num_problems: int
    num_samples: int
    length: int
    num_observables: int
    lengths: tuple[int, ...]
    batch_size: int = 256


SIZES = {
    "small": [Size("tiny", 48, 16, 96, 16, (24, 32, 40, 48, 64))],
    "full": [
        Size("tiny", 192, 32, 96, 16, (24, 32, 40, 48, 64, 80)),
        Size("smollm2", 24, 8, 192, 50, (64, 96, 128, 160, 192), batch_size=64),
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=21, help="of the sampling (%(default)s)")
    arguments = parser.parse_args()
    tables: dict[str, Rows] = {"length": [], "floor": [], "dictionary": [], "layer": [], "model": [], "prediction": []}
    for size in SIZES[arguments.size]:
        study(size, arguments.seed, tables)
        for name, rows in tables.items():  # after each policy: the larger one takes long
            write_table(arguments.out / f"a_{name}.csv", rows)


def study(size: Size, seed: int, tables: dict[str, Rows]) -> None:
    """Append one policy's rows to every table."""
    rollout = sample(
        size.policy, size.num_problems, size.num_samples, size.length, seed=seed, batch_size=size.batch_size
    )
    layers = list(range(rollout.model.config.num_hidden_layers + 1))
    chosen = layers if len(layers) <= 8 else (*layers[:: len(layers) // 6], layers[-1])
    states, entropies = rollout.states(tuple(dict.fromkeys(chosen)))
    last = [row[layers[-1]] for row in states]
    dictionary = fit(last, size.num_observables)
    lifted = [dictionary(row) for row in last]
    tables["length"] += [{"policy": rollout.name, **row} for row in by_length(lifted, size.lengths)]
    tables["floor"] += [{"policy": rollout.name, **row} for row in noise_floor(lifted)]
    tables["dictionary"] += [{"policy": rollout.name, **row} for row in by_dictionary(last, lifted)]
    tables["layer"] += [{"policy": rollout.name, **row} for row in by_layer(states, size.num_observables)]
    tables["model"] += by_model(rollout, last, size, seed)
    tables["prediction"] += [{"policy": rollout.name, **row} for row in predictions(rollout, lifted, entropies)]


def fit(trajectories: list[Tensor], num_observables: int, seed: int = 0) -> KoopmanDictionary:
    """A dictionary for these states, fitted on every other trajectory at most 256."""
    return KoopmanDictionary.fit(trajectories[::2][:256], num_observables=num_observables, steps=60, seed=seed)


def dispersion(lifted: list[Tensor], estimator: str) -> Dispersion:
    """DSD of ragged lifted trajectories (T_i, F)."""
    padded = torch.nn.utils.rnn.pad_sequence(lifted, batch_first=True)
    mask = torch.arange(padded.shape[1]) < torch.tensor([len(row) for row in lifted]).unsqueeze(1)
    return dispersion_from_lifted(padded, mask, estimator)  # type: ignore[arg-type]


def defined(lifted: list[Tensor], estimator: str) -> np.ndarray:
    """DSD (rows,), NaN where it is not defined."""
    found = dispersion(lifted, estimator)
    return torch.where(found.is_defined, found.values, torch.nan).numpy()


def by_length(lifted: list[Tensor], lengths: tuple[int, ...], estimators: Sequence[str] = ESTIMATORS) -> Iterator[dict]:
    """The same completions, those of at least the greatest length, cut to each length."""
    long_enough = [row for row in lifted if len(row) >= lengths[-1]]
    for estimator in estimators:
        for length in lengths:
            values = defined([row[:length] for row in long_enough], estimator) if long_enough else np.array([np.nan])
            yield {
                "estimator": estimator,
                "length": length,
                "completions": len(long_enough),
                "defined": float(np.isfinite(values).mean()),
                **mean_with_interval(values),
            }


def noise_floor(lifted: list[Tensor], estimators: Sequence[str] = ESTIMATORS) -> Iterator[dict]:
    """DSD as it is, and of the same states in a random order, which have no dynamics to speak of."""
    generator = torch.Generator().manual_seed(0)
    shuffled = [row[torch.randperm(len(row), generator=generator)] for row in lifted]
    for estimator in estimators:
        own, null = defined(lifted, estimator), defined(shuffled, estimator)
        found = dispersion(lifted, estimator)
        keep = np.isfinite(own)
        conditions, lengths = found.condition.numpy()[keep], found.num_pairs.numpy()[keep]
        yield {
            "estimator": estimator,
            "completions": int(keep.sum()),
            "dsd": mean(own),
            "dsd_shuffled": mean(null),
            # A completion whose shuffled states have no DSD at all stands out, too.
            "share_above_null": mean((~(own[keep] <= null[keep])).astype(float)),
            "max_modulus_mean": mean(found.spectral_radius.numpy()[keep]),
            "condition_median": float(np.median(conditions)) if keep.any() else float("nan"),
            "spearman_condition": rank_correlation(own[keep], conditions),
            "spearman_length": rank_correlation(own[keep], lengths),
            "spurious_share": spurious_share(lifted),
        }


def mean(values: np.ndarray) -> float:
    """Over the defined values; NaN of none."""
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else float("nan")


def rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's; NaN of fewer than three values."""
    return float(stats.spearmanr(x, y).statistic) if len(x) > 2 else float("nan")  # pyright: ignore[reportAttributeAccessIssue]


def spurious_share(lifted: list[Tensor]) -> float:
    """Share of eigenpairs of the pooled operator whose relative residual exceeds ``TRUSTED_RESIDUAL``."""
    statistics = gram_from_trajectories(lifted, lambda states: states)
    values, vectors = eigenpairs(least_squares_operator(statistics).matrix)
    residuals = squared_residuals(statistics, values, vectors).clamp_min(0).sqrt()
    return float((residuals > TRUSTED_RESIDUAL).double().mean())


def by_dictionary(
    states: list[Tensor], reference: list[Tensor], estimators: Sequence[str] = ESTIMATORS
) -> Iterator[dict]:
    """Other seeds and numbers of observables: the mean, and whether completions keep their order."""
    num_observables = reference[0].shape[1]
    own = {estimator: defined(reference, estimator) for estimator in estimators}
    for count in (num_observables // 2, num_observables):
        for seed in (1, 2, 3):
            lifted = lifts(states, count, seed)
            for estimator in estimators:
                values = defined(lifted, estimator)
                both = np.isfinite(values) & np.isfinite(own[estimator])
                yield {
                    "estimator": estimator,
                    "num_observables": count,
                    "seed": seed,
                    "dsd": mean(values),
                    "dsd_reference": mean(own[estimator]),
                    "spearman_with_reference": rank_correlation(values[both], own[estimator][both]),
                }


def lifts(states: list[Tensor], num_observables: int, seed: int) -> list[Tensor]:
    """Trajectories lifted by a dictionary of their own."""
    dictionary = fit(states, num_observables, seed)
    return [dictionary(row) for row in states]


def by_layer(
    states: list[dict[int, Tensor]], num_observables: int, estimators: Sequence[str] = ESTIMATORS
) -> Iterator[dict]:
    """The same completions at every layer, each with a dictionary of its own."""
    for layer in states[0]:
        lifted = lifts([row[layer] for row in states], num_observables, 0)
        for estimator in estimators:
            yield {"estimator": estimator, "layer": layer, **mean_with_interval(defined(lifted, estimator))}


def by_model(rollout: Rollout, last: list[Tensor], size: Size, seed: int) -> Rows:
    """Trained against untrained weights of the same shape, which write completions of their own."""
    blank = sample(
        size.policy,
        max(8, size.num_problems // 4),
        size.num_samples,
        size.length,
        seed=seed,
        random_weights=True,
        batch_size=size.batch_size,
    )
    states, _ = blank.states()
    untrained = [row[-1] for row in states]
    pairs = ((rollout.name, last), (blank.name, untrained))
    return [row for name, trajectories in pairs for row in of_model(name, trajectories, size.num_observables)]


def of_model(
    name: str, trajectories: list[Tensor], num_observables: int, estimators: Sequence[str] = ESTIMATORS
) -> Iterator[dict]:
    """The mean DSD of one set of weights, under a dictionary of its own."""
    lifted = lifts(trajectories, num_observables, 0)
    for estimator in estimators:
        yield {"policy": name, "estimator": estimator, **mean_with_interval(defined(lifted, estimator))}


def predictions(
    rollout: Rollout, lifted: list[Tensor], entropies: list[Tensor], estimators: Sequence[str] = ESTIMATORS
) -> Iterator[dict]:
    """Rank correlations of DSD with what one would like it to stand for, raw and given length.

    Within problems: each completion's DSD against its correctness and entropy. Between problems: the mean DSD of a
    problem's completions against the diversity and the success of those completions.
    """
    shape = rollout.correct.shape
    lengths = np.array([one.num_tokens for row in rollout.completions for one in row], dtype=float)
    entropy = np.array([float(row.mean()) for row in entropies])
    correct = rollout.correct.flatten().numpy().astype(float)
    texts = [[one.text for one in row] for row in rollout.completions]
    groups = {
        "distinct_completions": np.array([len(set(row)) / len(row) for row in texts]),
        "distinct_correct": np.array(
            [
                len({t for t, ok in zip(row, good, strict=True) if ok})
                for row, good in zip(texts, rollout.correct, strict=True)
            ]
        ),
        "mean_at_1": rollout.correct.double().mean(1).numpy(),
        "pass_at_8": np.array([pass_at_k(shape[1], int(row.sum()), min(8, shape[1])) for row in rollout.correct]),
        "entropy": entropy.reshape(shape).mean(1),
    }
    problem = np.repeat(np.arange(shape[0]), shape[1])
    for estimator in estimators:
        dsd = defined(lifted, estimator)
        for name, target in (("correct", correct), ("entropy", entropy)):
            yield {
                "estimator": estimator,
                "unit": "completion",
                "target": name,
                **association(dsd, target, lengths, problem),
            }
        keep = np.isfinite(dsd).reshape(shape)
        counts = np.maximum(keep.sum(1), 1)
        mean_dsd = np.where(keep.any(1), np.where(keep, dsd.reshape(shape), 0).sum(1) / counts, np.nan)
        mean_length = lengths.reshape(shape).mean(1)
        for name, target in groups.items():
            row = association(mean_dsd, target, mean_length, np.arange(shape[0]))
            yield {"estimator": estimator, "unit": "problem", "target": name, **row}


def mean_with_interval(values: np.ndarray) -> dict[str, float]:
    """Mean over the defined values and its 95 % interval by the t distribution."""
    values = values[np.isfinite(values)]
    if len(values) < 2:
        return {"count": float(len(values)), "mean": float("nan"), "low": float("nan"), "high": float("nan")}
    low, high = stats.t.interval(0.95, len(values) - 1, values.mean(), stats.sem(values))
    return {"count": float(len(values)), "mean": float(values.mean()), "low": float(low), "high": float(high)}


if __name__ == "__main__":
    main()
