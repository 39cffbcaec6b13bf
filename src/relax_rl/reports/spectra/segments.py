"""The page about the steps of completions: whether they tell right from wrong, how both kinds go, and some to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from relax_rl.reports.canvas import INK, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download, figure, wide_table
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.ranking import draw_areas, interval_text
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.spectra.probe import DYNAMICS, ProbeResult
from relax_rl.spectra.segments import QUANTITIES, SegmentedCompletion, SegmentSpectrum
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["QUARTERS", "SEGMENT_COLUMNS", "probe_rows", "quarter_means", "segment_rows", "write_segments_page"]

SEGMENT_COLUMNS = (
    *("completion", "problem", "right", "segment", "start", "end", "entropy", *QUANTITIES, "eigenvalues"),
)
QUARTERS = ("first quarter", "second", "third", "last")
_NAMES = {
    "max_modulus": "largest |λ|",
    "dispersion": "spread of |λ|",
    "residual": "residual",
    "step": "step length",
    "curvature": "curvature",
    "effective_rank": "effective rank",
    "entropy": "entropy",
}
_SHOWN = 4
_MOST_CHARACTERS = 3000


def write_segments_page(
    completions: Sequence[SegmentedCompletion], probe: ProbeResult, source: str, command: Sequence[str], output: Path
) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    title = "Do the dynamics of reasoning steps tell right from wrong?"
    sections = [
        _answer(probe),
        _profiles(completions),
        _weights(probe),
        _examples(completions, probe),
        download("segments.csv", SEGMENT_COLUMNS, segment_rows(completions)),
    ]
    return write_page(title, source, sections, command, output)


def probe_rows(probe: ProbeResult) -> list[list[str]]:
    """Features, AUC, AUC within problems: for the page and for the terminal."""
    return [
        [name if "dynamics" in name else f"control: {name}", interval_text(area), interval_text(probe.within[name])]
        for name, area in probe.auc.items()
    ]


def segment_rows(completions: Sequence[SegmentedCompletion]) -> list[tuple[Any, ...]]:
    """Rows of `SEGMENT_COLUMNS`; eigenvalues as words."""
    return [
        (
            *(number, each.problem_id, each.is_right, place, segment.start, segment.end, segment.entropy),
            *(getattr(segment, name) for name in QUANTITIES),
            " ".join(f"{real:.4f}{imaginary:+.4f}i" for real, imaginary in segment.eigenvalues),
        )
        for number, each in enumerate(completions, start=1)
        for place, segment in enumerate(each.segments, start=1)
    ]


def quarter_means(completions: Sequence[SegmentedCompletion], quantity: str, is_right: bool) -> list[Estimate | None]:
    """The mean of a quantity over the segments that begin in each quarter of their completion; intervals by problem."""
    by_quarter: list[dict[str, list[float]]] = [{} for _ in QUARTERS]
    for each in completions:
        if each.is_right != is_right:
            continue
        for segment in each.segments:
            quarter = min(len(QUARTERS) - 1, len(QUARTERS) * segment.start // each.num_tokens)
            by_quarter[quarter].setdefault(each.problem_id, []).append(float(getattr(segment, quantity)))
    return [bootstrap_mean([sum(row) / len(row) for row in found.values()]) for found in by_quarter]


def _answer(probe: ProbeResult) -> Html:
    table = cells_table(("features", "AUC", "AUC within problems"), probe_rows(probe), "Probes", "results")
    gain = element(
        "p",
        "Dynamics add ",
        element("b", interval_text(probe.gain, "+.3f")),
        " to the AUC of length and entropy. The claim needs an interval above 0.",
    )
    note = (
        f"A linear probe (logistic regression) for each row, tested on problems that it did not see: {probe.num_folds} "
        f"parts of {probe.num_problems} problems, {probe.num_right} right and {probe.num_wrong} wrong completions. "
        "AUC: chance that a right completion is ranked above a wrong one, 0.5 tells nothing; within problems: of the "
        "same problem, so that its difficulty counts for nothing. Brackets: 95 % intervals by bootstrap over problems. "
        "Mean state: the average hidden state, which knows the words and no dynamics."
    )
    caption = "The blue row makes the claim; the grey ones are what it must beat."
    drawn = figure(svg_source(draw_areas(probe.auc, DYNAMICS)), "AUC of each probe with its interval", caption)
    return noted_section("Are right completions distinguished?", table, gain, note=note, below=[drawn])


def _profiles(completions: Sequence[SegmentedCompletion]) -> Html:
    images = [
        element(
            "figure",
            element(
                "img",
                src=svg_source(_draw_profile(completions, name)),
                alt=f"{_NAMES[name]} by quarter, right and wrong completions",
            ),
        )
        for name in (*QUANTITIES, "entropy")
    ]
    note = (
        "Means over the segments that begin in each quarter of a completion, with 95 % intervals over problems. Read: "
        "two lines whose intervals part are a difference; the table above says whether it holds on other problems."
    )
    panels = element("div", *images, class_="panels")
    return noted_section("How do right and wrong ones go?", panels, note=note)


def _draw_profile(completions: Sequence[SegmentedCompletion], quantity: str) -> Figure:
    drawn = Figure(figsize=(3.7, 2.5), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    for place, (label, is_right) in enumerate((("right", True), ("wrong", False))):
        means = quarter_means(completions, quantity, is_right)
        known = [(at, mean) for at, mean in enumerate(means) if mean is not None]
        at = [x + 0.08 * (place - 0.5) for x, _ in known]
        values = [mean.value for _, mean in known]
        spans = [[m.value - m.low for _, m in known], [m.high - m.value for _, m in known]]
        style = {"color": color_of(2 if is_right else 1), "marker": "o" if is_right else "s", "markersize": 4}
        ax.errorbar(at, values, yerr=spans, linewidth=1.2, elinewidth=0.9, label=label, **style)
    ax.set_xticks(range(len(QUARTERS)), QUARTERS)
    ax.set_title(_NAMES[quantity], fontsize=9.5, color=INK, loc="left")
    ax.legend(fontsize=8, frameon=False)
    return drawn


def _weights(probe: ProbeResult) -> Html:
    largest = sorted(probe.weights.items(), key=lambda item: -abs(item[1]))[:6]
    rows = [
        element("tr", element("td", name.replace("_", " ")), element("td", f"{value:+.2f}".replace("-", "−")))
        for name, value in largest
    ]
    head = element("tr", element("th", "of the segments"), element("th", "weight"))
    table = wide_table(element("thead", head), element("tbody", *rows), class_="sortable", label="Weights")
    note = (
        "The six largest weights of the probe of dynamics, per standard deviation of the feature, mean over the parts. "
        "Positive: more of it, more often right. Change: last segment less first."
    )
    return noted_section("What does the probe read?", table, note=note)


def _examples(completions: Sequence[SegmentedCompletion], probe: ProbeResult) -> Html:
    order = sorted(range(len(completions)), key=lambda place: probe.scores[place])
    chosen = list(dict.fromkeys([*order[:_SHOWN], *order[-_SHOWN:]]))
    cards = [_card(completions[place], probe.scores[place]) for place in chosen]
    lead = (
        "The completions that the probe of dynamics ranks lowest and highest, cut into their segments: largest |λ| and "
        "tokens in front of each."
    )
    body = element("div", *cards, class_="completions")
    return noted_section("Completions and their segments", note=lead, below=[body])


def _card(completion: SegmentedCompletion, score: float) -> Html:
    verdict = "right" if completion.is_right else "wrong"
    facts = f"{verdict} · {completion.problem_id} · probe {score:+.2f} · {completion.num_tokens} tokens"
    parts = [_step(text, segment) for text, segment in zip(completion.texts, completion.segments, strict=True)]
    return element("div", element("div", facts, class_="facts"), *_fitting(parts), class_=f"completion {verdict}")


def _step(text: str, segment: SegmentSpectrum) -> tuple[int, Html]:
    facts = f"|λ| {segment.max_modulus:.2f} · {segment.end - segment.start} tokens"
    return len(text), element(
        "div", element("div", facts, class_="facts"), element("pre", text.strip("\n"), class_="text"), class_="step"
    )


def _fitting(parts: Sequence[tuple[int, Html]]) -> list[Html]:
    """The first of them, as many as a reader takes in; the data have all."""
    shown: list[Html] = []
    length = 0
    for size, part in parts:
        if length > _MOST_CHARACTERS:
            shown.append(element("p", f"{len(parts) - len(shown)} more segments", class_="facts"))
            break
        shown.append(part)
        length += size
    return shown
