"""Sources of spectra: texts read by the model or found in a store, each measured by the rulers of its sites."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from relax_rl.errors import DataError
from relax_rl.koopman import GramStatistics
from relax_rl.koopman.dictionaries.protocol import StoredDictionary
from relax_rl.latent.store import LatentStore, StoreRow
from relax_rl.latent.trajectories import LatentTrajectory, capture_sequences
from relax_rl.spectra.rulers import SiteRuler, SpectrumSettings, TrajectorySpectrum, measure

__all__ = ["Capture", "LatentText", "MeasuredText", "Source", "TextReader", "capture_texts"]


@dataclass(frozen=True)
class LatentText:
    """A text for the model.

    Attributes:
        id: id of the prompt.
        token_ids: all of them.
        start: number of first ones that are read but not measured: the prompt; or 1, since most models use the first
            token as a sink of attention, where the state is a hundred times as large as any other, whatever the text.
    """

    id: str
    token_ids: tuple[int, ...]
    start: int = 1

    @property
    def key(self) -> str:
        """The same for the same tokens."""
        content = json.dumps([self.start, *self.token_ids]).encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @property
    def num_tokens(self) -> int:
        """Those that are measured."""
        return len(self.token_ids) - self.start


class Source(Protocol):
    """Source of a trajectory: a text, or a recording of one."""

    @property
    def id(self) -> str:
        """Id of the prompt."""
        ...

    @property
    def key(self) -> str:
        """Unique in a store."""
        ...

    @property
    def num_tokens(self) -> int:
        """T of the trajectory."""
        ...


Capture = Callable[[Sequence[int]], Iterator[LatentTrajectory]]
"""Gives the trajectories of the sources at these positions, in any order; `row` says which each is."""


@dataclass(frozen=True)
class MeasuredText:
    """One text, by site.

    Attributes:
        lifted: (T, F) observables of its states; of the first texts alone, and not of a text from a store.
    """

    spectra: dict[str, TrajectorySpectrum]
    statistics: dict[str, GramStatistics]
    paths: dict[str, Tensor]
    num_state_bytes: int
    lifted: dict[str, Tensor] = field(default_factory=dict[str, Tensor])

    @classmethod
    def of(
        cls, trajectory: LatentTrajectory, identity: str, rulers: dict[str, SiteRuler], settings: SpectrumSettings
    ) -> MeasuredText:
        found = {
            site: measure(states, rulers[site], identity, settings.estimators)
            for site, states in trajectory.states.items()
        }
        keeps = trajectory.row < settings.num_paths
        return cls(
            {site: spectrum for site, (spectrum, _, _) in found.items()},
            {site: statistics for site, (_, statistics, _) in found.items() if statistics is not None},
            {site: path for site, (_, _, path) in found.items()},
            sum(states.nbytes for states in trajectory.states.values()),
            {
                site: rulers[site].dictionary(states)
                for site, states in trajectory.states.items()
                if keeps and found[site][0].is_finite
            },
        )

    def to_row(self, text: Source, num_tokens: int) -> StoreRow:
        tensors = {f"{site}/path": path for site, path in self.paths.items()}
        for site, statistics in self.statistics.items():
            tensors |= {f"{site}/{part}": getattr(statistics, part) for part in ("gram", "cross", "future")}
        spectra = {site: spectrum.to_dict() for site, spectrum in self.spectra.items()}
        return StoreRow(text.key, tensors, num_tokens, {"spectra": spectra, "num_state_bytes": self.num_state_bytes})

    @classmethod
    def from_row(cls, row: StoreRow, identity: str) -> MeasuredText:
        spectra = {
            site: TrajectorySpectrum.from_dict(data | {"id": identity}) for site, data in row.columns["spectra"].items()
        }
        statistics = {
            site: GramStatistics(
                row.tensors[f"{site}/gram"],
                row.tensors[f"{site}/cross"],
                row.tensors[f"{site}/future"],
                torch.tensor(row.num_tokens - 1),
            )
            for site in spectra
            if f"{site}/gram" in row.tensors
        }
        paths = {site: row.tensors[f"{site}/path"] for site in spectra}
        return cls(spectra, statistics, paths, row.columns["num_state_bytes"])


class TextReader:
    """Source of trajectories: the model, what was kept in memory for the fit, or the store."""

    def __init__(
        self,
        texts: Sequence[Source],
        sites: list[str],
        capture: Capture,
        store: LatentStore | None,
        keep_statistics_only: bool,
    ) -> None:
        self._texts, self._sites = texts, sites
        self._captured, self._store = capture, store
        self._is_statistics = store is not None and keep_statistics_only
        self._is_states = store is not None and not keep_statistics_only
        self._held: dict[int, LatentTrajectory] = {}

    def stored_rulers(self, dictionaries: Mapping[str, StoredDictionary]) -> dict[str, SiteRuler] | None:
        """Those with which the statistics in the store were made; None where there are none yet.

        Raises:
            DataError: a dictionary given is another one than that in the store.
        """
        if not self._is_statistics or self._store is None or not (self._store.path / "rulers").is_dir():
            return None
        rulers = {site: SiteRuler.load(self._store.path / "rulers", site) for site in self._sites}
        for site, dictionary in dictionaries.items():
            if site in rulers and rulers[site].dictionary.digest != dictionary.digest:
                raise DataError(
                    f"The statistics in {self._store.path} were made with another dictionary for '{site}' than the one "
                    "given; leave it out, or name another store."
                )
        return rulers

    def keep_rulers(self, rulers: dict[str, SiteRuler]) -> None:
        if self._is_statistics and self._store is not None and not (self._store.path / "rulers").is_dir():
            for ruler in rulers.values():
                ruler.save(self._store.path / "rulers")

    def first(self, num_tokens: int) -> list[LatentTrajectory]:
        """The first texts that hold so many tokens, at least one, in their order; they stay in memory."""
        rows, total = [], 0
        for row, text in enumerate(self._texts):
            if total >= num_tokens:
                break
            rows.append(row)
            total += text.num_tokens
        self._held = {trajectory.row: trajectory for trajectory in self._states(rows)}
        return [self._held[row] for row in rows]

    def measured(self, rulers: dict[str, SiteRuler], settings: SpectrumSettings) -> Iterator[tuple[int, MeasuredText]]:
        """Every text once, in no particular order."""
        if not self._is_statistics or self._store is None:
            for trajectory in self._states(range(len(self._texts))):
                text = self._texts[trajectory.row]
                yield trajectory.row, MeasuredText.of(trajectory, text.id, rulers, settings)
            return
        known = self._store.keys
        rows_of: dict[str, list[int]] = {}
        for row, text in enumerate(self._texts):
            rows_of.setdefault(text.key, []).append(row)
        owed = [rows[0] for key, rows in rows_of.items() if key not in known]
        with self._store:
            for trajectory in self._states(owed):
                text = self._texts[trajectory.row]
                found = MeasuredText.of(trajectory, text.id, rulers, settings)
                self._store.append(found.to_row(text, len(trajectory)))
        for stored in self._store:
            for row in rows_of.get(stored.key, ()):
                yield row, MeasuredText.from_row(stored, self._texts[row].id)

    def _states(self, rows: Sequence[int]) -> Iterator[LatentTrajectory]:
        """The trajectories of these texts, from memory, the store, or the model, which then adds them to the store."""
        yield from (self._held[row] for row in rows if row in self._held)
        rows = [row for row in rows if row not in self._held]
        if not self._is_states or self._store is None:
            yield from self._captured(rows)
            return
        rows_of: dict[str, list[int]] = {}
        for row in rows:
            rows_of.setdefault(self._texts[row].key, []).append(row)
        with self._store:
            for trajectory in self._captured([rows[0] for key, rows in rows_of.items() if key not in self._store.keys]):
                text = self._texts[trajectory.row]
                columns = {"id": text.id, "token_ids": trajectory.token_ids}
                self._store.append(StoreRow(text.key, trajectory.states, len(trajectory), columns))
        for stored in self._store:
            for row in rows_of.get(stored.key, ()):
                states = {site: stored.tensors[site] for site in self._sites}
                yield LatentTrajectory(row, states, tuple(stored.columns["token_ids"]))


def capture_texts(model: Any, texts: Sequence[LatentText], sites: list[str], tokens_per_batch: int) -> Capture:
    """The trajectories of texts as the model reads them."""

    def capture(rows: Sequence[int]) -> Iterator[LatentTrajectory]:
        chosen = [texts[row] for row in rows]
        for trajectory in capture_sequences(
            model,
            [text.token_ids for text in chosen],
            sites,
            starts=[text.start for text in chosen],
            tokens_per_batch=tokens_per_batch,
        ):
            yield replace(trajectory, row=rows[trajectory.row])

    return capture
