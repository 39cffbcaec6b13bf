"""Numbers that are not finite: the update is skipped with a name, the weights stay, too many stop the run."""

import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from relax_rl.cli.main import main
from relax_rl.config import GuardConfig
from relax_rl.errors import NumericalError
from relax_rl.latent.nonfinite import first_nonfinite_layer
from relax_rl.objectives import build_objective
from relax_rl.objectives.inputs import LOG_PARTITION
from relax_rl.training.notices import Notices
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import ScriptedTrainer, make_trainer, parity_reward, tiny_llama

SMALL = {"xi": "quantile:0.5", "dictionary": {"num_observables": 8, "steps": 3}}
OPTIONS = {"relax": SMALL, "flow_rl": {"tilt": 0.5}}


def guarded(folder: Any, method: str = "grpo", limits: GuardConfig | None = None, **settings: Any) -> tuple[Any, list]:
    """A trainer, and the sentences that it says."""
    said: list[str] = []
    trainer = make_trainer(
        build_objective(method, **OPTIONS.get(method, {})), folder, guard=limits, **({"max_steps": 4} | settings)
    )
    trainer.notices.listen(said.append)
    return trainer, said


def spoil_gradient(
    trainer: Any, updates: set[int], value: float = math.nan, name: str = "layers.1.mlp.up_proj"
) -> None:
    """One number of one gradient, in some updates."""
    weight = next(parameter for key, parameter in trainer.model.named_parameters() if name in key)

    def hook(parameter: torch.nn.Parameter) -> None:
        if trainer.state.global_step + 1 in updates and trainer._step % 2 == 1:
            parameter.grad.view(-1)[7] = value

    weight.register_post_accumulate_grad_hook(hook)


def spoil_states(trainer: Any, updates: set[int], completion: int, value: float = math.nan) -> None:
    """The final hidden states of one completion, in the second micro-batch of some updates."""

    def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled() or trainer.state.global_step + 1 not in updates or trainer._step % 2 != 1:
            return output
        spoilt = torch.zeros(len(output), 1, 1, dtype=torch.bool)
        spoilt[completion] = True
        return output.masked_fill(spoilt, value)

    trainer.model.base_model.norm.register_forward_hook(hook)


def snapshot(trainer: Any) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


class Watched(ScriptedTrainer):
    """Notes the weights and the optimiser's state after each update."""

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        notes = self.__dict__.setdefault("notes", {})
        state = self.optimizer.state_dict()["state"]
        notes[self.state.global_step] = (
            snapshot(self),
            json.dumps(
                {
                    key: {name: float(torch.as_tensor(v).double().sum()) for name, v in value.items()}
                    for key, value in state.items()
                }
            ),
        )
        super()._maybe_log_save_evaluate(*args, **kwargs)


def rows(trainer: Any) -> list[dict[str, Any]]:
    return [row for row in trainer.state.log_history if "grad_norm" in row]


@pytest.mark.parametrize(("method", "value"), [("grpo", math.nan), ("relax", math.inf), ("flow_rl", math.nan)])
def test_one_spoilt_gradient_is_not_stepped_on(method, value, tmp_path):
    trainer, said = guarded(tmp_path, method, trainer_class=Watched, save_strategy="steps", save_steps=1)
    spoil_gradient(trainer, {3}, value)
    trainer.train()
    notes = trainer.notes
    assert all(torch.equal(notes[3][0][name], notes[2][0][name]) for name in notes[2][0])
    assert notes[3][1] == notes[2][1]
    assert any(not torch.equal(notes[4][0][name], notes[3][0][name]) for name in notes[3][0])
    assert all(tensor.isfinite().all() for tensor in notes[4][0].values())
    assert [row.get("guard/skipped") for row in rows(trainer)] == [None, None, 1.0, None]
    assert [math.isfinite(row["grad_norm"]) for row in rows(trainer)] == [True, True, False, True]
    assert all(math.isfinite(row["loss"]) for row in rows(trainer))
    assert len(said) == 1
    assert "Update 3 was skipped" in said[0]
    assert "the gradient of model.layers.1.mlp.up_proj.weight." in said[0]
    kept = {int(path.parent.name.rpartition("-")[2]) for path in tmp_path.glob("checkpoint-*/guard.json")}
    assert kept == {3, 4}


