"""One page about one run or several, or about a folder of `relax compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from relax_rl.comparison.contents import Contents
from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory

__all__ = ["report"]


def report(runs: str | Path | Sequence[str | Path], output: str | Path | None = None) -> Path:
    """Write one self-contained HTML page: curves, results, spectra, completions.

    Args:
        runs: run directories, in the order of the figures' legends, or one folder of `relax compare`.
        output: the HTML file; its folder is made, an existing file is replaced. None: ``report.html`` in the first run.

    Returns:
        The path of the page.

    Raises:
        RunError: no run, a path without a run, a broken run, or a file that cannot be written.
        DataError: an evaluation that cannot be read.
    """
    places = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not places:
        raise RunError("a report needs at least one run directory; name the runs that 'relax train' wrote.")
    if len(places) == 1 and Contents.is_in(places[0]):
        contents = Contents.read(places[0])
        paths, methods = contents.evaluated_runs(places[0])
        folder, baseline, metrics = places[0], contents.baseline, contents.metrics
    else:
        paths = [RunDirectory.open(place).path for place in places]
        folder, methods, baseline, metrics = paths[0], None, None, None

    from relax_rl.reports.page import write_report  # after the checks: drawing takes a second to import

    page = folder / "report.html" if output is None else Path(output)
    return write_report(paths, page, methods=methods, baseline=baseline, metrics=metrics)
