"""A folder of recorded hidden states as latent trajectories: one at a time, whatever program wrote them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.latent.recording_files import RECORDING_SUFFIXES, RecordedStates, read_recording_file
from relax_rl.latent.sites import EMBED, FINAL_NORM
from relax_rl.latent.store import LatentStore
from relax_rl.latent.trajectories import LatentTrajectory

__all__ = ["Recording", "RecordingFolder", "layer_sites"]

_MOST_SITES = 5
_UNKNOWN_TOKEN = -1


@dataclass(frozen=True)
class Recording:
    """One trajectory of a folder.

    Attributes:
        id: the file's name within the folder, and the trajectory's name in it.
        file: its path.
        place: its position in the file.
        num_tokens: T, without the first ones that are left out.
        key: the same as long as the file is.
    """

    id: str
    file: Path
    place: int
    num_tokens: int
    key: str


@dataclass
class RecordingFolder:
    """Recorded states, indexed once; reading goes file by file.

    Args:
        path: a folder (its subfolders too) of files as in :mod:`relax_rl.latent.recording_files`, one such file, or a
            latent store of states.
        layers: sites of the layers of stacked states, in their order; see :func:`layer_sites`.
        skip: number of first states of each trajectory that are left out; 1, since most models use the first token as
            a sink of attention. Rows of a latent store are taken whole: it left them out when it was written.

    Raises:
        DataError: no folder, nothing in it, states without names, or trajectories of different sites or widths.
    """

    path: Path
    layers: Sequence[str] = ()
    skip: int = 1
    recordings: list[Recording] = field(init=False)
    widths: dict[str, int] = field(init=False)
    is_before_norm: bool = field(init=False, default=False)
    """Whether stacked states were found, whose last layer vLLM writes without the final norm."""

    def __post_init__(self) -> None:
        if self.skip < 0:
            raise ConfigError(f"--skip is {self.skip}; give 0 or more.")
        if not self.path.exists():
            raise DataError(
                f"There are no states in '{self.path}': it does not exist; name a folder with --states DIR."
            )
        self.recordings, self.widths = [], {}
        self._store = LatentStore(self.path) if (self.path / "store.json").is_file() else None
        first = ""
        for identity, key, file, place, states in self._all():
            widths = {site: values.shape[-1] for site, values in states.items()}
            shared = {site: width for site, width in self.widths.items() if site in widths}
            if self.widths and not shared:
                raise DataError(
                    f"'{identity}' has no state named {next(iter(self.widths))}, which '{first}' has; give both one "
                    "name."
                )
            self.widths = shared or widths
            different = next((site for site, width in self.widths.items() if widths[site] != width), None)
            if different is not None:
                raise DataError(
                    f"The states named {different} have width {widths[different]} in '{identity}' and "
                    f"{self.widths[different]} in '{first}'; keep one model in a folder."
                )
            first = first or identity
            self.recordings.append(Recording(identity, file, place, len(next(iter(states.values()))), key))
        if not self.recordings:
            raise DataError(
                f"There are no states in '{self.path}'; it needs files named {', '.join(RECORDING_SUFFIXES)}, or a "
                "latent store."
            )

    def default_sites(self) -> list[str]:
        """The sites that all trajectories have; of more than five, the first, the last and three between."""
        known = [site for site in self.widths if site in (EMBED, FINAL_NORM) or site.startswith("layer_")]
        sites = sorted(known, key=_depth) or list(self.widths)
        if len(sites) <= _MOST_SITES:
            return sites
        places = [round(part * (len(sites) - 1) / (_MOST_SITES - 1)) for part in range(_MOST_SITES)]
        return [sites[place] for place in places]

    def read(
        self, rows: Sequence[int], sites: Sequence[str], derive: Callable[[Tensor], Tensor] | None = None, of: str = ""
    ) -> Iterator[LatentTrajectory]:
        """The trajectories of these rows, file by file.

        Args:
            rows: positions in `recordings`.
            sites: to be read.
            derive: the final norm, where `sites` has ``final_norm_out`` and the folder has only the state before it.
            of: the site of that state.
        """
        wanted = {(self.recordings[row].file, self.recordings[row].place): row for row in rows}
        for _, _, file, place, states in self._all({file for file, _ in wanted}):
            row = wanted.get((file, place))
            if row is None:
                continue
            kept = {site: states[site] if site in states or derive is None else derive(states[of]) for site in sites}
            yield LatentTrajectory(row, kept, (_UNKNOWN_TOKEN,) * len(next(iter(kept.values()))))

    def _all(self, files: set[Path] | None = None) -> Iterable[tuple[str, str, Path, int, dict[str, Tensor]]]:
        """Identity, key, file, place and states of every trajectory."""
        if self._store is not None:
            yield from self._stored(self._store)
            return
        for file in sorted(self._files()):
            if files is not None and file not in files:
                continue
            about = file.stat()
            name = file.name if self.path.is_file() else str(file.relative_to(self.path))
            for place, recorded in enumerate(read_recording_file(file)):
                identity = name + (f":{recorded.name}" if recorded.name else "")
                # Not of the content, which may be a terabyte: a file that was written again has another time.
                stamp = f"{identity} {about.st_size} {about.st_mtime_ns} {self.skip}"
                key = hashlib.blake2b(stamp.encode(), digest_size=16).hexdigest()
                states = self._named(recorded, identity)
                if len(next(iter(states.values()))) < 1:
                    raise DataError(
                        f"'{identity}' has {recorded.num_tokens} states, of which the first {self.skip} are left out "
                        "(--skip); leave the file out, or give --skip 0."
                    )
                yield identity, key, file, place, states

    def _files(self) -> Iterator[Path]:
        if self.path.is_file():
            if self.path.suffix.lower() not in RECORDING_SUFFIXES:
                raise DataError(f"'{self.path}' is no file of states; they are named {', '.join(RECORDING_SUFFIXES)}.")
            yield self.path
            return
        for file in self.path.rglob("*"):
            hidden = any(part.startswith(".") for part in file.relative_to(self.path).parts)
            if file.is_file() and file.suffix.lower() in RECORDING_SUFFIXES and not hidden:
                yield file

    def _stored(self, store: LatentStore) -> Iterator[tuple[str, str, Path, int, dict[str, Tensor]]]:
        if store.about.get("holds") != "states":
            raise DataError(
                f"The latent store '{self.path}' holds statistics in place of states; give it as --store to the "
                "command that made it, with --statistics-only."
            )
        for place, row in enumerate(store):
            yield row.columns.get("id", row.key), row.key, store.path, place, dict(row.tensors)

    def _named(self, recorded: RecordedStates, identity: str) -> dict[str, Tensor]:
        if recorded.stacked is None:
            return {site: values[self.skip :] for site, values in recorded.states.items()}
        self.is_before_norm = True
        depth = recorded.stacked.shape[1]
        if len(self.layers) != depth:
            named = f"--layer-ids names {len(self.layers)}" if self.layers else "the file does not name them"
            raise DataError(
                f"'{identity}' holds {depth} layers, and {named}; give the numbers that vLLM was given as "
                f"eagle_aux_hidden_state_layer_ids, {depth} of them, as in --layer-ids 1,14,28."
            )
        return {site: recorded.stacked[self.skip :, layer] for layer, site in enumerate(self.layers)}


def layer_sites(layer_ids: Sequence[int]) -> list[str]:
    """Our sites of vLLM's layer ids: k is what enters layer k, so 0 is the embedding and L leaves the last layer.

    Raises:
        ConfigError: a negative id, or one that is named twice.
    """
    if any(layer < 0 for layer in layer_ids) or len(set(layer_ids)) < len(layer_ids):
        raise ConfigError(f"--layer-ids are {list(layer_ids)}; give numbers of at least 0, each once.")
    return [EMBED if layer == 0 else f"layer_{layer - 1}_out" for layer in layer_ids]


def _depth(site: str) -> float:
    if site in (EMBED, FINAL_NORM):
        return -1.0 if site == EMBED else float("inf")
    number = site.removeprefix("layer_").removesuffix("_out")
    return float(number) if number.isdecimal() else float(torch.iinfo(torch.int32).max)
