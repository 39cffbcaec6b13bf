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
from soak.equality import run_differences
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


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    for method, uses in COMBINATIONS:
        train_whole(folder / "whole" / method / uses, method, uses)
        train_in_pieces(folder / "pieces" / method / uses, method, uses)
    trainer = make(folder / "last", "grpo", "one update")
    if trainer.accelerator.is_main_process:
        found = {
            f"{method}, {uses}": run_differences(
                *(folder / kind / method / uses for kind in ("whole", "pieces")), every_checkpoint=True
            )
            for method, uses in COMBINATIONS
        }
        (folder / "differences.json").write_text(json.dumps(found))
    trainer.leave_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
