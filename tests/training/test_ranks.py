"""What a process does as one of several, seen from one: its rows, its word, what it waits for, what it goes back to."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from trl import GRPOTrainer

from relax_rl.errors import DataError, RunError
from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.runs.manifest import MANIFEST_FILE
from relax_rl.stopping import Reason, StopRequest
from relax_rl.training import together
from relax_rl.training.entropy_forecast import EntropyForecast
from relax_rl.training.objective_state import STATE_FILE
from relax_rl.training.trl import agreement, resuming
from relax_rl.training.trl.guarded import GuardedTrainer
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.rollouts import RolloutTrainer
from relax_rl.training.trl.stopping import StopWhenAsked
from support.scripted import make_trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """After one update of one, with its checkpoint."""
    folder = tmp_path_factory.mktemp("trained")
    trainer = make_trainer(build_objective("grpo"), folder, max_steps=1, save_strategy="steps", save_steps=1, seed=5)
    trainer.notices.listen(lambda _: None)
    trainer.train()
    return trainer


def test_a_process_keeps_the_rewards_of_its_own_rows(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = torch.arange(12.0).view(12, 1)
    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", lambda *_: scores)
    monkeypatch.setattr(trained, "accelerator", SimpleNamespace(process_index=1, device="cpu", num_processes=2))
    monkeypatch.setattr(trained, "reward_weights", torch.tensor([2.0]))
    inputs = [{"prompt": "p", "answer": "1 2>3"}] * 4
    assert trained._calculate_rewards(inputs, ["p"] * 4, ["x"] * 4, [[5]] * 4) is scores
    assert trained._local_rewards.tolist() == [8.0, 10.0, 12.0, 14.0]


@pytest.mark.parametrize(("num_processes", "where"), [(1, ""), (3, " of process 2")])
def test_a_finding_names_its_micro_batch_and_its_process(num_processes: int, where: str) -> None:
    batch = SimpleNamespace(
        log_probs=torch.full((1, 1, 1), torch.nan), mask=torch.ones(1, 1, 1, dtype=torch.bool),
        old_log_probs=None, ref_log_probs=None, entropy=None, hidden_states=None,
    )  # fmt: skip
    trainer: Any = SimpleNamespace(
        _step=7, _findings=["earlier"], args=SimpleNamespace(gradient_accumulation_steps=4),
        accelerator=SimpleNamespace(num_processes=num_processes, process_index=2),
    )  # fmt: skip
    output = SimpleNamespace(loss=torch.tensor(0.5), terms={})
    GuardedTrainer._inspect(trainer, batch, output)  # pyright: ignore[reportArgumentType]
    assert trainer._findings == ["earlier", f"the log-probabilities of completion 1 in micro-batch 4{where}"]


# Agreement --------------------------------------------------------------------------------------------------------


class Broadcast:
    """What the first process said, for all of them."""

    def __init__(self, said: list[Any] | None = None) -> None:
        self.said = said

    def __call__(self, outcome: list[Any]) -> None:
        if self.said is None:
            self.said = list(outcome)
        outcome[:] = self.said


def agree(monkeypatch: pytest.MonkeyPatch, broadcast: Broadcast, look: Any, num_processes: int, is_main: bool) -> Any:
    state = SimpleNamespace(num_processes=num_processes, is_main_process=is_main)
    monkeypatch.setattr(agreement, "PartialState", lambda: state)
    monkeypatch.setattr(agreement, "broadcast_object_list", broadcast)
    return agreement.found_by_first(look)


def test_what_the_first_process_finds_or_refuses_is_found_or_refused_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> None:
        raise AssertionError("it looked")

    def refuse() -> None:
        raise RunError("no")

    assert agree(monkeypatch, Broadcast(["wrong", None]), lambda: "found", 1, True) == "found"
    broadcast = Broadcast()
    assert agree(monkeypatch, broadcast, lambda: "found", 2, True) == "found"
    assert agree(monkeypatch, broadcast, never, 2, False) == "found"
    broadcast = Broadcast()
    for look, is_main in ((refuse, True), (never, False)):
        with pytest.raises(RunError, match="no"):
            agree(monkeypatch, broadcast, look, 2, is_main)


@pytest.mark.parametrize(
    ("own", "theirs", "reason"), [(None, 0, None), (None, 143, 143), (130, 0, 130), (129, 143, 129)]
)
def test_a_stop_on_one_process_is_one_on_all(
    own: int | None, theirs: int, reason: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_reduce(code: torch.Tensor, op: Any) -> None:
        assert op == torch.distributed.ReduceOp.MAX
        assert int(code) == (own or 0)
        code.fill_(max(int(code), theirs))

    monkeypatch.setattr(torch.distributed, "all_reduce", all_reduce)
    request = StopRequest()
    if own is not None:
        request.ask(Reason.of_code(own))
    control = SimpleNamespace(should_save=False, should_training_stop=False)
    args, state = SimpleNamespace(world_size=2, device="cpu"), SimpleNamespace()
    StopWhenAsked(request).on_step_end(args, state, control)  # pyright: ignore[reportArgumentType]
    assert (control.should_save, control.should_training_stop) == (reason is not None,) * 2
    assert (request.reason.exit_code if request.reason else None) == reason
    args.world_size = 1
    monkeypatch.setattr(torch.distributed, "all_reduce", None)
    StopWhenAsked(request).on_step_end(args, state, control)  # pyright: ignore[reportArgumentType]


def test_the_first_process_receives_the_rows_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = [(0, torch.zeros(2))], [(3, torch.ones(1))]

    def gather_object(rows: Any, received: Any, dst: int) -> None:
        assert (rows, dst) == (own, 0)
        if received is not None:
            received[:] = [rows, other]

    monkeypatch.setattr(torch.distributed, "gather_object", gather_object)

    def received(num_processes: int, is_main: bool) -> Any:
        processes = SimpleNamespace(num_processes=num_processes, is_main_process=is_main)
        monkeypatch.setattr(together, "PartialState", lambda: processes)
        return together.given_to_first(own)

    assert received(2, True) == [own, other]
    assert received(2, False) is None
    monkeypatch.setattr(torch.distributed, "gather_object", None)
    assert received(1, True) == [own]


# Going back -------------------------------------------------------------------------------------------------------


def test_a_run_of_other_processes_draws_numbers_of_its_own(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = Path(trained.args.output_dir) / "checkpoint-1"
    path = checkpoint / MANIFEST_FILE
    as_written = path.read_text()
    manifest = json.loads(as_written)
    manifest["training"]["num_processes"] = 2
    path.write_text(json.dumps(manifest))
    seeds: list[Any] = []
    monkeypatch.setattr(resuming, "set_seed", lambda seed, **named: seeds.append((seed, named)))
    ranks: list[int] = []
    known = resuming.load_rank_state

    def load_rank_state(folder: Path, rank: int, device: Any) -> Any:
        ranks.append(rank)
        return known(folder, rank, device)

    monkeypatch.setattr(resuming, "load_rank_state", load_rank_state)
    again = make_trainer(build_objective("grpo"), tmp_path, max_steps=2, seed=5)
    heard: list[str] = []
    again.notices.listen(heard.append)
    again.train(resume_from_checkpoint=str(checkpoint))
    path.write_text(as_written)
    assert seeds == [(5 + 1_000_003, {"device_specific": True})]
    assert ranks == [0]
    assert heard[0].startswith("resumed with 1 processes instead of 2: an update has 16 completions as before")


def test_all_that_an_update_changes_goes_back_to_the_last_one(trained: Any) -> None:
    last = trained._last_update
    trained._rewind(last)
    drawn = (random.random(), float(np.random.rand()), float(torch.rand(1)))  # noqa: NPY002
    before = (trained.objective, trained._forecast, trained.state.num_input_tokens_seen, trained._step)
    trained.objective, trained._forecast = build_objective("dapo"), EntropyForecast(entropy=3.0)
    trained.state.num_input_tokens_seen, trained._step = -1, 17
    trained._globalstep_last_logged, trained._buffered_inputs = 9, "other"
    trained._metrics["train"]["other"].append(1.0)
    trained._tr_loss = trained._tr_loss + 5
    trained._rewind(last)
    assert (random.random(), float(np.random.rand()), float(torch.rand(1))) == drawn  # noqa: NPY002
    assert (trained.objective.name, trained._forecast) == (before[0].name, before[1])
    assert (trained.state.num_input_tokens_seen, trained._step) == (before[2], 2)
    memory = trained._in_memory()
    assert memory.pop("loss").item() == last["memory"]["loss"].item()
    assert memory == {name: value for name, value in last["memory"].items() if name != "loss"}


def test_a_checkpoint_of_a_run_without_dynamic_sampling_has_drawn_nothing(trained: Any) -> None:
    folder = Path(trained.args.output_dir) / "checkpoint-1"
    assert json.loads((folder / STATE_FILE).read_text())["draws"] == 0
    assert trained._state_in_objects()["draws"] == 0
    trained.load_checkpoint(folder)
    assert trained._sampling is None


def test_one_byte_that_changed_in_the_weights_is_found_before_a_resume(trained: Any, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-1"
    shutil.copytree(Path(trained.args.output_dir) / "checkpoint-1", checkpoint)
    trained._checkpoint_to_resume(str(checkpoint))
    weights = checkpoint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RunError, match=r"cannot resume from .*checkpoint-1: .*model\.safetensors"):
        trained._checkpoint_to_resume(str(checkpoint))


def test_what_is_recorded_is_kept_inside_a_rollout_batch_alone(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    restored: list[Any] = []
    recorder = SimpleNamespace(kept=lambda: {"rows": [1]}, restore=restored.append)
    for is_inside in (True, False):
        monkeypatch.setattr(type(trained), "_is_inside_rollout", is_inside)
        for known in (recorder, None):
            monkeypatch.setattr(trained, "_recorder", known)
            monkeypatch.setattr(trained, "_buffered_inputs", [])
            memory = trained._in_memory()
            assert memory["recorded"] == ({"rows": [1]} if is_inside and known else None)
            trained._restore(memory)
    assert restored == [{"rows": [1]}]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_and_the_limit_as_it_was(
    trained: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(trained.args.output_dir) / "checkpoint-7"

    def fail(*_: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(trained.state, "global_step", 7)
    monkeypatch.setattr(trained.args, "save_total_limit", 3)
    monkeypatch.setattr(trained, "training_facts", fail)
    with pytest.raises(OSError, match="full"):
        trained._save_checkpoint(trained.model, None)
    assert not folder.exists()
    assert trained.args.save_total_limit == 3


# What reward functions are told -----------------------------------------------------------------------------------


def test_a_thought_is_opened_by_each_prompt_for_itself() -> None:
    rendered: list[Any] = []

    def apply_chat_template(messages: Any, **options: Any) -> str:
        rendered.append((messages, options))
        return "<|user|>q<think>\n"

    trainer: Any = SimpleNamespace(
        processing_class=SimpleNamespace(apply_chat_template=apply_chat_template),
        _is_vlm=False, chat_template="template", chat_template_kwargs={"deep": True},
    )  # fmt: skip
    talk = [{"role": "user", "content": "q"}]
    prompts = ["a", "b<think>", "b<think>", "a", talk, talk]
    opened = RolloutTrainer._opened_thoughts(trainer, prompts)
    assert [bool(tag) for tag in opened] == [False, True, True, False, True, True]
    options = {"chat_template": "template", "add_generation_prompt": True, "tokenize": False, "deep": True}
    assert rendered == [(talk, options)]


def test_what_a_reward_function_failed_on_is_kept_in_training_alone(trained: Any, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    directory.path.mkdir()
    error, given = DataError("It failed."), [{"prompt": "p"}]
    kept, trained._recorder = trained._recorder, RolloutRecorder(directory)
    trained.model.train()
    said = str(trained._with_rollout_kept(error, given, ["text"]))
    assert said.startswith("It failed; the completions it was given are in ")
    (path,) = [file for file in directory.path.rglob("*") if file.is_file()]
    assert str(path) in said
    row = json.loads(path.read_text().splitlines()[0])
    assert row == {"update": trained.state.global_step + 1, "completion": "text", "prompt": "p"}
    trained.model.eval()
    assert trained._with_rollout_kept(error, given, ["text"]) is error
    trained.model.train()
    trained._recorder = kept
    assert trained._with_rollout_kept(error, given, ["text"]) is error


def test_rows_come_back_into_their_order_and_an_update_counts_its_tokens_on_all_ranks() -> None:
    accelerator = SimpleNamespace(
        reduce=lambda tensor, reduction: 3 * tensor if reduction == "sum" else tensor, device="cpu"
    )
    trainer: Any = SimpleNamespace(
        args=SimpleNamespace(gradient_accumulation_steps=2),
        accelerator=accelerator,
        _completion_mask=RolloutTrainer._completion_mask,
        _keeps_layout=True,
    )
    shuffled = torch.tensor([5, 0, 7, 2, 1, 6, 3, 4])
    masks = (torch.arange(8) <= shuffled[:, None]).long()  # row r has r + 1 tokens, of which the first is not learned
    tools = torch.ones_like(masks)
    tools[:, 0] = 0
    parts = [
        {
            "row": shuffled[start : start + 2],
            "completion_mask": masks[start : start + 2],
            "tool_mask": tools[start : start + 2],
            "prompt_mask": torch.ones(2, 2, dtype=torch.long),
            "names": [f"row {row}" for row in shuffled[start : start + 2].tolist()],
            "temperature": torch.tensor(0.5),
        }
        for start in range(0, 8, 2)
    ]
    batches = RolloutTrainer._whole_groups(trainer, parts)
    assert [batch["row"].tolist() for batch in batches] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert [batch["names"] for batch in batches][1] == ["row 2", "row 3"]
    assert [batch["completion_mask"].sum().item() for batch in batches] == [3, 7, 11, 15]
    assert [batch["temperature"].item() for batch in batches] == [0.5] * 4
    assert [batch["num_update_tokens"] for batch in batches] == [18.0, 18.0, 66.0, 66.0]
    # Of 40 positions, the first update fills 10 of its completions and 8 of its prompts.
    assert [batch["padding"] for batch in batches] == pytest.approx([22 / 40, 22 / 40, 6 / 40, 6 / 40])
