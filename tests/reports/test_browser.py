"""Every page in a browser that would run what got through: markup from models, names and labels stays text."""

from __future__ import annotations

import html
import json
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from relax_rl.reports.page import write_report
from support.browser import browser_path

RAN = "document.documentElement.setAttribute('data-ran','1')"
PAYLOADS = [
    f"<script>{RAN}</script>",
    f"</pre></td></table></style></title></script><script>{RAN}</script>",
    f'"><img src=x onerror="{RAN}">',
    f"' onmouseover='{RAN}' autofocus onfocus='{RAN}",
    f"<svg/onload={RAN}>",
    f"<svg><style><img src=x onerror={RAN}></style></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={RAN}&gt;'>",
    f'<iframe srcdoc="<script>parent.{RAN}</script>"></iframe>',
    f"<body onload={RAN}>",
    f"<details open ontoggle={RAN}>",
    f"<a href='javascript:{RAN}'>x</a><meta http-equiv=refresh content='0;url=javascript:{RAN}'>",
    f"<!--><script>{RAN}</script>-->",
    f"<![CDATA[<script>{RAN}</script>]]>",
    html.escape(f"<script>{RAN}</script>"),
    f"\x00<scr\x00ipt>{RAN}</scr\x00ipt>",
    f"\ufeff\u2028<script>{RAN}</script>\u202e",
    f"{{{{constructor.constructor('{RAN}')()}}}} ${{{RAN}}}",
]
ALL = "\n".join(PAYLOADS)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], str]:
    """The document as it is after all scripts that it holds have run."""
    place = browser_path()
    profile = tmp_path_factory.mktemp("profile")

    def load(page: Path) -> str:
        words = [place, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += [f"--user-data-dir={profile}", "--virtual-time-budget=2000", "--dump-dom", page.absolute().as_uri()]
        done = subprocess.run(words, capture_output=True, timeout=240, check=True)
        return done.stdout.decode("utf-8", "replace")

    return load


def assert_nothing_ran(browser: Callable[[Path], str], page: Path, tmp_path: Path) -> None:
    text = page.read_text("utf-8")
    bare = tmp_path / "without_policy.html"
    bare.write_text(re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", text), "utf-8")
    assert len(bare.read_text("utf-8")) < len(text)
    # One visit holds both pages and a control, which shows that a script would have been seen.
    for each in (page, bare):
        shown = browser(each)
        assert "</html>" in shown
        assert 'data-ran="1"' not in shown.partition(">")[0] + shown.partition("<html")[2].partition(">")[0]


@pytest.mark.slow  # starts a browser
def test_the_browser_would_tell(browser: Callable[[Path], str], tmp_path: Path) -> None:
    control = tmp_path / "control.html"
    control.write_text(f"<!doctype html>\n<html><body>{PAYLOADS[2]}</body></html>")
    assert 'data-ran="1"' in browser(control)


@pytest.mark.slow  # starts a browser
def test_the_page_of_runs(
    browser: Callable[[Path], str],
    make_run: Callable[..., Path],
    make_evaluation: Callable,
    tmp_path: Path,
) -> None:
    runs = [hostile_run(make_run, make_evaluation, f'x"><img src=x onerror={RAN}>{seed}', seed) for seed in (0, 1)]
    page = write_report(runs, tmp_path / "page.html")
    assert "onerror" in page.read_text("utf-8")
    assert_nothing_ran(browser, page, tmp_path)


@pytest.mark.slow  # starts a browser
def test_the_page_of_a_comparison(
    browser: Callable[[Path], str], make_run: Callable[..., Path], make_evaluation: Callable, tmp_path: Path
) -> None:
    runs = [hostile_run(make_run, make_evaluation, f"run{seed}", seed % 2) for seed in range(4)]
    labels = [PAYLOADS[0], PAYLOADS[0], PAYLOADS[2], PAYLOADS[2]]
    page = write_report(runs, tmp_path / "page.html", methods=labels, baseline=labels[0])
    assert html.escape(PAYLOADS[2]) in page.read_text("utf-8")
    assert_nothing_ran(browser, page, tmp_path)


@pytest.mark.slow  # starts a browser
def test_the_page_of_a_spectrum(browser: Callable[[Path], str], tmp_path: Path, monkeypatch) -> None:
    from relax_rl.workflows.spectrum import spectrum

    monkeypatch.chdir(tmp_path)
    prompts = tmp_path / "<img src=x onerror=1>.jsonl"
    rows = [
        {"id": f"{number}{payload}", "prompt": payload, "completion": payload * 2}
        for number, payload in enumerate(PAYLOADS)
    ]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["relax", "spectrum", ALL]
    small = {"sites": ("final_norm_out",), "num_observables": 4, "fit_steps": 1, "estimators": ("paper",)}
    result = spectrum("tiny", prompts=prompts, text=True, num_problems=4, output="out", command=words, **small)
    assert result.page is not None
    assert "onerror" in result.page.read_text("utf-8")
    assert_nothing_ran(browser, result.page, tmp_path)


def hostile_run(make_run: Callable[..., Path], make_evaluation: Callable, name: str, seed: int) -> Path:
    evaluation = make_evaluation(0.4, seed=seed)
    fields: Sequence[str] = ("problem_id", "prompt", "completion", "answer")
    samples = tuple(replace(sample, **dict.fromkeys(fields, ALL)) for sample in evaluation.samples)
    run = make_run(name.replace("/", ""), "relax", seed=seed, completion=ALL, model=ALL, task={"name": ALL, ALL: ALL})
    (run / "evaluations").mkdir()
    written = replace(evaluation, task=ALL, model=ALL, grader=ALL, samples=samples).to_dict()
    (run / "evaluations" / "after.json").write_text(json.dumps(written))
    return run
