"""What a process keeps with a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relax_rl.errors import RunError
from relax_rl.training.trl.rank_state import load_rank_state, save_rank_state


def test_what_a_process_kept_comes_back(tmp_path: Path) -> None:
    base = torch.arange(6.0).view(2, 3)
    state = {
        "a": [1, None, "text", 0.5, True],
        "views": (base[:, 1], base[:1]),
        "inner": {"b": torch.tensor(3), "learns": torch.ones(2, requires_grad=True)},
        "c": {},
    }
    save_rank_state(state, tmp_path, 2)
    found = load_rank_state(tmp_path, 2, "cpu")
    assert found is not None
    assert (found["a"], found["c"]) == (state["a"], {})
    assert [tensor.tolist() for tensor in found["views"]] == [[1.0, 4.0], [[0.0, 1.0, 2.0]]]
    assert found["inner"]["b"].item() == 3
    assert (found["inner"]["learns"].tolist(), found["inner"]["learns"].requires_grad) == ([1.0, 1.0], False)
    assert load_rank_state(tmp_path, 0, "cpu") is None
    with pytest.raises(TypeError):
        save_rank_state({"a": object()}, tmp_path, 1)
    (tmp_path / "rank_2.safetensors").unlink()
    with pytest.raises(RunError, match=r"rank_2\.json and rank_2\.safetensors cannot be read"):
        load_rank_state(tmp_path, 2, "cpu")
