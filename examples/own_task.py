"""Your own task and your own reward.

    python examples/own_task.py
    relax train countdown --task own_task:PlusMinus --verifier own_task:right_and_short    (from the folder examples/)

A task is any object with `name`, `verifier` and `problems(split, count, seed)`. A reward is any function of completions
and answers that gives a number, or None where it could not score. The task here asks for one plus and one minus, in the
words that the embedded policy knows. The evaluation grades it by the package's verifier. Training grades it by a reward
of its own, which prefers short answers.

Settings: 20 updates of 4 prompts x 8 completions of at most 64 tokens, seed 0; 32 problems x 4 samples to evaluate.

Expect: "before: mean@1 0.305 [0.242, 0.375], 46.0 tokens" and "after: mean@1 0.656 [0.547, 0.758], 37.9 tokens" (28 s
of one CPU core; another version of torch may draw other completions).
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile

import relax_rl
from relax_rl.rewards.countdown import CountdownVerifier
from relax_rl.tasks import Problem


class PlusMinus:
    """Reach the target from three numbers, by one plus and one minus."""

    name = "plus_minus"
    verifier = CountdownVerifier()

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The same ones every time; what is in one split for one seed is in the other for none."""
        numbers = itertools.combinations(range(2, 21), 3)
        wanted = [three for three in numbers if (sum(three) % 5 == 0) == (split == "test")]
        random.Random(seed).shuffle(wanted)
        return [self._problem(*three) for three in wanted[:count]]

    def _problem(self, a: int, b: int, c: int) -> Problem:
        text = f"{a} {b} {c}>{c + b - a}"
        # `solution` and `mistake` are optional; with them, `relax tasks validate` proves that the verifier is right.
        return Problem(
            id=f"plus-minus-{a}-{b}-{c}",
            prompt=f"{text}:",
            answer=text,
            solution=f"<answer>{c}+{b}-{a}</answer>",
            mistake=f"<answer>{c}+{b}+{a}</answer>",
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
    parser.add_argument("--updates", type=int, default=20)
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
            "countdown",
            overrides=settings | {"output": folder},
            task=PlusMinus(),
            verifier=right_and_short,
            overwrite=True,
        )
        for name, model in (("before", "tiny"), ("after", result.output)):
            found = relax_rl.evaluate(model, PlusMinus(), num_problems=32, num_samples=4, max_completion_length=64)
            mean, length = found.metrics["mean@1"], found.metrics["length"]
            print(f"{name}: mean@1 {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}], {length.value:.1f} tokens")


if __name__ == "__main__":
    main()