@pytest.mark.parametrize(("method", "value"), [("grpo", math.inf), ("relax", math.nan), ("opefo", math.nan)])
def test_one_completion_with_spoilt_states_is_named_and_its_loss_is_null(method, value, tmp_path):
    trainer, said = guarded(tmp_path, method, trainer_class=Watched)
    spoil_states(trainer, {2}, completion=5, value=value)
    trainer.train()
    notes = trainer.notes
    assert all(torch.equal(notes[2][0][name], notes[1][0][name]) for name in notes[1][0])
    assert all(tensor.isfinite().all() for tensor in notes[4][0].values())
    assert [math.isfinite(row["loss"]) for row in rows(trainer)] == [True, False, True, True]
    assert [row.get("guard/skipped") for row in rows(trainer)] == [None, 1.0, None, None]
    assert len(said) == 1
    assert "Update 2 was skipped" in said[0]
    assert "the log-probabilities of completion 6 in micro-batch 2" in said[0]
    assert "the loss term" in said[0]
    if method == "relax":
        assert [row["latent/num_nonfinite"] for row in rows(trainer)] == [0.0, 0.5, 0.0, 0.0]
        assert all(math.isfinite(row["latent/dsd"]) for row in rows(trainer))


def test_too_many_in_a_row_stop_the_run_with_its_last_checkpoint(tmp_path):
    trainer, said = guarded(
        tmp_path,
        limits=GuardConfig(max_consecutive=2, max_share=1.0),
        max_steps=6,
        save_strategy="steps",
        save_steps=2,
        save_total_limit=1,
    )
    spoil_gradient(trainer, {3, 4, 5, 6})
    with pytest.raises(NumericalError) as stopped:
        trainer.train()
    sentence = str(stopped.value)
    assert "the updates 3 to 4 were skipped" in sentence
    assert "layers.1.mlp.up_proj" in sentence
    assert f"the last checkpoint is {tmp_path / 'checkpoint-4'}" in sentence
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-4"]
    assert len(rows(trainer)) == 4
    assert len(said) == 1
    # Two skipped updates are kept with the checkpoint: the first one after a resume is the third in a row.
    resumed, _ = guarded(tmp_path, limits=GuardConfig(max_share=1.0), max_steps=6)
    spoil_gradient(resumed, {5})
    with pytest.raises(NumericalError, match="the updates 3 to 5 were skipped"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    healthy, _ = guarded(tmp_path, max_steps=6)
    healthy.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert healthy.state.global_step == 6


def test_too_large_a_share_stops_the_run(tmp_path):
    trainer, _ = guarded(tmp_path, limits=GuardConfig(max_consecutive=5, max_share=0.4), max_steps=6)
    spoil_gradient(trainer, {1, 3, 5})
    with pytest.raises(NumericalError, match=r"2 of 3 updates were skipped, the first of them 1.*max_share = 0\.4"):
        trainer.train()
    # Nothing is saved where nothing was to be.
    assert not list(tmp_path.glob("checkpoint-*"))


def test_a_few_skipped_updates_are_counted_at_the_end(tmp_path):
    trainer, said = guarded(tmp_path, limits=GuardConfig(max_share=0.7))
    spoil_gradient(trainer, {1, 3})
    trainer.train()
    assert len(said) == 2
    assert "2 of 4 updates were skipped since update 1" in said[1]


def test_spoilt_weights_are_never_saved_and_never_taken(tmp_path):
    trainer, _ = guarded(tmp_path, save_strategy="steps", save_steps=1)

    def spoil(optimizer: Any, *_: Any) -> None:
        if trainer.state.global_step == 1:
            with torch.no_grad():
                trainer.model.lm_head.weight[3, 3] = math.nan

    trainer.create_optimizer()
    trainer.optimizer.register_step_post_hook(spoil)
    with pytest.raises(NumericalError) as stopped:
        trainer.train()
    assert "The step of update 2 made the weights of lm_head.weight not finite" in str(stopped.value)
    assert str(tmp_path / "checkpoint-1") in str(stopped.value)
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-1"]
    with pytest.raises(NumericalError, match=r"lm_head\.weight are not finite and are not saved"):
        trainer.save_model(str(tmp_path / "mine"))
    assert not (tmp_path / "mine").exists()
    with pytest.raises(NumericalError, match="before the first update"):
        trainer.train()
    path = tmp_path / "checkpoint-1" / "model.safetensors"
    weights = load_file(path)
    next(iter(weights.values())).view(-1)[0] = math.inf
    save_file(weights, path, {"format": "pt"})
    # The manifest would name the file: as a version of the package left it that wrote none.
    (tmp_path / "checkpoint-1" / "manifest.json").unlink()
    resumed, _ = guarded(tmp_path)
    with pytest.raises(NumericalError, match=r"checkpoint-1; resume from an older one"):
        resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


def test_flow_rls_head_stays_as_it_is_too(tmp_path):
    trainer, _ = guarded(tmp_path, "flow_rl", max_steps=2)
    spoil_gradient(trainer, {2})
    head = trainer._providers[LOG_PARTITION].head
    notes = []
    trainer.add_callback(
        type(
            "Note",
            (TrainerCallback,),
            {
                "on_step_end": lambda *_, **__: notes.append(
                    {key: value.clone() for key, value in head.state_dict().items()}
                )
            },
        )
    )
    trainer.train()
    assert all(torch.equal(value, notes[1][name]) for name, value in notes[0].items())


@pytest.mark.parametrize("endless", [math.inf, -math.inf, 1e38])
def test_an_infinite_reward_counts_as_not_scored(endless, tmp_path):
    def reward(completions: list[Any], **_: Any) -> list[float]:
        # Two completions are the trial before the run, which refuses it.
        return [endless if len(completions) > 2 else 0.0, *parity_reward(completions)[1:]]

    def nothing(completions: list[Any], **_: Any) -> list[float | None]:
        return [None, *parity_reward(completions)[1:]]

    trainer, said = guarded(tmp_path / "endless", max_steps=2, reward=reward)
    trainer.train()
    unscored, _ = guarded(tmp_path / "none", max_steps=2, reward=nothing)
    unscored.train()
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), unscored.model.parameters(), strict=True))
    assert [row["guard/infinite_rewards"] for row in rows(trainer)] == [1.0, 1.0]
    assert all(math.isfinite(row["reward"]) for row in rows(trainer))
    assert [sentence for sentence in said if "is infinite or beyond 1e+18 since update 1" in sentence]


