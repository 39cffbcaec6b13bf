"""A small run with real sampling, left to itself or stopped after every update and resumed by a new trainer.

As a script, on as many processes as torchrun starts: trains both for each method and each way to use a rollout batch.

torchrun --nproc_per_node 2 tests/support/resumes.py FOLDER
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import set_seed
from transformers import TrainerCallback

from relax_rl.objectives import build_objective
from relax_rl.runs import RunDirectory
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.models import load_tokenizer
from relax_rl.training.trl.callbacks import MetricsFile
from relax_rl.training.trl.dataset import prompt_dataset
from relax_rl.training.trl.recorder import RolloutRecorder
from relax_rl.training.trl.relax_config import RelaxConfig
from relax_rl.training.trl.trainer import RelaxTrainer
from support.scripted import parity_reward, tiny_llama

METHODS: dict[str, dict[str, Any]] = {
    "grpo": {"beta": 0.05},
    "relax": {"xi": "quantile:0.5", "beta": 0.05, "dictionary": {"num_observables": 4, "steps": 2}},
    "dcpo": {},
    "kl_cov": {"k_ratio": 0.2, "coefficient": 5.0},
}
USES: dict[str, dict[str, int]] = {
    "one update": {},
    "two updates": {"steps_per_generation": 2},
    "two times": {"num_iterations": 2},
}
"""Of a rollout batch: one update from each, a half of it for each of two, or all of it for two."""
_EQUAL = {
    # The dictionary's digest stands in objective.json; its file orders its header by chance.
    *("model.safetensors", "optimizer.pt", "scheduler.pt", "objective.json"),
    *("rng_state.pth", "rng_state_0.pth", "rng_state_1.pth"),
    *("rank_0.json", "rank_0.safetensors", "rank_1.json", "rank_1.safetensors"),
}
PASSES, ROLLOUTS_A_PASS, GROUP = 3, 2, 4


COMBINATIONS = [
    *((method, uses) for method in METHODS for uses in ("one update", "two updates")),
    *((method, "two times") for method in ("dcpo", "kl_cov")),
]


class _StopAt(TrainerCallback):
    def __init__(self, update: int) -> None:
        self._update = update

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._update:
            control.should_save = control.should_training_stop = True


def num_updates(uses: str) -> int:
    return PASSES * ROLLOUTS_A_PASS * (1 if uses == "one update" else 2)


def make(folder: Path, method: str, uses: str, **more: Any) -> RelaxTrainer:
    """A trainer whose rollout batches have 2 prompts of 4 for each process and share of `USES`."""
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    settings: dict[str, Any] = {
        "per_device_train_batch_size": 2 * GROUP,
        "gradient_accumulation_steps": 1,
        "num_generations": GROUP,
        "max_completion_length": 10,
        "max_steps": num_updates(uses),
        "learning_rate": 1e-2,
        "lr_scheduler_type": "linear",
        "activation_checkpointing": False,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "save_strategy": "steps",
        "save_steps": 1,
        "save_total_limit": None,
        "logging_steps": 1,
        "disable_tqdm": True,
        "seed": 5,
        **USES[uses],
    }
    trainer_settings = settings | more.pop("settings", {})
    prompts = 2 * trainer_settings.get("steps_per_generation", 1) * num_processes
    tokenizer = load_tokenizer("tiny")
    problems = CountdownTask().problems("train", ROLLOUTS_A_PASS * prompts + 1)
    directory = RunDirectory(folder)
    set_seed(trainer_settings["seed"])
    trainer = RelaxTrainer(
        objective=build_objective(method, **METHODS[method]),
        model=tiny_llama(),
        args=RelaxConfig(output_dir=str(directory.checkpoints), **trainer_settings),
        processing_class=tokenizer,
        reward_funcs=[parity_reward],
        train_dataset=prompt_dataset(problems, tokenizer),
        recorder=RolloutRecorder(directory),
        callbacks=[MetricsFile(directory)],
        **more,
    )
    return trainer


def train_whole(folder: Path, method: str, uses: str, **more: Any) -> None:
    """Without a break."""
    make(folder, method, uses, **more).train()


def train_in_pieces(folder: Path, method: str, uses: str, stops: Sequence[int] | None = None, **more: Any) -> None:
    """Some updates, then a new trainer that goes on from the last checkpoint, and so on to the end.

    Args:
        stops: updates after which to stop; after each one when None.
    """
    last = num_updates(uses)
    for stop in [*(range(1, last) if stops is None else stops), last]:
        # Whatever the process drew before must not matter.
        set_seed(1000 + stop)
        trainer = make(folder, method, uses, **more)
        trainer.add_callback(_StopAt(stop))
        trainer.train(resume_from_checkpoint=bool(list(RunDirectory(folder).checkpoints.glob("checkpoint-*"))))


def differences(whole: Path, pieces: Path) -> list[str]:
    """What two runs do not have in common: parameters and optimiser after every update, rows, completions."""
    found = []
    ours, theirs = RunDirectory(pieces), RunDirectory(whole)
    if _rows(ours) != _rows(theirs):
        found.append("rows")
    if ours.completion_steps() != theirs.completion_steps():
        found.append("steps of completions")
    found += [
        f"completions of {step}"
        for step in theirs.completion_steps()
        if ours.read_completions(step) != theirs.read_completions(step)
    ]
    for folder in sorted(theirs.checkpoints.glob("checkpoint-*")):
        for name in sorted(_EQUAL & {path.name for path in folder.iterdir()}):
            if _content(folder / name) != _content(ours.checkpoints / folder.name / name):
                found.append(f"{folder.name}/{name}")
    return found


def _rows(run: RunDirectory) -> list[dict[str, Any]]:
    timing = {"step_time"}
    return [{key: value for key, value in row.items() if key not in timing} for row in run.read_metrics()]


def _content(path: Path) -> Any:
    if not path.name.startswith("rank_") or path.suffix != ".json":
        return path.read_bytes()
    state = json.loads(path.read_text())
    state["table"]["metrics"]["table"].pop("step_time", None)
    return state


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for method, uses in COMBINATIONS:
        train_whole(folder / "whole" / method / uses, method, uses)
        train_in_pieces(folder / "pieces" / method / uses, method, uses)
    trainer = make(folder / "last", "grpo", "one update")
    if trainer.accelerator.is_main_process:
        found = {
            f"{method}, {uses}": differences(*(folder / kind / method / uses for kind in ("whole", "pieces")))
            for method, uses in COMBINATIONS
        }
        (folder / "differences.json").write_text(json.dumps(found))
    trainer.leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
