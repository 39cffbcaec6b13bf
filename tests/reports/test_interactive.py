"""The page under a mouse, at the width of a desk and of a phone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from relax_rl.evaluation.result import SampleRecord
from relax_rl.reports.page import write_report
from relax_rl.statistics.intervals import Estimate
from support.browser import Chromium
from support.runs import HOSTILE, synthetic_evaluation, synthetic_snapshot, write_run

pytestmark = pytest.mark.slow  # starts a browser
SEE_CURVES = "document.querySelector('[data-part=curves]').scrollIntoView()"
WIDTHS = pytest.mark.parametrize("width", [1400, 390])
READOUT = "[...document.querySelectorAll('.panel .readout')].map((e) => e.textContent)"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two runs with rollouts of ten steps and evaluations whose texts differ in one word."""
    folder = tmp_path_factory.mktemp("runs")
    runs = []
    for name, skill in (("grpo", 0.4), ("relax", 0.6)):
        found = {stage: synthetic_evaluation(skill - shift, seed=3) for stage, shift in (("before", 0.2), ("after", 0))}
        for stage, evaluation in found.items():
            words = ("the same words but ", name, stage)
            kept = {"tokens": words, "entropies": (0.0, 2.0, 0.5)}
            sample = SampleRecord("p/1", HOSTILE, "".join(words), "14", 1.0, 40, 9.5, **kept)
            curve = tuple(Estimate(0.1 * k, 0.1 * k - 0.05, 0.1 * k + 0.05, 40) for k in range(1, 9))
            found[stage] = replace(evaluation, samples=(sample,), pass_at_k=curve)
        snapshots = [synthetic_snapshot(at, prompt=HOSTILE, token=HOSTILE) for at in (20, 40)]
        run = write_run(folder, name, name, evaluations=found, snapshots=snapshots)
        (run / "completions" / "step_000060.jsonl").unlink()
        for step in range(1, 11):
            row = {"step": step, "problem_id": f"train/{step}", "prompt": "1 2>3", "completion": f"text of step {step}"}
            rows = [
                row | {"reward": float(step % 2), "num_tokens": step, "mode": "a", "dsd": 0.1 * step, "advantage": -1.5}
            ] * 2
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (run / "completions" / f"step_{step:06d}.jsonl").write_text(text)
        runs.append(run)
    return write_report(runs, folder / "page.html").as_uri()