@pytest.mark.parametrize("kind", [np.asarray, torch.tensor, tuple])
def test_rewards_as_arrays_and_tensors(kind, tmp_path):
    trainer, _ = guarded(tmp_path, max_steps=1, reward=lambda completions, **_: kind(parity_reward(completions)))
    trainer.train()
    usual, _ = guarded(tmp_path, max_steps=1)
    usual.train()
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), usual.model.parameters(), strict=True))


def test_a_head_that_gives_nan_is_named_at_the_rollout(tmp_path):
    trainer, _ = guarded(tmp_path, trainer_class=RelaxTrainer, max_steps=3)

    def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return torch.full_like(output, math.nan) if trainer.state.global_step == 1 else output

    trainer.model.lm_head.register_forward_hook(hook)
    with pytest.raises(NumericalError) as stopped:
        trainer.train()
    assert "in the rollouts of update 2: the output of lm_head is not finite" in str(stopped.value)


class DyingTracker(TrainerCallback):
    """Fails at an event, from the second update on."""

    event = "on_log"
    seen: list[int]

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(state.global_step)
        if self.event == "on_log" and state.global_step == 2:
            raise ConnectionError("the server is gone")

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.event == "on_train_begin":
            raise RuntimeError("no key")


@pytest.mark.parametrize(("event", "seen"), [("on_log", [1, 2]), ("on_train_begin", [])])
def test_a_tracker_that_dies_is_left_out(event, seen, tmp_path, monkeypatch):
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "mine", DyingTracker)
    monkeypatch.setattr(DyingTracker, "event", event)
    monkeypatch.setattr(DyingTracker, "seen", [], raising=False)
    trainer, said = guarded(tmp_path, report_to="mine")
    trainer.train()
    assert trainer.state.global_step == 4
    assert DyingTracker.seen == seen
    assert len(said) == 1
    assert f"The tracker DyingTracker failed after update {len(seen)}, at {event} (" in said[0]


