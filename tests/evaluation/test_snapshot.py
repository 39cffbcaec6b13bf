"""Snapshots of latent dynamics: the tokens of a mode, the axes of trajectories, and what survives the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from relax_rl.errors import DataError
from relax_rl.evaluation.pieces import pieces_of
from relax_rl.evaluation.snapshot import Snapshot
from relax_rl.evaluation.tracing import SnapshotRow, TrajectoryBasis, take_snapshot
from relax_rl.koopman import KoopmanDictionary
from relax_rl.spectra.activity import mode_activity
from relax_rl.training.models import load_model


def test_a_mode_is_active_where_its_eigenfunction_is_large() -> None:
    """Two decoupled observables: each mode is one of them, so its strength is that observable's size by hand."""
    text = torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 0.0]])
    found = mode_activity([text], torch.eye(2, dtype=torch.complex128), [(0.9, 0.0), (0.5, 0.0)])
    assert found.places == (0, 1)
    # Root mean squares 1.5 and 0.7071: 3 * 3 / 1.5 = 6, and 3 * 1 / 0.7071 = 4.24.
    assert found.strengths == (("6000", "0440"),)


def test_a_conjugate_pair_is_one_mode_and_a_strength_has_one_digit() -> None:
    vectors = torch.tensor([[1.0, 1.0, 0.0], [1.0j, -1.0j, 0.0], [0.0, 0.0, 1.0]], dtype=torch.complex128)
    text = torch.zeros(100, 3)
    text[0] = torch.tensor([1.0, 1.0, 100.0])
    found = mode_activity([text], vectors, [(0.5, 0.5), (0.5, -0.5), (0.1, 0.0)], most=2)
    assert found.places == (0, 2)
    assert [digits[0] for digits in found.strengths[0]] == ["9", "9"]
    assert mode_activity([], vectors, [(0.5, 0.0)] * 3).strengths == ()


def test_pieces_together_are_the_text() -> None:
    words = {1: b"a", 2: "é".encode()[:1], 3: "é".encode()[1:], 4: b" b"}

    def decode(ids: list[int]) -> str:
        return b"".join(words[one] for one in ids).decode("utf-8", "replace")

    assert pieces_of([1, 2, 3, 4] * 5, decode) == ("a", "", "é", " b") * 5
    assert pieces_of([1, 2], decode) == ("a", "\ufffd")
    assert pieces_of([], decode) == ()


def test_the_basis_holds_the_directions_of_largest_variance() -> None:
    torch.manual_seed(0)
    axes = torch.linalg.qr(torch.randn(6, 6)).Q
    states = torch.randn(400, 2) @ torch.diag(torch.tensor([10.0, 3.0])) @ axes[:2] + 5
    basis = TrajectoryBasis.fit(states)
    assert basis.directions.shape == (6, 2)  # two directions have all of it
    assert torch.allclose(basis.directions[:, 0].abs(), axes[0].abs(), atol=0.05)
    assert torch.allclose(basis.directions.T @ basis.directions, torch.eye(2), atol=1e-5)
    assert torch.allclose(basis.points(states) @ basis.directions.T + basis.center, states, atol=1e-3)


@pytest.mark.slow  # loads a model
def test_a_snapshot_follows_the_prompt_whose_rewards_differ_and_survives_its_file() -> None:
    model, tokenizer = load_model("tiny")
    words: Any = tokenizer
    prompts = [words("11 1 3>14:")["input_ids"], words("9 4 2>15:")["input_ids"]]
    texts = ["11+3=14. 11+3", "9+4=13, 13+2=15. 9+4+2", "11-1=10, 10+3=13. 11-1+3", "9-4=5. 9-4"]
    rows = [
        SnapshotRow(place % 2, prompts[place % 2], words(text)["input_ids"], reward, "asked")
        for place, (text, reward) in enumerate(zip(texts, [1.0, 0.0, 1.0, 1.0], strict=True))
    ]
    torch.manual_seed(0)
    dictionary = KoopmanDictionary.fit([torch.randn(40, model.config.hidden_size)], num_observables=8, steps=1)
    found, basis = take_snapshot(model, rows, dictionary, words.decode, update=7)
    assert [row.reward for row in found.completions] == [0.0, 1.0]
    assert ["".join(row.tokens) for row in found.completions] == [texts[1], texts[3]]
    assert found.spectrum is not None
    for row in found.completions:
        assert len(row.tokens) == len(row.entropy) == len(row.points)
        assert {len(digits) for digits in row.strengths} == {len(row.tokens)}
        assert len(row.strengths) == len(found.modes)
    assert Snapshot.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    again, same = take_snapshot(model, rows, dictionary, words.decode, update=7, basis=basis)
    assert again == found
    assert same is basis


@pytest.mark.parametrize("data", [{}, {"update": 1, "completions": 3}, {"update": "x", "completions": []}])
def test_what_is_no_snapshot_is_refused(data: dict) -> None:
    with pytest.raises(DataError, match="not a snapshot"):
        Snapshot.from_dict(data)
