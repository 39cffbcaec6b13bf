"""One page about one run or several, about a folder of `relax compare`, or about all runs of a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from relax_rl.comparison.contents import Contents
from relax_rl.errors import RunError
from relax_rl.runs import RunDirectory

if TYPE_CHECKING:
    from relax_rl.workflows.watch import ReportServer

__all__ = ["report", "report_server"]


@dataclass(frozen=True)
class _Subject:
    """Subject of a page: some runs with the names of their methods, or all runs of a folder (`board`)."""

    folder: Path
    paths: list[Path]
    methods: list[str] | None = None
    baseline: str | None = None
    metrics: Sequence[str] | None = None
    board: bool = False


def report(
    runs: str | Path | Sequence[str | Path], output: str | Path | None = None, *, figures: str | Path | None = None
) -> Path:
    """Write one self-contained HTML page: curves, results, spectra, completions.

    Args:
        runs: run directories, in the order of the figures' legends; one folder of `relax compare`; or one folder of
            runs, whose page is a board of them.
        output: the HTML file; its folder is made, an existing file is replaced. None: ``report.html`` in the first run,
            or in the folder.
        figures: a folder for the figures as SVG and PNG, with their data as CSV.

    Returns:
        The path of the page.

    Raises:
        RunError: no run, a path without a run, or a file that cannot be written.
        DataError: settings of a run that are not JSON.
    """
    subject = _subject(runs)
    page = subject.folder / "report.html" if output is None else Path(output)
    if subject.board:
        if figures is not None:
            raise RunError("a board has no figures to write; name runs, or leave --figures out.")
        from relax_rl.reports.board import board_page, state_of
        from relax_rl.reports.document import write_document

        states = [state_of(path, subject.folder) for path in subject.paths]
        return write_document(board_page(states, subject.folder), page)

    from relax_rl.reports.page import write_report  # after the checks: drawing takes a second to import

    return write_report(
        subject.paths,
        page,
        methods=subject.methods,
        baseline=subject.baseline,
        metrics=subject.metrics,
        figures=None if figures is None else Path(figures),
    )


def report_server(runs: str | Path | Sequence[str | Path], port: int = 0) -> ReportServer:
    """The same page, served on the loopback address and made again whenever a run has written something.

    Args:
        runs: as for `report`; a folder may be empty as yet.
        port: 0 for any that is free.

    Raises:
        RunError: no run, or a path without a run.
        ConfigError: a port that cannot be used.
    """
    from relax_rl.comparison.records import read_runs
    from relax_rl.reports.board import board_page, name_of, runs_below, state_of
    from relax_rl.reports.page import page_of
    from relax_rl.workflows.watch import ReportServer

    subject = _subject(runs, may_be_empty=True)

    def one(path: Path, version: str) -> str:
        records = read_runs([path], despite_damage=True)
        return page_of(records, path / "report.html", version=version)

    if subject.board:
        folder = subject.folder

        def board(paths: Sequence[Path], version: str) -> str:
            states = [state_of(path, folder) for path in paths]
            return board_page(states, folder, link=lambda name: f"/run/{quote(name)}", version=version)

        return ReportServer(lambda: {name_of(path, folder): path for path in runs_below(folder)}, board, one, port)

    def page(paths: Sequence[Path], version: str) -> str:
        records = read_runs(paths, subject.methods, despite_damage=True)
        output = subject.folder / "report.html"
        return page_of(records, output, baseline=subject.baseline, metrics=subject.metrics, version=version)

    return ReportServer(lambda: {str(path): path for path in subject.paths}, page, None, port)


def _subject(runs: str | Path | Sequence[str | Path], *, may_be_empty: bool = False) -> _Subject:
    places = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not places:
        raise RunError("a report needs at least one run directory; name the runs that 'relax train' wrote.")
    first = places[0]
    if len(places) == 1 and Contents.is_in(first):
        contents = Contents.read(first)
        paths, methods = contents.evaluated_runs(first)
        return _Subject(first, paths, methods, contents.baseline, contents.metrics)
    if len(places) == 1 and first.is_dir() and not RunDirectory(first).is_run():
        from relax_rl.reports.board import runs_below

        below = runs_below(first)
        # A folder with files of its own is something else than a place for runs.
        if below or (may_be_empty and not any(first.iterdir())):
            return _Subject(first, below, board=True)
    paths = [RunDirectory.open(place).path for place in places]
    return _Subject(paths[0], paths)
