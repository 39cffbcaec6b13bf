"""The page at the end of runs that are finished: what only shows them must not undo them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["page_if_possible"]


def page_if_possible(paths: Sequence[Path], page: Path, **options: Any) -> Path | None:
    """The report of some runs, as `relax_rl.reports.page.write_report` draws it; None, with a warning, if it cannot.

    Args:
        paths: the run directories.
        page: the HTML file.
        options: further arguments of `write_report`.
    """
    try:
        from relax_rl.reports.page import write_report

        return write_report(paths, page, **options)
    except Exception as error:
        # Whatever it is: the runs are there, and the page can be drawn at any time.
        runs = " ".join(str(path) for path in paths)
        warnings.warn(
            f"The runs are finished, but the page {page} cannot be drawn ({type(error).__name__}: {error}); draw it "
            f"with relax report {runs}.",
            stacklevel=2,
        )
        return None
