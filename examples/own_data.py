"""Your own data, a JSON Lines file, with SmolLM2-135M-Instruct.

    make smollm2                      (once: 540 MB in models/smollm2)
    python examples/own_data.py
    python examples/own_data.py --updates 1 --problems 1 --samples 2        (as CI runs it)

A row needs a question and an answer; the columns' names are settings of the task `math` (docs/tasks.md). The file here
is written by this script: 120 sums in words. The verifier takes the number in \\boxed{}, or the one that the completion
states last. The system message asks for short answers, so that a CPU is enough.

Settings: ReLaX, 4 updates of 2 prompts x 4 completions of at most 32 tokens, seed 0. The evaluation takes 4 problems x
4 samples.

@@EXPECT@@

On a GPU, raise `trainer.per_device_train_batch_size`, `trainer.max_completion_length` and `trainer.max_steps`, and set
`dtype` to mixed.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path

import relax_rl
from relax_rl.errors import ModelError
from relax_rl.training.models import model_location
from relax_rl.workflows.train import Progress

SYSTEM = "Answer in one short sentence that ends with the number."


def write_problems(path: Path, count: int = 120) -> None:
    """One JSON object a line: a question in words, and the answer as text."""
    draw = random.Random(0)
    things = ("apples", "books", "coins", "marbles")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            first, second, thing = draw.randint(2, 40), draw.randint(2, 40), things[number % len(things)]
            question = f"Ann has {first} {thing} and gets {second} more. How many {thing} does she have now?"
            file.write(json.dumps({"question": question, "answer": str(first + second)}) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Train SmolLM2 on a JSON Lines file.")
    parser.add_argument("--updates", type=int, default=4)
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
        settings = {
            "model": "smollm2",
            "task": "math",
            "task.path": str(folder / "problems.jsonl"),
            "output": str(folder / "run"),
            "objective.xi": "quantile:0.9",
            "task.system": SYSTEM,
            "dictionary.num_observables": 6,
            "trainer.max_steps": words.updates,
            "trainer.num_generations": 4,
            "trainer.per_device_train_batch_size": 8,
            "trainer.gradient_accumulation_steps": 1,
            "trainer.max_completion_length": words.tokens,
            "trainer.learning_rate": 1e-5,
            "evaluation.enabled": False,
        }
        rewards: list[float] = []

        def note(progress: Progress) -> None:
            if progress.metrics:
                rewards.append(progress.metrics["reward"])

        result = relax_rl.train(overrides=settings, on_progress=note)
        options = {"num_problems": words.problems, "num_samples": words.samples, "max_completion_length": words.tokens}
        problems = {"path": str(folder / "problems.jsonl"), "system": SYSTEM}
        print(f"mean reward in training {sum(rewards) / len(rewards):.3f}, DSD {result.metrics['latent/dsd']:.4f}")
        for when, model in (("before", "smollm2"), ("after", result.output)):
            found = relax_rl.evaluate(model, "math", task_options=problems, **options)
            mean = found.metrics["mean@1"]
            print(f"{when}: mean@1 {mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]")
    return 0


if __name__ == "__main__":
    sys.exit(main())
