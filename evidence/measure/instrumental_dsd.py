"""Study A again, with the instrumental estimator beside the three, on the same completions; and pooled over them.

python -m evidence.measure.instrumental_dsd --out evidence/results --keep runs/study_a    half an hour of a core
python -m evidence.measure.instrumental_dsd --out runs/tables --policies tiny             minutes
python -m evidence.measure.instrumental_dsd --out runs/tables --tables layer model        only questions A5 and A6

Tables go to OUT/a_instrumental_*.csv; docs/research/evidence/study-a-instrumental.md says what they show. A table
that is there keeps its rows of other policies. Completions and finished tables are kept in KEEP: call it again after a
stop and it continues.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from evidence.measure.completions import Rollout, sample
from evidence.measure.what_dsd_is import (
    Size,
    by_dictionary,
    by_layer,
    by_length,
    fit,
    lifts,
    noise_floor,
    of_model,
    predictions,
)
from evidence.tables.tables import Rows, read_table, write_table
from relax_rl.koopman import Estimator, dmd, subspace_dmd
from relax_rl.koopman.spectra.bagging import bagged_spectrum
from relax_rl.runs.files import write_whole

ESTIMATORS = get_args(Estimator)
SIZES = {
    "tiny": Size("tiny", 64, 16, 96, 16, (40, 48, 64, 80)),
    "smollm2": Size("smollm2", 8, 6, 192, 50, (96, 128, 160, 192), batch_size=64),
}
TABLES = ("floor", "length", "prediction", "dictionary", "pooled", "model", "layer")
"""The cheap ones first."""
POOLED_RANK = 4
"""Directions of the pooled fits. Instruments need directions that the past predicts: a small number."""
BAGS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--keep", type=Path, default=Path("runs/evidence/study_a"))
    parser.add_argument("--policies", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--seed", type=int, default=21, help="of the sampling (%(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for policy in arguments.policies:
        subject = Subject(SIZES[policy], arguments.seed, arguments.keep / policy)
        for name in arguments.tables:
            path = arguments.out / f"a_instrumental_{name}.csv"
            write_table(path, rows_of_others(path, policy) + subject.table(name))


def rows_of_others(path: Path, policy: str) -> Rows:
    """The rows of a table, if there is one, that are neither of this policy nor of its random weights."""
    rows = read_table(path) if path.is_file() else []
    return [row for row in rows if row["policy"] not in (policy, f"{policy} (random)")]


class Subject:
    """One policy and its random weights: completions, states and tables, each made once and kept in a folder."""

    def __init__(self, size: Size, seed: int, folder: Path) -> None:
        self._size, self._seed, self._folder = size, seed, folder
        folder.mkdir(parents=True, exist_ok=True)

    def table(self, name: str) -> Rows:
        """The rows of one of ``TABLES``."""
        path = self._folder / f"{name}.json"
        if not path.is_file():
            rows = [{"policy": self._size.policy, **row} for row in self._measured(name)]
            write_whole(path, json.dumps(rows))
        return json.loads(path.read_text("utf-8"))

    def _measured(self, name: str) -> Iterable[dict]:
        size = self._size
        match name:
            case "floor":
                return noise_floor(self._lifted, ESTIMATORS)
            case "length":
                return by_length(self._lifted, size.lengths, ESTIMATORS)
            case "prediction":
                return predictions(self._trained, self._lifted, self._states[1], ESTIMATORS)
            case "dictionary":
                return by_dictionary(self._last, self._lifted, ESTIMATORS)
            case "pooled":
                return self._pooled()
            case "model":
                return self._models()
            case _:
                return by_layer(self._states[0], size.num_observables, ESTIMATORS)

    def _sampled(self, name: str, num_problems: int, random_weights: bool = False) -> Rollout:
        size = self._size
        return sample(
            size.policy,
            num_problems,
            size.num_samples,
            size.length,
            seed=self._seed,
            random_weights=random_weights,
            batch_size=size.batch_size,
            kept=self._folder / f"{name}.completions.json",
        )

    @cached_property
    def _trained(self) -> Rollout:
        return self._sampled("trained", self._size.num_problems)

    @cached_property
    def _states(self) -> tuple[list[dict[int, Tensor]], list[Tensor]]:
        depth = self._trained.model.config.num_hidden_layers
        layers = range(depth + 1) if depth < 8 else (*range(0, depth + 1, depth // 3), depth)
        return self._trained.states(tuple(dict.fromkeys(layers)), batch=16)

    @cached_property
    def _last(self) -> list[Tensor]:
        return [row[self._trained.model.config.num_hidden_layers] for row in self._states[0]]

    @cached_property
    def _lifted(self) -> list[Tensor]:
        dictionary = fit(self._last, self._size.num_observables)
        return [dictionary(row) for row in self._last]

    @cached_property
    def _untrained(self) -> list[Tensor]:
        blank = self._sampled("random", max(4, self._size.num_problems // 4), random_weights=True)
        return [row[-1] for row in blank.states(batch=16)[0]]

    def _models(self) -> Iterator[dict]:
        for name, trajectories in self._by_weights.items():
            yield from of_model(name, trajectories, self._size.num_observables, ESTIMATORS)

    def _pooled(self) -> Iterator[dict]:
        for name, trajectories in self._by_weights.items():
            lifted = lifts(trajectories, self._size.num_observables, 0)
            yield from ({"policy": name, **row} for row in pooled(lifted))

    @property
    def _by_weights(self) -> dict[str, list[Tensor]]:
        name = self._size.policy
        return {name: self._last, f"{name} (random)": self._untrained}


def pooled(lifted: list[Tensor]) -> Iterator[dict]:
    """Moduli of one operator fitted on the pairs of all completions, with intervals by completion.

    Noise of measurement lowers those of least squares. Those by instruments and by subspace DMD are free of it, so
    that the difference is how much of the states one step of the dynamics does not explain.
    """
    mean = torch.cat(lifted).double().mean(0)
    centred = [row.double() - mean for row in lifted if len(row) >= 4]
    fits: dict[str, Callable[[list[Tensor]], Tensor]] = {
        "least squares": lambda parts: dmd(parts, rank=POOLED_RANK).eigenvalues,
        "instrumental": lambda parts: dmd(parts, rank=POOLED_RANK, variant="instrumental").eigenvalues,
        "subspace": lambda parts: subspace_dmd(parts, rank=POOLED_RANK).eigenvalues,
    }
    for name, fitted in fits.items():
        found = bagged_spectrum(centred, fitted, bags=BAGS)
        row: dict = {"fit": name, "completions": len(centred), "rank": POOLED_RANK}
        for quantity, of in (("mean_modulus", _mean_modulus), ("largest", _largest), ("dsd", _variance)):
            low, high = found.interval(of)
            row |= {
                quantity: float(of(found.eigenvalues)),
                f"{quantity}_low": float(low),
                f"{quantity}_high": float(high),
            }
        yield row


def _mean_modulus(values: Tensor) -> Tensor:
    return values.abs().clamp_max(1.0).mean(-1)


def _largest(values: Tensor) -> Tensor:
    return values.abs().amax(-1)


def _variance(values: Tensor) -> Tensor:
    return values.abs().clamp_max(1.0).var(-1, correction=0)


if __name__ == "__main__":
    main()
