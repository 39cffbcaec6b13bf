"""A context that prompt and completion share: where it ends, what is refused, and what is cut."""

from __future__ import annotations

import copy

import pytest

from relax_rl.errors import ConfigError
from relax_rl.evaluation.prompts import PromptForm, encode_prompt
from relax_rl.evaluation.room import Room
from relax_rl.tasks.base import Problem

FORM = PromptForm()
LONG = [Problem("short", "a" * 3, ""), Problem("longest", "b" * 26, ""), Problem("long", "c" * 25, "")]


def test_a_model_without_a_limit_has_room_for_everything(tokenizer) -> None:
    room = Room(None, "it", 6)
    assert room.for_prompt is None
    assert room.longest_completion(tokenizer, LONG, FORM) is None
    assert room.form(FORM) is FORM
    assert room.check(tokenizer, LONG, FORM, "the split") is None


def test_a_prompt_may_fill_what_a_completion_leaves_and_no_more(tokenizer) -> None:
    for context, fits in ((32, True), (31, False)):
        room = Room(context, "it", 6)
        assert room.for_prompt == context - 6
        assert room.longest_completion(tokenizer, LONG, FORM) == (None if fits else 5)
        if fits:
            assert room.check(tokenizer, LONG, FORM, "the split") is None
            continue
        with pytest.raises(ConfigError) as refused:
            room.check(tokenizer, LONG, FORM, "the split")
        told = str(refused.value)
        assert told.startswith(
            "The prompt 'longest' of the split has 26 tokens and a completion may have 6, but it has"
        )
        assert "(1 of 3 prompts are too long)" in told
        assert "or cut long prompts at their start" in told
    assert Room(30, "it", 6).longest_completion(tokenizer, LONG, FORM) == 4


def test_prompts_are_cut_where_that_is_asked_for_alone(tokenizer) -> None:
    assert Room(30, "it", 6).form(FORM) == FORM
    room = Room(30, "it", 6, "cut")
    form = room.form(PromptForm(plain=True))
    assert form == PromptForm(plain=True, most_tokens=24)
    # What is said is of the prompts as they were.
    for given in (FORM, form):
        said = room.check(tokenizer, LONG, given, "the split")
        assert said == (
            "2 of 3 prompts of the split are cut at their start to 24 tokens, the longest (longest) from 26"
        )
    assert encode_prompt(tokenizer, LONG[1], form) == encode_prompt(tokenizer, LONG[1])[-24:]
    assert room.check(tokenizer, LONG[:1], form, "the split") is None


@pytest.mark.parametrize("overlong", ["refuse", "cut"])
def test_a_completion_may_not_fill_the_context_alone(overlong) -> None:
    assert Room(7, "it", 6, overlong).form(FORM).most_tokens == (1 if overlong == "cut" else None)
    for context in (6, 5):
        with pytest.raises(ConfigError, match=f"A completion may have 6 tokens, but it has a context of {context} for"):
            Room(context, "it", 6, overlong).form(FORM)


def test_short_words_need_no_tokenizer(tokenizer) -> None:
    """A token stands for at least one byte, with some to spare for what a tokenizer adds in front."""

    class Counting:
        chat_template = None
        asked = 0

        def __call__(self, text: str, **options: object) -> object:
            Counting.asked += 1
            return tokenizer(text, **options)

    # One byte of the prompt that is rendered for the frame, and 16 to spare.
    problems = [Problem(str(length), "a" * length, "") for length in (10, 23, 24, 30)]
    assert Room(46, "it", 6).check(Counting(), problems, FORM, "the split") is None
    assert Counting.asked == 2
    Counting.asked = 0
    with_system = [Problem("system", "a" * 3, "", system="b" * 30)]
    Room(46, "it", 6).check(Counting(), with_system, FORM, "the split")
    assert Counting.asked == 1


def test_the_longer_wording_of_a_problem_decides_whether_it_is_read(tokenizer) -> None:
    """A model with a chat template reads the instruction and the turns before it, any other the prompt."""
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    words = "b" * 50
    for reader, problem in (
        (tokenizer, Problem("long", words, "", instruction="a")),
        (chat, Problem("long", "a", "", instruction=words)),
        (chat, Problem("long", "a", "", instruction="a", turns=(("user", words),))),
    ):
        with pytest.raises(ConfigError, match=r"The prompt 'long' of the split has 5[01] tokens"):
            Room(46, "it", 6).check(reader, [problem], FORM, "the split")
