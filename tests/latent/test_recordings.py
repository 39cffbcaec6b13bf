"""Hidden states that other programs wrote: every format gives the states that went in, and bad files one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.latent.recordings import RecordingFolder, layer_sites
from relax_rl.latent.store import LatentStore, StoreRow

STATES = torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(0))


def write_npy(path: Path) -> None:
    np.save(path / "a.npy", STATES.numpy())


def write_npz(path: Path) -> None:
    for row in range(2):
        np.savez(path / f"{row}.npz", states=STATES[row].numpy(), weights=np.ones(3), labels=np.arange(7))


def write_tensor(path: Path) -> None:
    torch.save(STATES, path / "a.pt")


def write_list(path: Path) -> None:
    torch.save([{"states": STATES[0]}, {"states": STATES[1]}], path / "a.pth")


def write_padded(path: Path) -> None:
    padded = torch.nn.functional.pad(STATES, (0, 0, 2, 0), value=torch.nan)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1]] * 2)
    torch.save({"states": padded, "attention_mask": mask, "pattern": torch.zeros(2, 4, 9, 9)}, path / "a.pt")


def write_rows_of_tokens(path: Path) -> None:
    table = {"request_id": ["x"] * 7 + ["y"] * 7, "states": STATES.flatten(0, 1).tolist()}
    pq.write_table(pa.table(table), path / "a.parquet")


def write_rows_of_trajectories(path: Path) -> None:
    pq.write_table(pa.table({"states": STATES.tolist(), "token_ids": [[1] * 7, [2] * 7]}), path / "a.parquet")


def write_columns(path: Path) -> None:
    for row in range(2):
        table = {f"channel {i}": STATES[row, :, i].numpy() for i in range(3)} | {"step": np.arange(7)}
        pq.write_table(pa.table(table), path / f"{row}.parquet")


def write_store(path: Path) -> None:
    with LatentStore.create(path, {"holds": "states"}) as store:
        for row in range(2):
            store.append(StoreRow(str(row), {"states": STATES[row]}, 7, {"id": f"text {row}"}))


@pytest.mark.parametrize(
    "write",
    [
        *(write_npy, write_npz, write_tensor, write_list, write_padded),
        *(write_rows_of_tokens, write_rows_of_trajectories, write_columns, write_store),
    ],
)
def test_what_was_written_is_read(write: Any, tmp_path: Path) -> None:
    write(tmp_path)
    folder = RecordingFolder(tmp_path, skip=0)
    assert folder.default_sites() == ["states"]
    assert len({recording.key for recording in folder.recordings}) == 2
    read = {trajectory.row: trajectory for trajectory in folder.read([1, 0], ["states"])}
    for row in range(2):
        assert folder.recordings[row].num_tokens == 7 == len(read[row])
        torch.testing.assert_close(read[row].states["states"].double(), STATES[row].double())


def test_layers_of_vllm_get_their_names_and_lose_the_first_token(tmp_path: Path) -> None:
    stacked = torch.randn(7, 3, 5)
    save_file({"hidden_states": stacked, "token_ids": torch.arange(7)}, tmp_path / "req.safetensors")
    (tmp_path / "req.safetensors.lock").write_text("")
    folder = RecordingFolder(tmp_path, layer_sites([0, 2, 28]))
    assert folder.is_before_norm
    (read,) = folder.read([0], ["embed", "layer_1_out", "layer_27_out"])
    for layer, site in enumerate(("embed", "layer_1_out", "layer_27_out")):
        assert torch.equal(read.states[site], stacked[1:, layer])


def test_caches_of_transformer_lens_and_nnsight_get_our_names(tmp_path: Path) -> None:
    cache = {f"blocks.{layer}.hook_resid_post": STATES[:1] + layer for layer in range(9)}
    cache |= {"blocks.0.hook_resid_pre": STATES[:1] - 1, "blocks.3.attn.hook_q": torch.zeros(1, 7, 2, 4)}
    torch.save(cache, tmp_path / "lens.pt")
    nnsight = {"model.layers.3.output": (STATES[0] + 3, torch.zeros(1)), "transformer.h.0": STATES[0]}
    torch.save(nnsight, tmp_path / "nnsight.pt")
    folder = RecordingFolder(tmp_path, skip=0)
    assert folder.default_sites() == ["layer_0_out", "layer_3_out"]  # those that both have
    lens, other = folder.read([0, 1], ["layer_3_out"])
    assert torch.equal(lens.states["layer_3_out"], other.states["layer_3_out"])
    (tmp_path / "nnsight.pt").unlink()
    sites = RecordingFolder(tmp_path).default_sites()
    assert sites == ["embed", "layer_1_out", "layer_3_out", "layer_6_out", "layer_8_out"]


def test_output_hidden_states_end_in_the_final_norm(tmp_path: Path) -> None:
    torch.save({"hidden_states": tuple(STATES + layer for layer in range(4))}, tmp_path / "a.pt")
    assert list(RecordingFolder(tmp_path).widths) == ["embed", "layer_0_out", "layer_1_out", "final_norm_out"]


class Opens:
    """Unpickled, it would open a file."""

    def __reduce__(self) -> Any:
        return open, ("opened", "w")


def bad_pickle(path: Path) -> None:
    torch.save({"states": STATES, "model": Opens()}, path / "a.pt")


def objects(path: Path) -> None:
    np.save(path / "a.npy", np.array([Opens(), 1], dtype=object), allow_pickle=True)


def save(**arrays: Tensor) -> Any:
    return lambda path: save_file({name: value.contiguous() for name, value in arrays.items()}, path / "a.safetensors")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda path: None, "There are no states in"),
        (save(token_ids=torch.arange(7)), "it needs floating arrays"),
        (save(hidden_states=torch.zeros(7, 2, 3), token_ids=torch.arange(7)), "--layer-ids 1,14,28"),
        (save(hidden_states=torch.zeros(7, 2, 3), token_ids=torch.arange(6)), "6 token ids for 7 states"),
        (save(a=torch.zeros(7, 2), b=torch.zeros(6, 2)), "different numbers of tokens"),
        (save(a=torch.zeros(1, 2)), "--skip 0"),
        (lambda path: (path / "a.safetensors").write_bytes(b"no"), "cannot be read"),
        (lambda path: (path / "a.npz").write_bytes(b"no"), "cannot be read"),
        (lambda path: (path / "a.parquet").write_bytes(b"no"), "cannot be read"),
        (bad_pickle, "not loaded from a file"),
        (objects, "cannot be read"),
        (
            lambda path: (np.save(path / "a.npy", np.zeros((4, 2))), np.save(path / "b.npy", np.zeros((4, 3)))),
            "width 3",
        ),
        (lambda path: LatentStore.create(path, {"holds": "statistics"}), "holds statistics"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(
    write: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    write(tmp_path / "in")
    with pytest.raises(DataError) as caught:
        RecordingFolder(tmp_path / "in")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "opened").exists()


def test_layer_ids_name_each_layer_once() -> None:
    with pytest.raises(ConfigError, match="each once"):
        layer_sites([1, 1])
