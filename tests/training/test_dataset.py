"""Problems as rows of TRL: conversations whole, columns under their names, gold answers apart from a row's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from datasets import Dataset
from PIL import Image
from trl.data_utils import prepare_multimodal_messages

from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.prompts import render_prompt
from relax_rl.rewards import ExactVerifier
from relax_rl.rewards.reward_function import VerifierReward
from relax_rl.tasks.base import Problem
from relax_rl.tasks.images.picture import as_picture
from relax_rl.training.models import load_model
from relax_rl.training.trl.dataset import dataset_digest, prompt_dataset
from support.images import image_text_model, square

_CHATML = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + _CHATML


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return load_model("tiny")[1]


def talk(**more: Any) -> Problem:
    turns = (("user", "Add 1."), ("assistant", "To what?"))
    return Problem("a", "plain", "3", system="Be brief.", instruction="To 2.", turns=turns, **more)


def rows_of(tokenizer: Any, *problems: Problem) -> list[dict[str, Any]]:
    return prompt_dataset(problems, tokenizer).to_list()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (_CHATML, "[system]Be brief.[user]Add 1.[assistant]To what?[user]To 2.[assistant]"),
        (_NO_SYSTEM, "[user]Be brief.\n\nAdd 1.[assistant]To what?[user]To 2.[assistant]"),
    ],
)
def test_a_conversation_is_rendered_whole(tokenizer: Any, template: str, words: str) -> None:
    tokenizer.chat_template = template
    assert render_prompt(tokenizer, talk()) == words
    (row,) = rows_of(tokenizer, talk())
    assert tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True) == words


def test_columns_and_options_reach_reward_functions_and_the_verifier_its_gold(tokenizer: Any) -> None:
    columns = {"answer": 3, "extra_info": {"index": 7}, "data_source": "made"}
    rows = rows_of(tokenizer, talk(columns=columns, options=("1", "3")))
    assert rows[0].items() >= {**columns, "gold_answer": "3", "problem_options": ["1", "3"], "problem_id": "a"}.items()
    given: Any = {name: [row[name] for row in rows] for name in rows[0]}
    assert VerifierReward(ExactVerifier())(completions=["<answer>3</answer>"], **given) == [1.0]
    assert set(rows_of(tokenizer, talk())[0]) == {"prompt", "answer", "problem_id"}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([{"meta": 1}, {"meta": "one"}], "The column 'meta' cannot be handed to reward functions"),
        ([{"prompts": 1}], "is called 'prompts'"),
    ],
)
def test_columns_that_cannot_be_handed_on(tokenizer: Any, values: list[dict], words: str) -> None:
    with pytest.raises(DataError, match=words):
        prompt_dataset([talk(columns=columns) for columns in values], tokenizer)


def test_a_data_set_is_known_by_its_rows_in_their_order() -> None:
    rows = [{"prompt": str(place), "image": b"\xff\x00", "value": place / 3} for place in range(5)]
    digest = dataset_digest(Dataset.from_list(rows))
    assert digest is not None
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    assert dataset_digest(Dataset.from_list(rows)) == digest
    others = [rows[::-1], rows[:4], [rows[0] | {"image": b"\xff"}, *rows[1:]], [rows[0] | {"prompt": ""}, *rows[1:]]]
    assert digest not in {dataset_digest(Dataset.from_list(other)) for other in others}
    assert dataset_digest(Dataset.from_list(rows).to_iterable_dataset()) is None


def test_rows_of_problems_have_images_if_one_has() -> None:
    with pytest.raises(DataError, match="no training problems"):
        prompt_dataset([], None)
    plain = SimpleNamespace(chat_template=None)
    rows = prompt_dataset([Problem("a", "words", "5")], plain)
    assert rows.to_list() == [{"prompt": "words", "answer": "5", "problem_id": "a"}]
    with pytest.raises(ConfigError, match="'a' shows an image"):
        prompt_dataset([Problem("a", "words", "5", images=(square(0),))], plain)


def test_interleaved_images_reach_trl_at_their_places_and_are_decoded_when_read(tmp_path: Path) -> None:
    _, processor = image_text_model()
    files = []
    for place, color in enumerate(("red", "blue")):
        files.append(tmp_path / f"{color}.png")
        Image.new("RGB", (16, 16), color).save(files[place])
    shown: Any = tuple(map(as_picture, files))
    problem = Problem("a", "x", "1", instruction="b <image 2> a <image 1>?", images=shown, interleaved=True)
    rows: Any = prompt_dataset([problem, Problem("b", "words", "2")], processor)
    row, words = rows[0], rows[1]
    assert (words["images"], words["image_names"]) == ([], [])
    assert [image.getpixel((0, 0)) for image in row["images"]] == [(0, 0, 255), (255, 0, 0)]
    assert row["image_names"] == [str(files[1]), str(files[0])]
    for given, of in ((row, problem), (words, Problem("b", "words", "2"))):
        filled = prepare_multimodal_messages(given["prompt"], images=given["images"])
        text = processor.apply_chat_template(filled, tokenize=False, add_generation_prompt=True)
        assert text == render_prompt(processor, of)
    # The table itself holds digests, so that its own digest needs no decoder.
    assert all(isinstance(one, str) for one in rows.with_format(None)[0]["images"])
    assert dataset_digest(rows) == dataset_digest(prompt_dataset([problem, Problem("b", "words", "2")], processor))
    files[0].unlink()
    with pytest.raises(DataError, match=r"red\.png' cannot be read: No such file"):
        prompt_dataset([problem], processor)
