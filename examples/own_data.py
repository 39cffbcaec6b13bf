"""Your own data, a JSON Lines file, with SmolLM2-135M-Instruct.

    make smollm2                      (once: 540 MB in models/smollm2)
    python examples/own_data.py
    python examples/own_data.py --updates 1 --problems 1 --samples 2        (as CI runs it)

A row needs a question and an answer; the columns' names are settings of the task `math` (docs/guides/tasks.md). This
script writes the file: 120 sums. The reward is a function of its own, since a model of this size rarely puts a number
in \\boxed{}, which the task's own verifier reads.

Settings: ReLaX, 2 updates of 2 prompts x 4 completions of at most 32 tokens, temperature 0.7, seed 0. The evaluation
takes 4 problems x 4 samples.

Expect: "mean reward in training 0.125, DSD 0.6140", and mean@1 0.000 before and after: 16 samples of a model that
can hardly add, and two updates, show that it runs and nothing more (54 s of CPU; another version of torch may draw
other completions).

On a GPU, raise `trainer.per_device_train_batch_size`, `trainer.max_completion_length` and `trainer.max_steps`, and set
`dtype` to mixed.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
from pathlib import Path

import relax_rl
from relax_rl.errors import ModelError
from relax_rl.rewards import CallableVerifier
from relax_rl.tasks import MathTask
from relax_rl.training.models import model_location
from relax_rl.workflows.progress import Progress

SYSTEM = "You are a calculator. Answer with the result."


def names_the_answer(completions: list[str], answers: list[str]) -> list[float]:
    """1 where the answer is among the numbers of the completion."""
    return [float(answer in re.findall(r"\d+", text)) for text, answer in zip(completions, answers, strict=True)]


def write_problems(path: Path, count: int = 120) -> None:
    """One JSON object a line: a question, and the answer as text."""
    draw = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            first, second = draw.randint(2, 20), draw.randint(2, 20)
            row = {"question": f"What is {first} + {second}?", "answer": str(first + second)}
            file.write(json.dumps(row) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Train SmolLM2 on a JSON Lines file.")
    parser.add_argument("--updates", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--problems", type=int, default=4)
    parser.add_argument("--samples", type=int, default=4)
    words = parser.parse_args()
    try:
        model_location("smollm2")
    except ModelError as error:
        print(error, file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_problems(folder / "problems.jsonl")
        verifier = CallableVerifier(names_the_answer)
        task = MathTask(path=folder / "problems.jsonl", system=SYSTEM, verifier=verifier)
        settings = {
            "model": "smollm2",
            "output": str(folder / "run"),
            "objective.xi": "quantile:0.9",
            "dictionary.num_observables": 6,
            "trainer.max_steps": words.updates,
            "trainer.num_generations": 4,
            "trainer.per_device_train_batch_size": 8,
            "trainer.gradient_accumulation_steps": 1,
            "trainer.max_completion_length": words.tokens,
            "trainer.temperature": 0.7,
            "trainer.learning_rate": 1e-5,
            "evaluation.enabled": False,
        }
        rewards: list[float] = []

        def note(progress: Progress) -> None:
            if progress.metrics:
                rewards.append(progress.metrics["reward"])

        result = relax_rl.train(overrides=settings, task=task, on_progress=note)
        options = {"num_problems": words.problems, "num_samples": words.samples, "temperature": 0.7}
        print(f"mean reward in training {sum(rewards) / len(rewards):.3f}, DSD {result.metrics['latent/dsd']:.4f}")
        for when, model in (("before", "smollm2"), ("after", result.output)):
            found = relax_rl.evaluate(model, task, max_completion_length=words.tokens, **options)
            mean = found.metrics["mean@1"]
            print(f"{when}: mean@1 {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
