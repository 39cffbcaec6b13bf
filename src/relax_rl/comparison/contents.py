"""Contents of a folder that ``relax compare`` wrote, by its ``comparison.json``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory, write_whole

__all__ = ["Contents"]

_FILE = "comparison.json"


@dataclass(frozen=True)
class Contents:
    """The last request.

    Attributes:
        baseline: the method that the others are compared with.
        methods: label to folder.
        seeds: each has a run under each method's folder.
        metrics: metrics whose differences are tested; None for mean@1 and the largest pass@k.
        frontier: methods that trace the frontier which the others are held against; none without.
    """

    baseline: str
    methods: dict[str, str]
    seeds: Sequence[int]
    metrics: Sequence[str] | None = None
    frontier: Sequence[str] = ()

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether the folder is one of a comparison."""
        return (folder / _FILE).is_file()

    @classmethod
    def read(cls, folder: Path) -> Contents:
        """Raises ``RunError`` where the file is not what `write` wrote."""
        try:
            found = json.loads((folder / _FILE).read_text("utf-8"))
            metrics = found.get("metrics")
            return cls(
                str(found["baseline"]),
                dict(found["methods"]),
                [int(seed) for seed in found["seeds"]],
                None if metrics is None else [str(name) for name in metrics],
                [str(name) for name in found.get("frontier", ())],
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{folder / _FILE} cannot be read ({error}); run 'relax compare' there once more") from error

    def write(self, folder: Path) -> None:
        """Keep it in the folder."""
        write_whole(folder / _FILE, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def evaluated_runs(self, folder: Path) -> tuple[list[Path], list[str]]:
        """Run directories that were evaluated after training, and the method of each; methods of a seed together."""
        places = [(folder / name / f"seed{seed}", label) for seed in self.seeds for label, name in self.methods.items()]
        kept = [place for place in places if RunDirectory(place[0]).is_evaluated("after")]
        return [path for path, _ in kept], [label for _, label in kept]
