"""Your own method: a function whose keyword parameters are its settings and which composes components.

    python examples/own_method.py
    relax train countdown --objective own_method:gentle --objective.failures 0.2      (from the folder examples/)

The method `gentle` is GRPO that learns less from failures, and clips as DAPO does. It has one component of its own, an
advantage. Every component of the package can stand beside it: relax_rl.objectives has advantages, surrogates,
aggregations and regularizers.

Settings: the embedded policy on countdown, 10 updates of 4 prompts x 8 completions of at most 64 tokens, seed 0.

Expect: "failures count 1.0: mean reward 0.197, last entropy 0.2769" and "failures count 0.2: mean reward 0.181, last
entropy 0.2765" (28 s of one CPU core; another version of torch may draw other completions). So few updates say nothing
about the method.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass

import torch
from torch import Tensor

import relax_rl
from relax_rl.objectives import Objective, RolloutBatch
from relax_rl.objectives.advantages import GroupRelativeAdvantage
from relax_rl.objectives.aggregation import TokenMean
from relax_rl.objectives.base import Advantage
from relax_rl.objectives.surrogates import ClippedSurrogate
from relax_rl.workflows.progress import Progress


@dataclass(frozen=True)
class GentleAdvantage(Advantage):
    """The group-relative advantage, times `failures` where it is negative."""

    failures: float

    def __call__(self, batch: RolloutBatch) -> Tensor:
        """(P, G) for rewards (P, G), no gradient."""
        advantage = GroupRelativeAdvantage()(batch)
        return torch.where(advantage < 0, self.failures * advantage, advantage)


def gentle(failures: float = 0.5, clip_low: float = 0.2, clip_high: float = 0.28) -> Objective:
    """Settings are checked by these annotations: `--objective.failures yes` is refused before anything is loaded."""
    return Objective(
        name="gentle",
        advantage=GentleAdvantage(failures),
        surrogate=ClippedSurrogate(clip_low, clip_high),
        aggregation=TokenMean(),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Train with a method of one's own.")
    parser.add_argument("--updates", type=int, default=10)
    words = parser.parse_args()
    settings = {
        "trainer.max_steps": words.updates,
        "trainer.num_generations": 8,
        "trainer.per_device_train_batch_size": 32,
        "trainer.gradient_accumulation_steps": 1,
        "trainer.max_completion_length": 64,
        "evaluation.enabled": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        for failures in (1.0, 0.2):
            rewards: list[float] = []

            def note(progress: Progress, rewards: list[float] = rewards) -> None:
                if progress.metrics:
                    rewards.append(progress.metrics["reward"])

            result = relax_rl.train(
                "countdown",
                overrides=settings | {"output": f"{folder}/{failures}"},
                objective=gentle(failures),  # or its path, "own_method:gentle", with {"objective.failures": 0.2}
                on_progress=note,
            )
            mean, entropy = sum(rewards) / len(rewards), result.metrics["entropy"]
            print(f"failures count {failures}: mean reward {mean:.3f}, last entropy {entropy:.4f}")


if __name__ == "__main__":
    main()
