"""The runs of a folder on one page: how far each is, its last numbers, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.comparison.records import RunRecord, flatten, read_runs
from relax_rl.errors import RelaxError
from relax_rl.reports.document import document, footer, wide_table
from relax_rl.reports.interactive.curves import curve_data
from relax_rl.reports.markup import Html, element
from relax_rl.reports.payload import rounded
from relax_rl.runs import RunDirectory
from relax_rl.runs.lock import Owner
from relax_rl.training.watch import LearningWatch

__all__ = ["BOARD_COLUMNS", "RunState", "board_page", "name_of", "runs_below", "state_of"]

_DEPTH = 3
_MOST_CURVES = 12
"""Runs whose curves are on the board, those written last."""
_NUMBERS = {
    "reward": "reward",
    "entropy": "entropy (nats)",
    "latent/dsd": "DSD",
    "completions/mean_length": "length (tokens)",
    "completions/clipped_ratio": "truncated",
    "frac_reward_zero_std": "equal groups",
}
BOARD_COLUMNS = ("run", "method", "state", "update", *_NUMBERS.values(), "last written", "alarms")


@dataclass(frozen=True)
class RunState:
    """One run at a moment.

    Attributes:
        name: its path below the folder.
        state: ``running``, ``finished``, ``stopped`` (nobody works there and it is not finished) or ``broken``.
        step, num_steps: updates logged and asked for; None where unknown.
        numbers: the last logged value of each metric of the board.
        age: seconds since it wrote its last metrics; None before the first.
        alarms: sentences.
        record: contents of a report; None where the run cannot be read.
    """

    name: str
    state: str
    method: str = ""
    step: int | None = None
    num_steps: int | None = None
    numbers: Mapping[str, float] | None = None
    age: float | None = None
    alarms: tuple[str, ...] = ()
    record: RunRecord | None = None


def runs_below(folder: Path) -> list[Path]:
    """Run directories in a folder, at most three folders deep, in order of their names; links are left out."""
    found: list[Path] = []

    def look(place: Path, depth: int) -> None:
        for path in sorted(place.iterdir()):
            if path.is_symlink() or not path.is_dir() or path.name.startswith("."):
                continue
            if RunDirectory(path).is_run():
                found.append(path)
            elif depth > 1:
                look(path, depth - 1)

    look(folder, _DEPTH)
    return found


def name_of(run: Path, folder: Path) -> str:
    """The name of a run on the board."""
    return run.relative_to(folder).as_posix()


def state_of(run: Path, folder: Path) -> RunState:
    """Read one run; a damaged one is a state, too."""
    name = name_of(run, folder)
    try:
        (record,) = read_runs([run], despite_damage=True)
    except (RelaxError, OSError) as error:
        return RunState(name, "broken", alarms=(str(error),))
    owner = Owner.of(run)
    is_running = owner is not None and owner.is_alive(run)
    step = int(record.metrics[-1]["step"]) if record.metrics else None
    asked = flatten(record.config).get("trainer.max_steps")
    num_steps = asked if isinstance(asked, int) and asked > 0 else None
    is_finished = "after" in record.evaluations or (step is not None and step == num_steps)
    state = "running" if is_running else "finished" if is_finished else "stopped"
    last = {key: float(values[-1]) for key in _NUMBERS if len(values := record.curve(key)[1])}
    path = RunDirectory(run).metrics_path
    age = max(0.0, time.time() - path.stat().st_mtime) if path.is_file() else None
    return RunState(name, state, record.method, step, num_steps, last, age, tuple(_alarms(record, state)), record)


def _alarms(run: RunRecord, state: str) -> list[str]:
    """Sentences for a person to look at: conditions that lasted for ten updates, lost entropy, damage."""
    found: list[str] = list(run.missing)
    watch = LearningWatch(10, found.append)
    last = max((int(row["step"]) for row in run.metrics), default=0)
    for row in run.metrics:
        if "grad_norm" in row and int(row["step"]) <= last:
            watch.update(int(row["step"]), last, row)
    entropy = run.curve("entropy")[1]
    if len(entropy) >= 10 and entropy[-3:].mean() < 0.1 * entropy[:3].mean():
        found.append(f"The entropy fell to {entropy[-3:].mean() / entropy[:3].mean():.0%} of its first value.")
    if any(row.get("grad_norm", 0.0) is None for row in run.metrics[-10:]):
        found.append("The gradient was not finite in one of the last ten updates.")
    if state == "stopped":
        found.append(f"Nobody works on it; continue it with relax train --resume {run.path}.")
    return found


def board_page(
    states: Sequence[RunState],
    folder: Path,
    *,
    link: Callable[[str], str] | None = None,
    version: str | None = None,
) -> str:
    """The board as HTML.

    Args:
        states: states of the runs.
        link: address of a run's own page, by its name; None where there are no such pages.
        version: for a page that a server keeps fresh, see `page_of`.
    """
    counts = {name: sum(each.state == name for each in states) for name in ("running", "finished", "stopped", "broken")}
    counted = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "no run yet"
    rows = [_row(each, link(each.name) if link else None) for each in states]
    head = element("tr", *(element("th", name) for name in BOARD_COLUMNS))
    table = wide_table(element("thead", head), element("tbody", *rows), class_="results sortable", label="Runs")
    live = (
        [element("p", "Live: follows what the runs write.", class_="lead", id="live", role="status")] if version else []
    )
    header = element("header", element("h1", f"Runs in {folder}"), element("p", counted, class_="lead"), *live)
    latest = sorted((s for s in states if s.record is not None), key=lambda s: s.age if s.age is not None else 1e18)
    curves = _curves(latest[:_MOST_CURVES])
    note = (
        f"Curves of the {min(len(latest), _MOST_CURVES)} runs that were written last."
        if len(latest) > _MOST_CURVES
        else ""
    )
    parts = [header, element("section", table)]
    if curves is not None:
        place = element("div", data_part="curves")
        parts.append(element("section", element("h2", "Training"), place, element("p", note, class_="note")))
    data: dict[str, Any] = {"version": version, "curves": curves}
    return document(f"Runs in {folder.name}", [*parts, footer()], data, is_served=version is not None)


def _curves(states: Sequence[RunState]) -> dict[str, Any] | None:
    found = curve_data([each.record for each in states if each.record is not None]) if states else None
    if found is not None:  # runs read one by one do not know of each other: they go by their folders
        named = [each for each in states if each.record is not None]
        found["lines"] = [{"label": each.name, "color": place} for place, each in enumerate(named)]
    return found


def _row(state: RunState, address: str | None) -> Html:
    name = element("a", state.name, href=address) if address else element("span", state.name)
    numbers = state.numbers or {}
    update = "–" if state.step is None else f"{state.step} / {state.num_steps}" if state.num_steps else str(state.step)
    cells = [element("td", name, class_="run"), element("td", state.method)]
    cells.append(element("td", state.state, class_=f"state-{state.state}"))
    cells.append(element("td", update, data_value=-1 if state.step is None else state.step))
    cells += [element("td", _shown(numbers.get(key))) for key in _NUMBERS]
    cells.append(element("td", _ago(state.age), data_value="" if state.age is None else round(state.age)))
    cells.append(element("td", *(element("div", sentence) for sentence in state.alarms)))
    return element("tr", *cells)


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{rounded(value):.4g}"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
