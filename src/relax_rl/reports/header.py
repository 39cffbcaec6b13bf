"""The beginning of a page: what the runs are, what they differ in, what ran them, and what of them is missing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from relax_rl.comparison.records import PLACES, RunRecord, by_method, flatten
from relax_rl.reports.document import listed, unique, wide, wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.runs.starts import start_in_words

__all__ = ["contents", "missing_of", "page_header", "settings_section", "values_of"]


def page_header(runs: Sequence[RunRecord], title: str, *, is_live: bool = False) -> Html:
    """The title, the policy and the length of the runs, and their missing parts."""
    steps = unique(str(int(run.metrics[-1]["step"])) for run in runs if run.metrics)
    length = f"{listed(steps)} steps" if steps else "no step logged yet"
    seeds = {run.seed for run in runs}
    of = f", {len(seeds)} seeds" if len(by_method(runs)) < len(runs) else ""
    lead = f"{len(runs)} run{'s' * (len(runs) > 1)} of the policy {values_of(runs, 'model')}{of}, {length}."
    parts = [element("h1", title), element("p", lead, class_="lead")]
    if is_live:
        parts.append(element("p", "Live: follows what the runs write.", class_="lead", id="live", role="status"))
    lacking = [f"{run.label}: {sentence}" for run in runs for sentence in missing_of(run)]
    if lacking:
        lines = [element("li", sentence) for sentence in lacking]
        parts.append(element("div", element("b", "What is missing"), element("ul", *lines), class_="missing-list"))
    return element("header", *parts)


def settings_section(runs: Sequence[RunRecord]) -> Html:
    """The settings in which the runs differ, then those that they share."""
    flat = [flatten(run.config) for run in runs]
    keys = list(dict.fromkeys(key for settings in flat for key in settings))
    different = [key for key in keys if key not in PLACES and len({_shown(settings.get(key)) for settings in flat}) > 1]
    shared = [key for key in keys if key not in PLACES and key not in different]
    heading = "What was compared" if len(runs) > 1 else "Settings"
    parts = [element("h2", heading, id="settings")]
    if different:
        head = element("tr", element("th", "setting"), *(element("th", run.label) for run in runs))
        rows = [
            element("tr", element("td", element("code", key)), *(element("td", _shown(s.get(key))) for s in flat))
            for key in different
        ]
        table = wide_table(element("thead", head), element("tbody", *rows), class_="settings", label=heading)
        parts += [element("p", "The runs differ in these settings and in no other."), table]
    rows = [
        element("tr", element("td", element("code", key)), element("td", _shown(flat[0].get(key)))) for key in shared
    ]
    summary = element("summary", f"{len(shared)} settings that all runs share" if len(runs) > 1 else "All settings")
    parts.append(element("details", summary, wide("table", *rows)))
    return element("section", *parts, *_surroundings(runs))


def _surroundings(runs: Sequence[RunRecord]) -> list[Html]:
    """Versions and hardware: once where they are the same for all, else by run; empty where they are unknown."""
    ran = {run.label: unique(start_in_words(start) for start in run.starts) for run in runs if run.starts}
    if not ran:
        return []
    alike = len({tuple(lines) for lines in ran.values()}) == 1 and len(ran) == len(runs)
    lines = (
        next(iter(ran.values())) if alike else [f"{label}, {line}" for label, found in ran.items() for line in found]
    )
    heading = element("h3", "Versions and hardware")
    return [heading, *(element("p", line, class_="note") for line in lines)]


def missing_of(run: RunRecord) -> list[str]:
    """The parts of a finished run that this one lacks, in sentences."""
    found = list(run.missing)
    asked = flatten(run.config).get("trainer.max_steps")
    done = int(run.metrics[-1]["step"]) if run.metrics else 0
    if isinstance(asked, int) and 0 < done < asked:
        found.append(f"it has logged {done} of {asked} updates.")
    elif not done:
        found.append("no update has been logged yet.")
    if "after" not in run.evaluations:
        found.append("it has not been evaluated after training.")
    if not run.rollouts:
        found.append("no completions of the training have been kept.")
    return found


_HEADING = re.compile(r'<h2 id="(\w+)"(?: data-name="([^"]*)")?[^>]*>([^<]*)</h2>')


def contents(sections: Sequence[Html]) -> Html:
    """Links to the sections whose heading has an id: by their short name (``data_name``), or by the heading."""
    found = [_HEADING.search(section) for section in sections]
    links = [element("a", Html(match[2] or match[3]), href=f"#{match[1]}") for match in found if match is not None]
    return element("nav", *links, aria_label="Sections")


def values_of(runs: Sequence[RunRecord], key: str) -> str:
    """The values of a setting over the runs, each once."""
    return listed(unique(_shown(flatten(run.config).get(key, "unknown")) for run in runs))


def _shown(value: Any) -> str:
    return "–" if value is None else str(value)
