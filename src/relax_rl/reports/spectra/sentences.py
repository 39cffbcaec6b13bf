"""The page about sentence-level dynamics: are hallucinated texts distinguished, and the dynamics of each kind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from relax_rl.reports.canvas import INK, color_of, quieten, svg_source
from relax_rl.reports.document import cells_table, download, figure
from relax_rl.reports.markup import Html, element
from relax_rl.reports.spectra.ranking import draw_areas, interval_text
from relax_rl.reports.spectra.sections import noted_section, write_page
from relax_rl.spectra.sentences import SentenceResult

__all__ = ["KIND_COLUMNS", "SCORE_COLUMNS", "kind_rows", "score_rows", "threshold_words", "write_sentences_page"]

SCORE_COLUMNS = ("id", "split", "hallucinated", "score")
KIND_COLUMNS = ("kind", "texts: fit, calibration, test", "modes a text", "largest |λ| of the operator")
_CLAIM = "two operators"


def write_sentences_page(result: SentenceResult, model: str, source: str, command: Sequence[str], output: Path) -> Path:
    """Write one self-contained HTML file. Raises ``RunError`` if it cannot be written."""
    title = f"Sentence dynamics of {Path(model).name}: are hallucinated texts distinguished?"
    sections = [_answer(result), _kinds(result), download("sentences.csv", SCORE_COLUMNS, result.scores)]
    return write_page(title, source, sections, command, output)


def score_rows(result: SentenceResult) -> list[list[str]]:
    """Score, AUC with its interval: for the page and for the terminal."""
    areas = {_CLAIM: result.auc, **{f"control: {name}": each for name, each in result.controls.items()}}
    return [[name, interval_text(area)] for name, area in areas.items()]


def kind_rows(result: SentenceResult) -> list[list[str]]:
    """Rows of `KIND_COLUMNS`."""
    return [
        [
            kind,
            ", ".join(str(counts[place]) for counts in result.num_texts.values()),
            interval_text(result.num_modes[kind], ".2f"),
            " ".join(f"{value:.2f}" for value in moduli[:4]),
        ]
        for place, (kind, moduli) in enumerate(result.moduli.items())
    ]


def threshold_words(result: SentenceResult) -> str:
    """The effect of the calibrated threshold, in a sentence."""
    return (
        f"threshold {result.threshold:.4g}: finds {100 * result.sensitivity:.0f} % of the hallucinated test texts and "
        f"passes {100 * result.specificity:.0f} % of the faithful"
    )


def _answer(result: SentenceResult) -> Html:
    areas = {_CLAIM: result.auc, **{f"control: {name}": each for name, each in result.controls.items()}}
    table = cells_table(("score", "AUC [95 % interval]"), score_rows(result), "Scores")
    note = (
        "AUC: chance that a hallucinated text is ranked above a faithful one, on texts that neither fitted the "
        "operators nor set the threshold; 0.5 tells nothing, below it the order is reversed. A score that only "
        "distinguishes long texts from short ones is no evidence of dynamics: the controls say what length alone does."
    )
    panels = element(
        "div",
        figure(svg_source(draw_areas(areas, _CLAIM)), "AUC of each score with its interval", "Blue makes the claim."),
        figure(
            svg_source(_draw_scores(result)),
            "Scores of the test texts of each kind, with the threshold",
            "Circles: faithful test texts. Diamonds: hallucinated. Left of the dotted line a text is called so.",
        ),
        class_="panels",
    )
    described = element("p", f"{threshold_words(result).capitalize()}.")
    return noted_section("Are they distinguished?", table, described, note=note, below=[panels])


def _kinds(result: SentenceResult) -> Html:
    note = (
        f"One operator for the texts of each kind, on {result.rank} directions of the embeddings. Modes: directions "
        "that hold 99 % of a text's energy, mean with its 95 % interval over the texts. A largest |λ| near 1 is kept "
        "over many sentences."
    )
    table = cells_table(KIND_COLUMNS, kind_rows(result), "Kinds")
    return noted_section("From sentence to sentence", table, note=note)


def _draw_scores(result: SentenceResult) -> Figure:
    drawn = Figure(figsize=(4.4, 1.9), layout="constrained")
    ax = drawn.add_subplot()
    quieten(ax)
    generator = np.random.default_rng(0)
    for place, is_hallucinated in enumerate((False, True)):
        values = [score for _, split, kind, score in result.scores if split == "test" and kind == is_hallucinated]
        heights = place + 0.25 * (generator.random(len(values)) - 0.5)  # apart, so that equal scores are seen
        look = {"marker": "D", "color": color_of(1)} if is_hallucinated else {"marker": "o", "color": color_of(2)}
        ax.scatter(values, heights, s=16, alpha=0.75, linewidths=0, **look)  # type: ignore[arg-type]
    ax.axvline(result.threshold, color=INK, linewidth=0.8, linestyle=":")
    ax.set_yticks([0, 1], ["faithful", "hallucinated"])
    ax.set_ylim(-0.5, 1.5)
    ax.set_xlabel("score: faithful operator predicts better →", fontsize=8.5, color=INK)
    return drawn
