"""The page as a whole: self-contained, complete, and deaf to what a model writes."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import pytest

from relax_rl.errors import RunError
from relax_rl.reports.page import write_report
from support.runs import synthetic_evaluation, synthetic_snapshot, write_run


class _Reader(HTMLParser):
    """Collects what a browser would see: tags, attributes, text; and checks that tags close."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def data(self) -> str:
        """The scripts' data."""
        return next(text for text in self.text if text.startswith('{"version"'))

    def csv(self, name: str) -> list[dict[str, str]]:
        links = [v for n, v in self.attributes if n == "href" and v.startswith("data:text/csv")]
        names = [v for n, v in self.attributes if n == "download"]
        source = base64.b64decode(links[names.index(name)].split(",")[1]).decode()
        return list(csv.DictReader(io.StringIO(source)))


def _read(path: Path) -> _Reader:
    return _Reader(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> _Reader:
    """The page of two runs, for tests that only read it."""
    folder = tmp_path_factory.mktemp("drawn")
    start = synthetic_evaluation(0.2, seed=1)
    ends = {"grpo": synthetic_evaluation(0.4, seed=2), "relax": synthetic_evaluation(0.6, seed=3)}
    pair = [write_run(folder, name, name, evaluations={"before": start, "after": end}) for name, end in ends.items()]
    return _read(write_report(pair, folder / "r.html"))


@pytest.fixture
def pair(make_run: Callable[..., Path], make_evaluation: Callable) -> list[Path]:
    start = make_evaluation(0.2, seed=1)
    return [
        make_run("a", "grpo", evaluations={"before": start, "after": make_evaluation(0.4, seed=2)}),
        make_run("b", "relax", evaluations={"before": start, "after": make_evaluation(0.6, seed=3)}),
    ]


def test_page_is_one_file_that_loads_nothing_and_leaves_matplotlib_as_it_was(pair: list[Path], tmp_path: Path) -> None:
    output, before = tmp_path / "new folder" / "report.html", dict(mpl.rcParams)
    assert write_report(pair, output) == output
    assert dict(mpl.rcParams) == before
    assert [path.name for path in output.parent.iterdir()] == ["report.html"]
    page = _read(output)
    assert not {"link", "iframe", "object", "embed", "form"} & set(page.tags)
    assert page.tags.count("script") == 2  # the data, and the scripts that the policy knows by their hash
    targets = [value for name, value in page.attributes if name in ("src", "href")]
    assert targets
    assert all(value.startswith(("data:image/svg+xml", "data:text/csv", "#")) for value in targets)
    assert not re.search(r"@import|url\(", output.read_text())
    assert any(name == "content" and value.startswith("default-src 'none'") for name, value in page.attributes)


def test_every_image_says_in_words_what_it_shows(drawn: _Reader) -> None:
    alternatives = [value for name, value in drawn.attributes if name == "alt"]
    assert len(alternatives) == drawn.tags.count("img") == 3
    assert all("GRPO" in text and "ReLaX" in text for text in alternatives)


def test_what_a_model_writes_stays_text(
    make_run: Callable[..., Path], make_evaluation: Callable, hostile: str, tmp_path: Path
) -> None:
    evaluation = make_evaluation(0.4)
    samples = tuple(
        replace(sample, problem_id=hostile, prompt=hostile, completion=hostile, answer=hostile)
        for sample in evaluation.samples
    )
    written = replace(evaluation, task=hostile, samples=samples).to_dict()
    run = make_run('x"><script>', hostile, completion=hostile, model=hostile)
    (run / "evaluations").mkdir()
    # json escapes to ASCII here, which is how a lone surrogate survives in a file
    (run / "evaluations" / "after.json").write_text(json.dumps(written))
    page = _read(write_report([run], tmp_path / "r.html"))
    assert page.tags.count("script") == 2
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.tags.count("img") == 3
    text = "".join(page.text)
    assert '<script>alert("x")</script>' in text
    assert "\x00" not in text


def test_numbers_in_the_page_are_those_of_the_runs(drawn: _Reader) -> None:
    results = drawn.csv("results.csv")
    after = synthetic_evaluation(0.6, seed=3).metrics["mean@1"]
    (row,) = [r for r in results if (r["run"], r["row"], r["metric"]) == ("ReLaX", "after", "mean@1")]
    assert [float(row[k]) for k in ("value", "low", "high")] == [after.value, after.low, after.high]
    assert f"{after.value:.3f}" in drawn.text
    curves = drawn.csv("curves.csv")
    assert len([r for r in curves if r["run"] == "GRPO" and r["metric"] == "Reward"]) == 60
    assert not [r for r in curves if r["run"] == "GRPO" and r["metric"].startswith("DSD")]
    assert len(drawn.csv("spectra.csv")) == 4 * 16


def test_differences_between_the_settings_are_named(drawn: _Reader) -> None:
    text = "".join(drawn.text)
    different, shared = text.split("settings that all runs share")
    assert "objective.name" in different
    assert "objective.alpha" in different
    assert "trainer.learning_rate" not in different
    assert "trainer.learning_rate" in shared
    assert "GRPO and ReLaX on countdown" in text


def test_a_run_that_has_only_begun_still_makes_a_page(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("young")
    (run / "metrics.jsonl").unlink()
    for path in (run / "completions").iterdir():
        path.unlink()
    text = "".join(_read(write_report([run], tmp_path / "r.html")).text)
    for sentence in ("No run has been evaluated", "No step has been logged", "No completion has been kept"):
        assert sentence in text


def test_a_damaged_run_is_shown_as_far_as_it_can_be_read(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("a", num_steps=20)
    (run / "evaluations").mkdir()
    (run / "evaluations" / "after.json").write_text('{"task": 1')
    (run / "completions" / "step_000001.jsonl").write_text('{"step": 1}\nno row\n{"step": 1}\n')
    page = _read(write_report([run], tmp_path / "r.html"))
    text = "".join(page.text).partition("</style>")[0]
    assert "What is missing" in text
    assert "after.json: this is not an evaluation result" in text
    assert "step_000001.jsonl" in text
    assert "not been evaluated after training" in text
    assert len(page.csv("curves.csv")) == 20 * 4


@pytest.mark.slow
def test_the_figures_are_files_with_their_data(pair: list[Path], tmp_path: Path) -> None:
    write_report(pair, tmp_path / "r.html", figures=tmp_path / "figures")
    names = sorted(path.name for path in (tmp_path / "figures").iterdir())
    drawn = ("curves", "entropy", "problems", "spectra")
    assert names == [f"{name}.{ending}" for name in drawn for ending in ("csv", "png", "svg")]
    assert (tmp_path / "figures" / "curves.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # draws every figure, in three forms
def test_a_run_with_everything_has_every_section_and_stays_small(make_run: Callable[..., Path], tmp_path: Path) -> None:
    start, end = (
        replace(
            found,
            per_problem=tuple(replace(p, modes=(1,) * min(p.num_correct, most)) for p in found.per_problem),
            pass_at_k=tuple(found.metrics["mean@1"] for _ in range(16)),
        )
        for found, most in ((synthetic_evaluation(0.2, seed=1), 1), (synthetic_evaluation(0.5, seed=2), 3))
    )
    snapshots = [synthetic_snapshot(at) for at in range(10, 130, 10)]
    run = make_run("a", evaluations={"before": start, "after": end}, snapshots=snapshots)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    times = {"step_time": 10.0, "time/rollout": 6.0, "time/reward": 1.0, "time/dsd": 0.5, "time/update": 2.5}
    rows = [row | times | {"entropy/covariance": 0.01 * row["entropy"]} for row in rows]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = _read(write_report([run], tmp_path / "r.html", figures=tmp_path / "figures"))
    drawn = {path.stem for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"curves", "pass_at_k", "entropy", "problems", "spectra", "trajectories", "cost"}
    assert (tmp_path / "r.html").stat().st_size < 5e6
    (cost,) = page.csv("cost.csv")
    assert [float(cost[name]) for name in ("seconds", "rollout", "reward", "update", "dsd")] == [600, 360, 60, 150, 30]
    text = "".join(page.text)
    assert "60.0 %" in text  # rollouts
    data = json.loads(page.data())
    steps = data["planes"]["spectra"]["steps"]
    assert steps == ["before", *(f"update {at}" for at in range(10, 130, 10)), "after"]
    # Of many checkpoints, some are shown with their tokens, the first and the last among them.
    assert [*data["modes"]][:1] + [*data["modes"]][-1:] == ["GRPO, update 10", "GRPO, update 120"]
    assert data["planes"]["trajectories"]["steps"] == [key.split(", ")[1] for key in data["modes"]]
    fates = [row["fate"] for row in _rows(tmp_path / "figures" / "problems.csv")]
    assert len(fates) == 40
    assert {"won", "kept"} <= set(fates)
    assert len(page.csv("pass_differences.csv")) == 5


def _rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_every_logged_number_is_drawn(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("a", "relax", num_steps=12)
    rows = [json.loads(line) | {"new/thing": 2.5} for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = _read(write_report([run], tmp_path / "r.html"))
    data = json.loads(page.data())
    drawn = {panel["key"]: panel for group in data["curves"]["groups"] for panel in group["panels"]}
    assert drawn.keys() == rows[0].keys() - {"step"}
    assert drawn["new/thing"]["values"] == [[2.5] * 12]
    assert drawn["reward"]["values"][0] == pytest.approx([row["reward"] for row in rows], rel=1e-4)


def test_what_cannot_be_reported_is_said_and_nothing_is_left(make_run: Callable[..., Path], tmp_path: Path) -> None:
    run = make_run("a")
    with pytest.raises(RunError, match="at least one run"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(RunError, match="no run in"):
        write_report([tmp_path / "nothing"], tmp_path / "r.html")
    with pytest.raises(RunError, match="named twice"):
        write_report([run, run.parent / "." / run.name], tmp_path / "r.html")
    (run / "evaluations").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write the report"):
        write_report([run], tmp_path / "file" / "r.html")
    assert not list(tmp_path.glob("*.html")) + list(tmp_path.glob(".r.html*"))