def test_a_callback_that_is_no_tracker_still_stops_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(DyingTracker, "seen", [], raising=False)
    trainer, _ = guarded(tmp_path)
    trainer.add_callback(DyingTracker())
    with pytest.raises(ConnectionError):
        trainer.train()


def test_without_a_listener_the_sentences_are_python_warnings():
    say = Notices()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for sentence in ("once", "once", "twice"):
            say(sentence)
    assert [(str(each.message), each.category) for each in said] == [("once", UserWarning), ("twice", UserWarning)]


def test_the_first_layer_that_is_not_finite():
    model = tiny_llama()
    assert first_nonfinite_layer(model, [[1, 2, 3]]) is None
    model.get_parameter("model.layers.1.self_attn.o_proj.weight").data[0, 0] = math.inf
    assert first_nonfinite_layer(model, [[1, 2, 3]]) == "model.layers.1.self_attn.o_proj"


@pytest.mark.distributed
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("method", "spoilt"), [("grpo", [2]), ("flow_rl", [2]), ("grpo", [2, 3])])
def test_all_ranks_skip_what_one_of_them_finds(method, spoilt, tmp_path):
    root = Path(__file__).parents[2]
    script = str(root / "tests/support/guarded_ranks.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2"]
    environment = os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root / 'tests'}", "OMP_NUM_THREADS": "1"}
    words = [*launcher, script, method, str(tmp_path), json.dumps(spoilt)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    first, second = found["ranks"]
    assert first["sums"] == second["sums"]
    assert all(math.isfinite(value) for value in first["sums"])
    assert first["updates"] == second["updates"] == (4 if spoilt == [2] else 3)
    assert bool(first["stopped"]) == bool(second["stopped"]) == (spoilt != [2])
    assert len(first["said"]) == 1
    assert second["said"] == []
    assert "the log-probabilities of completion 3 in micro-batch 1 of process 1" in first["said"][0]
    skipped = [1.0 if update in spoilt else None for update in range(1, first["updates"] + 1)]
    assert [row.get("guard/skipped") for row in found["rows"]] == skipped


@pytest.mark.slow
def test_a_learning_rate_of_100_stops_in_words_with_sound_weights(tmp_path, capsys):
    run = tmp_path / "run"
    words = [
        "--objective=grpo",
        "--trainer.learning_rate=100",
        "--trainer.max_steps=4",
        "--trainer.save_steps=1",
        "--trainer.per_device_train_batch_size=16",
        "--trainer.gradient_accumulation_steps=1",
        "--trainer.num_generations=8",
        "--evaluation.enabled=false",
        f"--output={run}",
    ]
    assert main(["train", "countdown", *words]) == 2
    shown = capsys.readouterr()
    # The figures go to the log; transformers would print them, too.
    assert "'loss'" not in shown.out
    told = shown.err
    assert "Traceback" not in told
    assert "relax: warning: Update 2 was skipped, because numbers in it are not finite: the gradient of" in told
    assert "relax: error: The run stops after update 3: 2 of 3 updates were skipped" in told
    assert f"the last checkpoint is {run}/checkpoints/checkpoint-3" in told
    for checkpoint in (run / "checkpoints").glob("checkpoint-*"):
        assert all(tensor.isfinite().all() for tensor in load_file(checkpoint / "model.safetensors").values())
    logged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["grad_norm"] is None for row in logged] == [False, True, True]
