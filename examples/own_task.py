"""Your own task and your own reward.

    python examples/own_task.py
    relax train countdown --task own_task:Pairs --verifier own_task:right_and_short    (from the folder examples/)

A task is any object with `name`, `verifier` and `problems(split, count, seed)`. A reward is any function of completions
and answers that gives a number, or None where it could not score. The task asks for two numbers instead of three,
in the words that the embedded policy knows. The package's verifier grades it in the evaluation, and a reward of
its own in training, which prefers short answers.

Settings: 10 updates of 4 prompts x 8 completions of at most 64 tokens, seed 0; 32 problems x 4 samples to evaluate.

@@EXPECT@@
"""

from __future__ import annotations

import argparse
import random
import tempfile

import relax_rl
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.tasks import Problem


class Pairs:
    """Reach the target from two numbers."""

    name = "pairs"
    verifier = CountdownVerifier()

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The same ones every time; a pair is in one split only."""
        pairs = [(a, b) for a in range(2, 21) for b in range(2, 21) if a != b]
        random.Random(seed).shuffle(pairs)
        wanted = (
            [(a, b) for a, b in pairs if (min(a, b) * 31 + max(a, b)) % 5 == 0]
            if split == "test"
            else [(a, b) for a, b in pairs if (min(a, b) * 31 + max(a, b)) % 5]
        )
        return [self._problem(a, b) for a, b in wanted[:count]]

    def _problem(self, a: int, b: int) -> Problem:
        text = f"{a} {b}>{a + b}"
        # `solution` and `mistake` are optional; with them, `relax tasks validate` proves that the verifier is right.
        return Problem(
            id=f"pairs-{a}-{b}",
            prompt=f"{text}:",
            answer=text,
            solution=f"<answer>{a}+{b}</answer>",
            mistake=f"<answer>{a}*{b}+1</answer>",
        )


def right_and_short(completions: list[str], answers: list[str]) -> list[float | None]:
    """1 for a right answer without a search, less by up to a half for a long one, 0 for a wrong one."""
    scores = CountdownVerifier().score(completions, answers)
    return [
        None if score is None else score * (1 - min(len(text), 100) / 200)
        for score, text in zip(scores, completions, strict=True)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Train on a task and a reward of one's own.")
    parser.add_argument("--updates", type=int, default=10)
    words = parser.parse_args()
    settings = {
        "objective": "grpo",
        "train_problems": 128,
        "monitor": False,
        "trainer.max_steps": words.updates,
        "trainer.num_generations": 8,
        "trainer.per_device_train_batch_size": 32,
        "trainer.gradient_accumulation_steps": 1,
        "trainer.max_completion_length": 64,
        "evaluation.enabled": False,
    }
    with tempfile.TemporaryDirectory() as folder:
        result = relax_rl.train(
            "countdown", overrides=settings | {"output": folder}, task=Pairs(), verifier=right_and_short, overwrite=True
        )
        for name, model in (("before", "tiny"), ("after", result.output)):
            found = relax_rl.evaluate(model, Pairs(), num_problems=32, num_samples=4, max_completion_length=64)
            mean, length = found.metrics["mean@1"], found.metrics["length"]
            print(f"{name}: mean@1 {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], {length.value:.1f} tokens")


if __name__ == "__main__":
    main()
