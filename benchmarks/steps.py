"""A whole training step, rollouts included, against TRL's own `GRPOTrainer`.

python benchmarks/suite.py --only steps

GRPO against GRPO: same policy, problems, verifier, batch, learning rate and number of threads, beta 0, each in a
process on a core of its own at the same time. Ours is `relax train` with all that it writes; TRL's is its trainer with
the same settings and the verifier as a reward function. A step is timed from the end of one update to the end of the
next, in processor seconds; the first is not counted. Completions differ, since the two sides draw other random numbers
from the same policy.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from frame.rows import Effort, Row, row_of_times
from frame.timing import Times, apart, at_once

__all__ = ["rows"]


@dataclass(frozen=True)
class Setup:
    """What is trained.

    Attributes:
        name: of the row.
        model: "tiny" or "smollm2".
        group: G.
        micro_batch: completions of a forward.
        accumulation: micro-batches of an update.
        length: `max_completion_length`.
        updates: that are timed.
    """

    name: str
    model: str
    group: int
    micro_batch: int
    accumulation: int
    length: int
    updates: int

    @property
    def settings(self) -> dict[str, Any]:
        """For `relax train`."""
        return {
            "model": self.model,
            "objective.name": "grpo",
            "monitor": False,
            "dictionary.num_observables": 16,
            "train_problems": 512,
            "evaluation.enabled": False,
            "trainer.max_steps": self.updates + 1,
            "trainer.num_generations": self.group,
            "trainer.per_device_train_batch_size": self.micro_batch,
            "trainer.gradient_accumulation_steps": self.accumulation,
            "trainer.max_completion_length": self.length,
            "trainer.learning_rate": 1e-6,
            "trainer.save_steps": 1000,
        }


EMBEDDED = Setup("embedded policy, 256 x 96", "tiny", 16, 64, 4, 96, 6)
SMOLLM2 = Setup("SmolLM2-135M, 8 x 256", "smollm2", 8, 8, 1, 256, 3)


def ours(setup: Setup, core: int) -> float:
    """Median of processor seconds of a step of `relax train`."""
    _take(core)
    import relax_rl

    times: list[float] = []

    def note(progress: relax_rl.Progress) -> None:
        if progress.stage == "training" and progress.metrics:
            times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        relax_rl.train("countdown", overrides={**setup.settings, "output": f"{folder}/run"}, on_progress=note)
    return _step(times)


def stock(setup: Setup, core: int) -> float:
    """Median of processor seconds of a step of `trl.GRPOTrainer`."""
    _take(core)
    from transformers import TrainerCallback
    from trl import GRPOTrainer

    from relax_rl.config import load_config
    from relax_rl.tasks.countdown import CountdownTask
    from relax_rl.training.models import load_model
    from relax_rl.training.trl.config import grpo_config
    from relax_rl.training.trl.dataset import prompt_dataset

    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

    config, task = load_config("countdown", setup.settings), CountdownTask()
    model, tokenizer = load_model(setup.model)

    def reward(completions: list[Any], answer: list[str], **_: Any) -> list[float | None]:
        texts = [text if isinstance(text, str) else text[0]["content"] for text in completions]
        return list(task.verifier.score(texts, answer))

    with tempfile.TemporaryDirectory() as folder:
        args = grpo_config(config.trainer, Path(folder), use_cpu=True, beta=0.0)
        trainer = GRPOTrainer(
            model=model,
            args=args,
            processing_class=tokenizer,
            reward_funcs=[reward],  # type: ignore[arg-type]
            train_dataset=prompt_dataset(task.problems("train", config.train_problems), tokenizer),
            callbacks=[Clock()],
        )
        trainer.train()
    return _step(times)


def _take(core: int) -> None:
    os.sched_setaffinity(0, {core})
    import torch

    torch.set_num_threads(1)


def _step(times: list[float]) -> float:
    return median(after - before for before, after in itertools.pairwise(times))


def rows(effort: Effort) -> Iterator[Row]:
    """Our step in that of stock TRL, on the embedded policy and on SmolLM2."""
    for setup in (EMBEDDED,) if effort.is_quick else (EMBEDDED, SMOLLM2):
        times = {"ours": Times(), "stock": Times()}
        sides = {
            "ours": lambda core, setup=setup: apart(ours, setup, core, limit=1800.0),
            "stock": lambda core, setup=setup: apart(stock, setup, core, limit=1800.0),
        }
        for found in at_once(sides, 1 if effort.is_quick else 3):
            for side, seconds in found.items():
                times[side].processor.append(seconds)
        yield row_of_times(setup.name, times["ours"], times["stock"], "trl.GRPOTrainer", target=0.8)