@WIDTHS
def test_nothing_is_cut_off_and_the_console_is_silent(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    chromium.ask("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    chromium.ask("scrollTo(0, document.body.scrollHeight)")
    assert chromium.ask("document.documentElement.scrollWidth <= innerWidth")
    assert chromium.errors == []


@WIDTHS
def test_the_crosshair_is_shared(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    chromium.ask(SEE_CURVES)
    chromium.wait_for("document.querySelectorAll('[data-part=curves] .u-over').length >= 2")
    chromium.wait_for(f"{READOUT}.filter((text) => text.includes('step 60')).length >= 2")
    chromium.ask("document.querySelector('[data-part=curves] .u-over').scrollIntoView({ block: 'center' })")
    box = chromium.ask(
        "(() => { const b = document.querySelector('[data-part=curves] .u-over').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    chromium.mouse("mouseMoved", box[0] + box[2] / 2, box[1] + box[3] / 2)
    chromium.wait_for(
        f"{READOUT}.filter((text) => /step (29|30|31|32) /.test(text + ' ')).length >= 2 || "
        f"{READOUT}.filter((text) => /step (29|30|31|32)/.test(text)).length >= 2"
    )
    assert chromium.errors == []


def test_a_run_can_be_left_out_and_the_axis_be_logarithmic(chromium: Chromium, page: str) -> None:
    chromium.visit(page)
    chromium.ask(SEE_CURVES)
    chromium.wait_for(f"{READOUT}.some((text) => text.includes('step 60') && text.includes('ReLaX'))")
    chromium.ask("[...document.querySelectorAll('.toggles button')].find((e) => e.textContent === 'ReLaX').click()")
    chromium.wait_for(f"!{READOUT}.some((text) => text.includes('step 60') && text.includes('ReLaX'))")
    chromium.ask("document.querySelector('[data-part=curves] input[type=checkbox]').click()")
    assert chromium.errors == []


def test_smoothing_is_the_mean_over_neighbours(chromium: Chromium, page: str) -> None:
    chromium.visit(page)
    chromium.ask(SEE_CURVES)
    panel = "document.querySelector('[data-part=curves] .panel')"
    chromium.wait_for(f"{panel}.plot")

    def lines(half: int) -> tuple[list[float], list[float]]:
        """Values of the first run, as logged and as drawn."""
        chromium.ask(
            "(() => { const e = document.querySelector('[data-part=curves] input[type=range]');"
            f"e.value = {half}; e.dispatchEvent(new Event('input')); }})()"
        )
        logged, drawn = chromium.ask(f"{panel}.plot.data.slice(1, 3).map((line) => [...line])")
        return logged, drawn

    logged, drawn = lines(0)
    assert drawn == logged
    assert len(set(logged)) > 10
    logged, drawn = lines(1)
    means = [sum(near) / len(near) for near in (logged[max(0, at - 1) : at + 2] for at in range(len(logged)))]
    assert drawn == pytest.approx(means)
    assert chromium.errors == []


def test_keys_move_along_a_curve(chromium: Chromium, page: str) -> None:
    chromium.visit(page)
    chromium.ask(SEE_CURVES)
    chromium.wait_for("document.querySelector('[data-part=curves] .panel').plot")
    chromium.ask(
        "document.querySelector('[data-part=curves] .panel')"
        ".dispatchEvent(new KeyboardEvent('keydown', { key: 'Home', bubbles: true }))"
    )
    chromium.wait_for("document.querySelector('[data-part=curves] .readout').textContent.startsWith('step 1')")
    assert chromium.errors == []


def test_completions_are_shaded_by_their_advantage(chromium: Chromium, page: str) -> None:
    chromium.visit(page)
    completions = "document.querySelector('[data-part=completions]')"
    chromium.ask(
        f"(() => {{ const e = {completions}.querySelector('input[type=range]');"
        "e.value = 3; e.dispatchEvent(new Event('input')); })()"
    )
    for side in (1, 2):
        chromium.ask(f"{completions}.querySelector('tbody tr button:nth-child({side})').click()")
    chromium.ask(
        f"(() => {{ const labels = [...{completions}.querySelectorAll('label')];"
        "const label = labels.find((e) => e.textContent.includes('shade'));"
        "const e = label.querySelector('select'); e.value = 'advantage'; e.dispatchEvent(new Event('change')); })()"
    )
    titles = "[...document.querySelectorAll('.pair .shaded span')].map((e) => e.title)"
    assert chromium.ask(titles) == ["advantage -1.5"] * 2
    assert chromium.errors == []


@WIDTHS
def test_completions_are_filtered_and_the_slider_goes_through_the_steps(
    chromium: Chromium, page: str, width: int
) -> None:
    chromium.visit(page, width)
    status = "document.querySelector('[data-part=completions] > div:last-child output').textContent"
    assert chromium.ask(status).startswith("60 of 60")
    chromium.ask(
        "(() => { const e = document.querySelector('[data-part=completions] input[type=range]');"
        "e.value = 3; e.dispatchEvent(new Event('input')); })()"
    )
    assert chromium.ask(status).startswith("4 of 60")
    assert "step 3" in chromium.ask("document.querySelector('[data-part=completions] tbody').textContent")
    chromium.ask(
        "(() => { const e = document.querySelector('[data-part=completions] input[type=search]');"
        "e.value = 'nowhere'; e.dispatchEvent(new Event('input')); })()"
    )
    assert chromium.ask(status).startswith("0 of 60")
    chromium.ask(
        "(() => { const [slider, word] = ['range', 'search'].map((kind) =>"
        "document.querySelector(`[data-part=completions] input[type=${kind}]`));"
        "slider.value = -1; slider.dispatchEvent(new Event('input'));"
        "word.value = 'length > 8'; word.dispatchEvent(new Event('input')); })()"
    )
    # Two rows of each run at steps 9 and 10, four evaluations of 40 tokens, sixteen of checkpoints of 20.
    assert chromium.ask(status).startswith("28 of 60")
    assert chromium.errors == []


@WIDTHS
def test_two_completions_side_by_side(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    shown = "[...document.querySelectorAll('.pair {0}')].map((e) => e.textContent)"
    # To begin with: one problem after training under the two runs.
    assert chromium.ask(shown.format("del")) == ["grpoafter"]
    assert chromium.ask(shown.format("ins")) == ["relaxafter"]
    chromium.ask("document.querySelector('[data-part=completions] tbody tr button:nth-child(2)').click()")
    assert chromium.ask(shown.format("ins")) == ["grpobefore"]
    assert HOSTILE.replace("\x00", "").split("\ud800")[0] in chromium.ask(
        "document.querySelector('.pair .prompt').textContent"
    ).replace("\x00", "")
    assert chromium.errors == []


@WIDTHS
def test_a_mode_leads_to_its_tokens(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    slider = "document.querySelector('[data-part=spectra] input[type=range]')"
    steps = "[...document.querySelectorAll('[data-part=spectra] h4')].map((e) => e.textContent)"
    chromium.ask(f"(() => {{ const e = {slider}; e.value = 1; e.dispatchEvent(new Event('input')); }})()")
    assert chromium.ask(steps) == ["GRPO, update 20", "ReLaX, update 20"]
    plane = "document.querySelectorAll('[data-part=spectra] svg')[1]"
    for key in ("ArrowRight", "Enter"):
        chromium.ask(f"{plane}.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))")
    chosen = "[...document.querySelectorAll('[data-part=modes] select')].map((e) => e.value)"
    assert chromium.ask(chosen) == ["ReLaX, update 20", "0"]
    strongest = "document.querySelector('[data-part=modes] tbody tr').textContent"
    assert "</pre><script>" in chromium.ask(strongest)
    assert "3 ×" in chromium.ask(strongest)
    shades = "[...document.querySelectorAll('[data-part=modes] .shaded span')].map((e) => e.title)"
    assert chromium.ask(f"{shades}.slice(0, 2)") == ["strength 0.3333 × the average", "strength 3 × the average"]
    # The second of a conjugate pair leads to the mode of both.
    for key in ("ArrowRight", "ArrowRight", "Enter"):
        chromium.ask(f"{plane}.dispatchEvent(new KeyboardEvent('keydown', {{ key: '{key}', bubbles: true }}))")
    assert chromium.ask(chosen) == ["ReLaX, update 20", "1"]
    assert chromium.errors == []


@WIDTHS
def test_tokens_are_shaded_by_entropy_and_trajectories_have_a_slider(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    shade = (
        "[...document.querySelectorAll('[data-part=completions] label')].find((e) => e.textContent.includes('shade'))"
    )
    chromium.ask(
        f"(() => {{ const e = {shade}.querySelector('select'); e.value = 'entropy';"
        "e.dispatchEvent(new Event('change')); })()"
    )
    titles = "[...document.querySelectorAll('.pair .shaded span')].map((e) => e.title)"
    assert chromium.ask(titles) == ["entropy 0 nats", "entropy 2 nats", "entropy 0.5 nats"] * 2
    names = "[...document.querySelectorAll('[data-part=trajectories] h4')].map((e) => e.textContent)"
    kinds = ["PCA, by reward", "PCA, by time", "t-SNE, by reward", "t-SNE, by time"]
    assert chromium.ask(names) == [f"{run}, update 40: {kind}" for run in ("GRPO", "ReLaX") for kind in kinds]
    slider = "document.querySelector('[data-part=trajectories] input[type=range]')"
    chromium.ask(f"(() => {{ const e = {slider}; e.value = 0; e.dispatchEvent(new Event('input')); }})()")
    assert chromium.ask(names)[0] == "GRPO, update 20: PCA, by reward"
    points = "document.querySelectorAll('[data-part=trajectories] svg')[0].querySelectorAll('circle').length"
    assert chromium.ask(points) == 80
    assert chromium.errors == []


@WIDTHS
def test_tables_are_sorted_and_eigenvalues_asked(chromium: Chromium, page: str, width: int) -> None:
    chromium.visit(page, width)
    cells = "[...document.querySelectorAll('table.sortable tbody tr')].map((r) => Number(r.cells[4].textContent))"
    chromium.ask("document.querySelectorAll('table.sortable th')[4].click()")
    values = chromium.ask(cells)
    assert values == sorted(values)
    assert len(set(values)) > 1
    chromium.ask(
        "(() => { const e = [...document.querySelectorAll('.controls input[type=search]')].find((e) =>"
        "e.closest('section').querySelector('#problems')); e.value = 'right after > 8';"
        "e.dispatchEvent(new Event('input')); })()"
    )
    rest = chromium.ask(
        "[...document.querySelectorAll('table.sortable tbody tr')].filter((r) => !r.hidden)"
        ".map((r) => Number(r.cells[4].textContent))"
    )
    assert rest == [value for value in values if value > 8]
    plane = "document.querySelector('[data-part=spectra] svg')"
    chromium.ask(f"{plane}.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'ArrowRight', bubbles: true }}))")
    assert "half-life" in chromium.ask("document.querySelector('[data-part=spectra] .readout').textContent")
    chromium.ask(
        "(() => { const e = document.querySelector('[data-part=spectra] input[type=range]');"
        "e.value = 0; e.dispatchEvent(new Event('input')); })()"
    )
    assert "before" in chromium.ask("document.querySelector('[data-part=spectra] h4').textContent")
    assert chromium.errors == []


def test_a_drag_zooms_in_and_escape_zooms_out(chromium: Chromium, page: str) -> None:
    chromium.visit(page)
    chromium.ask(SEE_CURVES)
    panel = "document.querySelector('[data-part=curves] .panel')"
    chromium.wait_for(f"{panel}.plot")
    ends = f"[{panel}.plot.scales.x.min, {panel}.plot.scales.x.max]"
    whole = chromium.ask(ends)
    chromium.ask(f"{panel}.scrollIntoView({{ block: 'center' }})")
    left, top, width, height = chromium.ask(
        f"(() => {{ const b = {panel}.querySelector('.u-over').getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })()"
    )
    for kind, share in (("mouseMoved", 0.25), ("mousePressed", 0.25), ("mouseMoved", 0.75), ("mouseReleased", 0.75)):
        chromium.mouse(kind, left + share * width, top + height / 2)
    length = whole[1] - whole[0]
    near, far = chromium.ask(ends)
    assert near == pytest.approx(whole[0] + 0.25 * length, abs=0.05 * length)
    assert far == pytest.approx(whole[0] + 0.75 * length, abs=0.05 * length)
    chromium.ask(f"{panel}.dispatchEvent(new KeyboardEvent('keydown', {{ key: 'Escape', bubbles: true }}))")
    chromium.wait_for(f"{panel}.plot.scales.x.max - {panel}.plot.scales.x.min >= {0.98 * length}")
    assert chromium.errors == []


def test_dark_mode_changes_the_ink_and_paper_gets_figures_in_the_place_of_plots(chromium: Chromium, page: str) -> None:
    ink = "getComputedStyle(document.body).color"
    shown = (
        "['[data-part=curves]', '[data-part=spectra]', 'img.static', 'nav', '.controls', '.stack'].map((words) =>"
        "getComputedStyle(document.querySelector(words)).display !== 'none')"
    )
    chromium.visit(page)
    light = chromium.ask(ink)
    assert chromium.ask(shown) == [True, True, False, True, True, True]
    try:
        chromium.prefer("dark")
        assert chromium.ask(ink) != light
        chromium.prefer("dark", "print")
        assert chromium.ask(ink) == light
        assert chromium.ask(shown) == [False, False, True, False, False, True]
    finally:
        chromium.prefer("light")
