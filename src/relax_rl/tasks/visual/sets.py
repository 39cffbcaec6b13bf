"""The visual benchmarks by name: where each is on the Hub, and which files of a local folder hold its splits."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relax_rl.errors import DataError
from relax_rl.tasks.files import DATA_SUFFIXES, file_rows
from relax_rl.tasks.rows import Row
from relax_rl.tasks.sources import Hub

__all__ = ["VISUAL_SETS", "VisualSet"]

_VARIANTS = tuple(f"sample_variant{number}" for number in range(1, 11))
_EMMA = ("Chemistry", "Coding", "Math", "Physics")


@dataclass(frozen=True)
class VisualSet:
    """A published set of problems with images.

    Attributes:
        about: one line.
        hub: name on the Hub.
        splits: our split -> the published ones that it joins, in order; also the first word of their files.
        sizes: problems by our split, as published.
        configs: configurations on the Hub; None for the only one, "" for the one with the name of the published split.
        num_variants: number of variants of each question; 1 where questions stand alone.
        is_on_hub: False: the images are in an archive beside the table, which the Hub's loader does not open.
    """

    about: str
    hub: str
    splits: Mapping[str, tuple[str, ...]]
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    configs: tuple[str | None, ...] = (None,)
    num_variants: int = 1
    is_on_hub: bool = True

    def hub_rows(self, published: str) -> Iterator[Row]:
        """Rows of a published split from the Hub. Raises DataError for what cannot be loaded."""
        if not self.is_on_hub:
            raise DataError(
                f"The images of {self.hub} are in an archive; download the data set (hf download {self.hub} "
                "--repo-type dataset --local-dir FOLDER), unpack images.zip in it, and name the folder (--task.path)."
            )
        for config in self.configs:
            yield from Hub(self.hub, published if config == "" else config, {published: published}).rows_of(published)

    def folder_rows(self, folder: Path, published: str) -> Iterator[Row]:
        """Rows of a published split from a local folder in the published layout. Raises DataError without a file."""
        if not folder.is_dir():
            raise DataError(f"There is no folder '{folder}'; give the folder of the files of {self.hub} (--task.path).")
        files = [file for file in _data_files(folder) if re.split(r"[-.]", file.name, maxsplit=1)[0] == published]
        # The same rows are often there in two formats; parquet has the images.
        kinds = [kind for kind in (".parquet", *DATA_SUFFIXES) if any(file.suffix.lower() == kind for file in files)]
        if not kinds:
            raise DataError(
                f"The folder '{folder}' has no file of the split '{published}' of {self.hub}; its name begins with "
                f"'{published}' and ends in {', '.join(DATA_SUFFIXES)}."
            )
        for file in files:
            if file.suffix.lower() == kinds[0]:
                yield from file_rows(file)


def _data_files(folder: Path) -> Iterable[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in DATA_SUFFIXES and file.is_file())


VISUAL_SETS: dict[str, VisualSet] = {
    "mathvista": VisualSet(
        "mathematics in images (Lu et al. 2023, arXiv:2310.02255)",
        "AI4Math/MathVista",
        {"test": ("testmini",)},
        {"test": 1000},
    ),
    "mathverse": VisualSet(
        "geometry and functions, five versions of each question (Zhang et al. 2024, arXiv:2403.14624)",
        "AI4Math/MathVerse",
        {"test": ("testmini",), "text_only": ("testmini_text_only",)},
        {"test": 3940, "text_only": 788},
        configs=("",),
    ),
    "mathvision": VisualSet(
        "competition problems with images (Wang et al. 2024, arXiv:2402.14804)",
        "MathLLMs/MathVision",
        {"test": ("test",), "testmini": ("testmini",)},
        {"test": 3040, "testmini": 304},
    ),
    "dynamath": VisualSet(
        "ten variants of each of 501 questions (Zou et al. 2024, arXiv:2411.00836)",
        "DynaMath/DynaMath_Sample",
        {"test": _VARIANTS},
        {"test": 5010},
        num_variants=len(_VARIANTS),
    ),
    "mmmu": VisualSet(
        "college subjects, images between words (Yue et al. 2023, arXiv:2311.16502)",
        "lmms-lab/MMMU",
        {"test": ("validation",), "dev": ("dev",)},
        {"test": 900, "dev": 150},
    ),
    "mmstar": VisualSet(
        "choices that need the image (Chen et al. 2024, arXiv:2403.20330)",
        "Lin-Chen/MMStar",
        {"test": ("val",)},
        {"test": 1500},
    ),
    "emma": VisualSet(
        "reasoning across images and words (Hao et al. 2025, arXiv:2501.05444)",
        "luckychao/EMMA",
        {"test": ("test",)},
        {"test": 2788},
        configs=_EMMA,
    ),
    "emma_mini": VisualSet(
        "100 problems of each subject of EMMA (Hao et al. 2025, arXiv:2501.05444)",
        "luckychao/EMMA-mini",
        {"test": ("test",)},
        {"test": 400},
        configs=_EMMA,
    ),
    "virl39k": VisualSet(
        "training problems with images (Wang et al. 2025, arXiv:2504.08837)",
        "TIGER-Lab/ViRL39K",
        {"train": ("39Krelease",)},
        {"train": 38870},
        is_on_hub=False,
    ),
}
"""By the name of the task."""
