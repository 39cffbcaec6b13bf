"""``relax spectrum --sentences``: what differs in dynamics is found, and bad labels exit with 2."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from relax_rl.cli.main import main
from relax_rl.errors import DataError
from relax_rl.spectra.sentences import LabelledText, sentence_result, split_sentences, split_texts
from relax_rl.workflows.spectrum_sentences import read_labelled_texts, spectrum_of_sentences


def made(decay: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(6, generator=generator)]
    for _ in range(7):
        states.append(decay * states[-1] + 0.3 * torch.randn(6, generator=generator))
    return torch.stack(states)


def texts(count: int) -> list[LabelledText]:
    return [LabelledText(str(place), ("one.",) * 8, bool(place % 2)) for place in range(count)]


def test_dynamics_are_told_apart_on_texts_that_were_not_fitted_and_equal_ones_are_not() -> None:
    given = texts(120)
    apart = sentence_result(given, [made(0.3 if place % 2 else 0.95, place) for place in range(120)])
    assert apart.auc.low > 0.8
    assert apart.controls["sentences"].value == 0.5
    assert apart.num_texts == {"fit": (30, 30), "calibration": (12, 12), "test": (18, 18)}
    assert len(apart.scores) == 60
    same = sentence_result(given, [made(0.8, place) for place in range(120)])
    assert same.auc.low < 0.5 < same.auc.high


def test_sentences_end_where_they_should() -> None:
    assert split_sentences("One is 3.5. Is it?  Yes!\nLast line\n\n") == ("One is 3.5.", "Is it?", "Yes!", "Last line")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"text": "A. B. C.", "label": 1}] * 9, "All 9 texts are labelled hallucinated"),
        ([{"text": "A. B. C.", "label": 0}] * 9, "All 9 texts are labelled faithful"),
        ([{"text": "A. B. C."}], "no label in line 1"),
        ([{"label": 1}], "no text in line 1"),
        ([{"text": "A. B. C.", "label": "maybe"}], "no label in line 1"),
        ([{"text": "A.", "label": 1}], "three sentences or more"),
        ([{"text": "A. B. C.", "label": 1, "split": "train"}], "'train'"),
        ([{"text": "A. B. C.", "label": 1, "split": "fit"}, {"text": "A. B. C.", "label": 0}], "name all or none"),
        (
            [
                {"text": "A. B. C.", "label": place % 2, "split": split}
                for split in ("fit", "calibration", "test")
                for place in range(4)
                if split != "calibration" or place % 2
            ],
            "The calibration split has no faithful text",
        ),
    ],
)
def test_labels_that_cannot_be_used_are_one_sentence_and_exit_2(
    rows: list[dict[str, Any]], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["spectrum", "no-such-model", "--sentences", str(file)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def write_texts(path: Path, count: int) -> None:
    draw = random.Random(0)
    with path.open("w") as file:
        for place in range(count):
            sentences = [f"{draw.randint(2, 9)} plus {place % 2 or draw.randint(1, 9)}." for _ in range(5)]
            file.write(json.dumps({"response": " ".join(sentences), "hallucinated": bool(place % 2)}) + "\n")


def test_the_command_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_texts(tmp_path / "texts.jsonl", 24)
    command = ["spectrum", "tiny", "--sentences", str(tmp_path / "texts.jsonl"), "--rank", "3", "-o", str(tmp_path)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    found = json.loads((tmp_path / "sentences.json").read_text())
    assert f"{found['auc']['value']:.3f}" in shown
    assert found["rank"] == 3
    assert (tmp_path / "sentences.html").read_text().count("<img") == 2
    assert len((tmp_path / "sentences.csv").read_text().splitlines()) == 1 + len(found["scores"])
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_splits_are_drawn_within_each_kind_and_by_seed() -> None:
    given = texts(40)
    splits = split_texts(given, 1)
    assert splits == split_texts(given, 1) != split_texts(given, 2)
    with pytest.raises(DataError, match="The calibration split has no"):
        split_texts(given[:4])


def build_encoder(folder: Path, kind: str = "Model") -> Path:
    import transformers

    from relax_rl.training.models import load_tokenizer

    tokenizer = load_tokenizer("tiny")
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=len(tokenizer), intermediate_size=16, **size)
    getattr(transformers, f"Bert{kind}")(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Model", "ForMaskedLM", "LMHeadModel"])
def test_an_encoder_embeds_too(kind: str, tmp_path: Path) -> None:
    folder = build_encoder(tmp_path / "bert", kind)
    write_texts(tmp_path / "texts.jsonl", 24)
    given, _ = read_labelled_texts(tmp_path / "texts.jsonl")
    found = spectrum_of_sentences(folder, given, rank=3)
    assert 0 <= found.result.auc.low <= found.result.auc.value <= found.result.auc.high <= 1


@pytest.mark.parametrize(
    "words",
    [
        ["spectrum", "bert", "--text", "--prompts", "lines.txt"],
        ["spectrum", "bert", "--jacobian"],
        ["spectrum", "bert", "--axis", "depth"],
        ["spectrum", "tiny", "--compare", "bert", "--text", "--prompts", "lines.txt"],
        ["eval", "bert", "--task", "countdown"],
        ["train", "countdown", "--model", "bert", "--dry-run"],
    ],
    ids=" ".join,
)
def test_an_encoder_is_no_causal_model(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    build_encoder(Path("bert"), "LMHeadModel")
    Path("lines.txt").write_text("1 2 3 = 6 and so on\n")
    assert main(words) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert "bert is an encoder (type 'bert')" in errors[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "lines.txt"]


def test_a_model_without_one_state_a_sentence_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import BartConfig, BartModel

    config = BartConfig(
        vocab_size=32, d_model=8, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=8, decoder_ffn_dim=8,
        encoder_attention_heads=1, decoder_attention_heads=1,
    )  # fmt: skip
    BartModel(config).save_pretrained(tmp_path / "bart")
    write_texts(tmp_path / "texts.jsonl", 24)
    assert main(["spectrum", str(tmp_path / "bart"), "--sentences", str(tmp_path / "texts.jsonl")]) == 2
    assert "of type 'bart', which has no one final state of a sentence" in capsys.readouterr().err
