"""``relax spectrum`` with the embedded policy: what it prints and leaves, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from relax_rl.cli.main import main

SMALL = ["-n", "3", "--sites", "layer_1_out,final_norm_out", "--observables", "6", "--fit-steps", "1", "-o", "out"]
SHORT = [*SMALL, "--max-completion-length", "24"]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is left out: its figures take longer than everything else."""
    monkeypatch.setattr(
        "relax_rl.workflows.spectrum_folder.write_spectrum_page", lambda page, output: output.write_text("")
    )


def rows_of(name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path("out", name).open(encoding="utf-8")))


@pytest.fixture
def prompts() -> str:
    lines = [
        {"question": f"{i} 2 3 -> {5 + i}:", "solution": f"<think>2+3+{i}</think> <answer>2+3+{i}</answer>"}
        for i in range(8)
    ]
    Path("prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return "prompts.jsonl"


@pytest.mark.slow
def test_the_default_is_countdown_and_everything_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spectrum", "tiny", *SHORT]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("out/spectrum.html\n")
    found = json.loads(Path("out/spectrum.json").read_text())
    (spectra,) = found["models"]
    digest = spectra["sites"][-1]["dictionary_digest"]
    for part in (
        "DSD paper",
        "DSD robust",
        "max |λ|",
        "residual",
        "condition",
        "defined",
        digest[:8],
        "countdown-test-0-0",
    ):
        assert part in shown
    assert [site["site"] for site in spectra["sites"]] == ["layer_1_out", "final_norm_out"]
    trajectories = rows_of("trajectories.csv")
    assert len(trajectories) == 3 * 2 == len(spectra["trajectories"])
    for row, expected in zip(trajectories, spectra["trajectories"], strict=True):
        assert (row["prompt"], row["site"], int(row["tokens"])) == (
            expected["id"],
            expected["site"],
            expected["num_tokens"],
        )
        assert float(row["dsd_paper"]) == expected["dsd"]["paper"]
        assert row["dsd_robust"] == ""  # 24 tokens are fewer than a window
        assert row["dictionary"] in {site["dictionary_digest"] for site in spectra["sites"]}
    assert len(rows_of("eigenvalues.csv")) == 2 * 6
    assert {file.name for file in Path("out/dictionaries").iterdir()} == {
        "layer_1_out.safetensors",
        "final_norm_out.safetensors",
    }
    page = Path("out/spectrum.html").read_text()
    assert page.count("<img") == 7
    # Data and our own script, both in the page.
    assert page.count("<script") == 2
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.usefixtures("undrawn")
def test_the_command_on_the_page_does_the_same_again() -> None:
    assert main(["spectrum", "tiny", *SHORT, "--task.num_numbers", "4"]) == 0
    command = json.loads(Path("out/spectrum.json").read_text())["command"]
    first = Path("out/trajectories.csv").read_text()
    assert command[0] == "relax"
    assert main([*command[1:], "--overwrite"]) == 0
    assert Path("out/trajectories.csv").read_text() == first


@pytest.mark.usefixtures("undrawn")
def test_text_is_read_and_the_solution_measured(prompts: str) -> None:
    assert main(["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL]) == 0
    from relax_rl.training.models import load_tokenizer

    row = rows_of("trajectories.csv")[0]
    assert row["prompt"] == "row-1"
    solution = json.loads(Path(prompts).read_text().splitlines()[0])["solution"]
    assert int(row["tokens"]) == len(load_tokenizer("tiny")(solution, add_special_tokens=False)["input_ids"])


@pytest.mark.usefixtures("undrawn")
def test_lines_of_text_lose_their_first_token() -> None:
    Path("lines.txt").write_text("1 2 3 = 6 and so on\n\n4 5 6 = 15 and so forth\n", encoding="utf-8")
    assert main(["spectrum", "tiny", "--prompts", "lines.txt", "--text", *SMALL]) == 0
    rows = [row for row in rows_of("trajectories.csv") if row["site"] == "final_norm_out"]
    assert [row["prompt"] for row in rows] == ["line-1", "line-3"]
    assert [int(row["tokens"]) for row in rows] == [18, 22]


@pytest.mark.usefixtures("undrawn")
def test_a_line_of_one_token_is_left_out_with_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    Path("lines.txt").write_text("1 2 3 = 6 and so on\n7\n4 5 6 = 15 and so forth\n", encoding="utf-8")
    assert main(["spectrum", "tiny", "--prompts", "lines.txt", "--text", *SMALL]) == 0
    assert "1 of 3 texts left out, since a single token has no spectrum: line-2" in capsys.readouterr().err
    assert {row["prompt"] for row in rows_of("trajectories.csv")} == {"line-1", "line-3"}
    Path("short.txt").write_text("7\n8\n", encoding="utf-8")
    assert main(["spectrum", "tiny", "--prompts", "short.txt", "--text", *SMALL, "--overwrite"]) == 2
    assert "Every text has fewer than 2 tokens, such as 'line-1'" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_a_model_compared_with_itself_does_not_differ(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL, "-n", "8", "--compare", "tiny"]
    assert main([*words, "--store", "kept"]) == 0
    assert "sign-flip test" in capsys.readouterr().out
    rows = rows_of("differences.csv")
    assert {row["p"] for row in rows} == {"1.0"}
    assert {row["same_dictionary"] for row in rows} == {"True"}
    assert {row["prompts"] for row in rows} == {"8"}
    assert {"dsd/paper", "effective_rank"} <= {row["quantity"] for row in rows}
    assert Path("kept-compared/store.json").is_file()


@pytest.mark.usefixtures("undrawn")
def test_bfloat16_by_a_device_map_is_near_float32(prompts: str) -> None:
    words = ["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL]
    assert main(words) == 0
    exact = [float(row["effective_rank"]) for row in rows_of("trajectories.csv")]
    assert main([*words, "--overwrite", "--dtype", "bfloat16", "--device-map", "auto"]) == 0
    rounded = [float(row["effective_rank"]) for row in rows_of("trajectories.csv")]
    assert rounded != exact
    assert rounded == pytest.approx(exact, rel=0.05)


@pytest.mark.usefixtures("undrawn")
def test_a_store_is_used_again(prompts: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    words = ["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL, "--store", "kept", "--statistics-only"]
    assert main(words) == 0
    saving = capsys.readouterr().err
    assert "three 6 x 6 matrices a text and site" in saving
    assert "times as much" in saving
    first = Path("out/trajectories.csv").read_text()

    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError("the model ran")

    monkeypatch.setattr("relax_rl.latent.trajectories.capture_inputs", refuse)
    assert main([*words, "--overwrite"]) == 0
    assert Path("out/trajectories.csv").read_text() == first
    assert main([*words, "--overwrite", "--estimators", "singular"]) == 2
    assert "estimators is ['paper', 'robust'] there and ['singular'] here" in capsys.readouterr().err
    assert Path("out/trajectories.csv").read_text() == first


@pytest.mark.usefixtures("undrawn")
def test_a_saved_dictionary(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL]
    assert main(words) == 0
    Path("out").rename("first")
    digests = [
        site["dictionary_digest"] for site in json.loads(Path("first/spectrum.json").read_text())["models"][0]["sites"]
    ]
    given = ["--dictionary", "first/dictionaries/final_norm_out.safetensors"]
    given += ["--dictionary", "layer_1_out=first/dictionaries/layer_1_out.safetensors"]
    assert main([*words, *given, "--seed", "5"]) == 0
    again = json.loads(Path("out/spectrum.json").read_text())["models"][0]
    assert [site["dictionary_digest"] for site in again["sites"]] == digests
    assert main([*words, "--dictionary", "nowhere.safetensors", "--overwrite"]) == 2
    assert "no dictionary file at nowhere.safetensors" in capsys.readouterr().err


BAD: list[tuple[list[str], str]] = [
    (["--prompts", "absent.txt"], "absent.txt"),
    (["--prompts", "absent.jsonl"], "absent.jsonl"),
    (["--prompts", "empty.txt"], "no prompt in 'empty.txt'"),
    (["--prompts", "empty.jsonl"], "no prompt in 'empty.jsonl'"),
    (["--prompts", "broken.jsonl"], "ine 2 of 'broken.jsonl'"),
    (["--prompts", "nameless.jsonl"], "no prompt in line 1 of 'nameless.jsonl'"),
    (["--prompts", "twice.jsonl"], "the id '7'"),
    (["--prompts", "binary.txt"], "binary.txt"),
    (["--prompts", "good.txt", "--task", "countdown"], "give one of them"),
    (["--prompts", "good.txt", "--task.max_number", "9"], "takes no setting such as --task.max_number"),
    (["--task", "countdwn"], "countdown"),
    (["--text", "--max-completion-length", "5"], "give one of them"),
    (["--text", "--num-samples", "2"], "give one of them"),
    (["--statistics-only"], "name one with --store DIR"),
    (["--estimators", "paper,best"], "'best'"),
    (["--fit-steps", "-1"], "--fit-steps is -1"),
    (["--temperature", "-0.5"], "--temperature is -0.5"),
    (["-n", "0"], "whole number of at least 1"),
    (["--sites", "layer_9_out"], "layer_0_out to layer_3_out"),
    (["--compare", "tiny", "--sites", "layer_9_out"], "layer_0_out to layer_3_out"),
    (["--compare", "./nowhere"], "no model folder at ./nowhere"),
    (["--num-prompts", "3"], "'--num-prompts' is now '--num-problems'"),
    (["--generate", "24"], "'--generate' is now '--max-completion-length'"),
    (["--kind", "cubic"], "'cubic'"),
    (["--observables", "200", "--max-completion-length", "10"], "more than 200 snapshot pairs"),
    (["--store", "good.txt"], "no latent store"),
    (["-o", "good.txt"], "good.txt is not empty and holds no spectra"),
    (["-o", "other"], "other is not empty and holds no spectra"),
    (["-o", "old"], "replace them with --overwrite"),
    (["--figures", "good.txt"], "name a folder with --figures DIR"),
    (["--figures", "drawn", "--axis", "depth"], "'relax spectrum --axis depth' does not read --figures"),
    (["--figures", "drawn", "--jacobian"], "'relax spectrum --jacobian' does not read --figures"),
]


@pytest.mark.parametrize(("words", "part"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_bad_input_is_one_sentence_and_leaves_nothing(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("good.txt").write_text("1 2 3 -> 6:\n4 5 6 -> 15:\n")
    Path("empty.txt").write_text("\n \n")
    Path("empty.jsonl").write_text("")
    Path("broken.jsonl").write_text('{"prompt": "a"}\n{"prompt": \n')
    Path("nameless.jsonl").write_text('{"words": "a"}\n')
    Path("twice.jsonl").write_text('{"id": 7, "prompt": "a"}\n{"id": 7, "prompt": "b"}\n')
    Path("binary.txt").write_bytes(b"\xff\xfe\x00\x01")
    for folder, file in (("old", "spectrum.json"), ("other", "mine.txt")):
        Path(folder).mkdir()
        Path(folder, file).write_text("{}")
    before = sorted(Path().rglob("*"))
    assert main(["spectrum", "tiny", "-n", "2", "--fit-steps", "0", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    told = [line for line in captured.err.splitlines() if line.startswith("relax: error: ")]
    assert len(told) == 1
    assert part in told[0]
    assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
def test_a_folder_is_replaced_as_a_whole_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["spectrum", "tiny", *SHORT]) == 0
    first = Path("out/spectrum.json").read_text()

    def fail(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("relax_rl.workflows.spectrum_folder.write_spectrum_page", fail)
        assert main(["spectrum", "tiny", *SHORT, "--seed", "1", "--overwrite"]) == 130
    assert Path("out/spectrum.json").read_text() == first
    assert [file.name for file in Path().iterdir()] == ["out"]
    assert main(["spectrum", "tiny", *SHORT, "--seed", "1", "--overwrite"]) == 0
    assert Path("out/spectrum.json").read_text() != first


@pytest.mark.slow
def test_figures_are_written_beside_the_page_with_their_data(prompts: str) -> None:
    assert main(["spectrum", "tiny", "--prompts", prompts, "--text", *SMALL, "--figures", "drawn"]) == 0
    files = {path.name for path in Path("drawn").iterdir()}
    names = ("planes", "moduli", "half_lives", "depth", "lengths", "pseudospectra", "paths")
    assert files == {f"{name}.{ending}" for name in names for ending in ("svg", "png", "csv")}
    planes = list(csv.DictReader(Path("drawn/planes.csv").read_text().splitlines()))
    assert [row["real"] for row in planes] == [row["real"] for row in rows_of("eigenvalues.csv")]
    depth = list(csv.DictReader(Path("drawn/depth.csv").read_text().splitlines()))
    of_paper = [row for row in depth if row["site"] == "final_norm_out" and row["estimator"] == "paper"]
    values = [float(row["dsd"]) for row in of_paper if row["prompt"]]
    (mean,) = [float(row["dsd"]) for row in of_paper if not row["prompt"]]
    assert len(values) == 3
    assert sum(values) / 3 == pytest.approx(mean)


@pytest.mark.slow
def test_hostile_prompts_stay_text() -> None:
    Path("prompts.txt").write_text("<script>alert(1)</script> 1 2 3 [bold]x[/bold] [/] $\\oops$\n" * 2)
    assert main(["spectrum", "tiny", "--prompts", "prompts.txt", "--text", *SMALL]) == 0
    assert "<script>alert" not in Path("out/spectrum.html").read_text()


def test_over_depth_each_token_is_a_trajectory_of_layers(prompts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["spectrum", "tiny", "--axis", "depth", "--prompts", prompts, "--text", "-o", "axis"]) == 0
    shown = capsys.readouterr().out
    assert "layers" in shown
    assert shown.endswith("axis/axis.html\n")
    found = json.loads(Path("axis/axis.json").read_text())
    (block,) = found["blocks"]
    assert found["axis"] == "depth"
    assert Path("axis/axis.html").read_text().count("<img") == 3
    assert len(block["fixed_point_residual"]) == block["num_steps"] - 1 == len(block["contraction"]) + 1
    assert main(["spectrum", "tiny", "--axis", "depth", "--prompts", prompts, "--text", "-o", "axis"]) == 2
    assert "replace it with --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--axis", "cycles", "--text"], "runs once in a forward pass: it has no cycles"),
        (["--axis", "depth", "--sites", "all"], "does not read --sites"),
        (["--axis", "depth", "--compare", "tiny"], "does not read --compare"),
    ],
)
def test_an_axis_that_cannot_be_measured_is_refused(
    prompts: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["spectrum", "tiny", "--prompts", prompts, *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("spectra").exists()
