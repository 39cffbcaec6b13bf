"""Inputs of micro-batches: the states that predict, phrases, keys of prompts."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from relax_rl.objectives.inputs import PROMPT_KEYS
from relax_rl.training.inputs.planning import planning_mask
from relax_rl.training.inputs.prompt_keys import prompt_key
from relax_rl.training.inputs.provider import MicroBatch
from relax_rl.training.inputs.providers import provider_of
from support.images import square


def test_the_states_that_predict_end_before_the_last() -> None:
    states = torch.arange(2.0 * 5).view(2, 5, 1)
    micro = MicroBatch({}, SimpleNamespace(hidden_states=states), torch.ones(2, 2), 1)  # pyright: ignore[reportArgumentType]
    assert micro.predicting_states[0].flatten().tolist() == [2.0, 3.0]
    assert micro.states_ending(before=0)[0].flatten().tolist() == [3.0, 4.0]


class Pieces:
    """Tokens are the places of these pieces."""

    pieces = ("Let", "Ġus", "▁see", "Ċ", None, "ing", ".", " ", "LET", "outlet")

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str | None]:
        return [self.pieces[index] for index in ids]


def test_a_phrase_reaches_into_every_token_it_touches_and_into_no_other() -> None:
    def marked(*rows: list[int], gram: str = "let us") -> list[list[int]]:
        return planning_mask(Pieces(), rows, [gram, "see"], 6).int().tolist()

    assert marked([0, 1, 6]) == [[1, 1, 0, 0, 0, 0]]
    assert marked([6, 8, 3, 1, 2], [9, 1]) == [[0, 1, 1, 1, 1, 0], [0] * 6]
    assert marked([2, 5]) == [[0] * 6]  # seeing is another word
    assert marked([4, 0, 1]) == [[0, 1, 1, 0, 0, 0]]  # a token without a piece is in no phrase
    assert marked([]) == [[0] * 6]


def test_a_prompt_is_known_by_its_words_and_its_images() -> None:
    messages = [{"role": "user", "content": "a"}]
    keys = [prompt_key("a"), prompt_key(messages), prompt_key("a", [square(0)]), prompt_key("a", [square(1)])]
    assert len(set(keys)) == 4
    assert prompt_key([{"content": "a", "role": "user"}]) == keys[1]


def test_a_micro_batch_has_one_key_a_prompt() -> None:
    device = SimpleNamespace(accelerator=SimpleNamespace(device="cpu"))
    provider = provider_of(PROMPT_KEYS, device)  # pyright: ignore[reportArgumentType]
    rows = [{"prompt": name, "images": None} for name in "aabb"]
    columns = provider.sampled(rows, {})
    micro = MicroBatch(columns, SimpleNamespace(hidden_states=None), torch.ones(4, 1), 2)  # pyright: ignore[reportArgumentType]
    found = provider.tensor(micro)
    assert found is not None
    assert found.tolist() == [prompt_key("a"), prompt_key("b")]
