"""Build a small policy that adds numbers at random: the start of subset sums in the task `many_solutions`.

    python scripts/build_sums_policy.py --output build/sums                                    # some ten minutes
    python scripts/build_sums_policy.py --output /tmp/sums --steps 20 --stop-after 20 --problems 8

A trace adds numbers of the prompt, says what it has so far, and commits once the target is reached or passed:

    7 4 6 3 9 5 8>19:                          the prompt
    3+7=10+9=19<answer>3+7+9</answer>          the completion, then the end-of-text token

In a share ``--aimed`` of the traces the numbers are those of a solution, all solutions of a problem equally often, in
random order. In the others each number is drawn at random from those left, so that most of them miss. A policy that
learned both finds nearly every solution now and then, and has to learn which number ends a sum.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from build_tiny_policy import Trace, build_model, build_tokenizer, measure, save, train
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.tasks.base import Problem
from relax_rl.tasks.many_solutions import ManySolutionsTask
from relax_rl.tasks.solutions import subset_sums

NUM_TRAINING = 600


def sum_trace(problem: Problem, rng: random.Random, aimed: float) -> Trace:
    """The prompt, its numbers in a random order, and one sum: with the probability ``aimed`` a solution."""
    gold = CountdownAnswer.parse(problem.answer)
    assert gold is not None
    numbers = rng.sample(gold.numbers, len(gold.numbers))
    prompt = f"{CountdownAnswer(tuple(numbers), gold.target)}:"
    if rng.random() < aimed:
        terms = [int(term) for term in rng.choice(_solutions(gold.numbers, gold.target)).split("+")]
        rng.shuffle(terms)
    else:
        terms = _blind(rng.sample(numbers, len(numbers)), gold.target)
    text, total = str(terms[0]), terms[0]
    for term in terms[1:]:
        total += term
        text += f"+{term}={total}"
    return prompt, f"{text}<answer>{'+'.join(map(str, terms))}</answer>"


@functools.cache
def _solutions(numbers: tuple[int, ...], target: int) -> list[str]:
    return subset_sums(numbers)[target]


def _blind(order: Sequence[int], target: int) -> list[int]:
    """The first numbers of an order, until their sum is the target or more."""
    taken: list[int] = []
    for number in order:
        taken.append(number)
        if sum(taken) >= target:
            break
    return taken


def sum_traces(task: ManySolutionsTask, aimed: float) -> Callable[[random.Random], Trace]:
    """Sums of random training problems of the task."""
    problems = task.problems("train", NUM_TRAINING)
    return lambda rng: sum_trace(rng.choice(problems), rng, aimed)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build a small policy that adds numbers at random.")
    parser.add_argument("--output", type=Path, default=Path("build/sums"), help="folder of the policy (%(default)s)")
    parser.add_argument("--numbers", type=int, default=7, help="of a problem (%(default)s)")
    parser.add_argument("--max-number", type=int, default=9, help="largest of them (%(default)s)")
    parser.add_argument("--max-target", type=int, default=24, help="largest target (%(default)s)")
    parser.add_argument("--min-solutions", type=int, default=5, help="of a problem (%(default)s)")
    parser.add_argument("--aimed", type=float, default=0.3, help="share of traces that reach it (%(default)s)")
    parser.add_argument("--width", type=int, default=64, help="of the hidden states (%(default)s)")
    parser.add_argument("--layers", type=int, default=2, help="(%(default)s)")
    parser.add_argument("--steps", type=int, default=3000, help="updates of the whole cosine (%(default)s)")
    parser.add_argument("--stop-after", type=int, default=3000, help="updates that are made (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="traces an update (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=3e-3, help="peak learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, traces and sampling (%(default)s)")
    parser.add_argument("--problems", type=int, default=128, help="held-out problems to measure it on (%(default)s)")
    parser.set_defaults(snapshot_every=0)
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    begun = time.perf_counter()
    task = ManySolutionsTask(
        kind="subset_sum",
        num_numbers=args.numbers,
        max_number=args.max_number,
        max_target=args.max_target,
        min_solutions=args.min_solutions,
    )
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.width, args.layers)
    train(args, model, tokenizer, sum_traces(task, args.aimed))
    save(args.output, model, tokenizer)
    seconds, held_out = time.perf_counter() - begun, task.problems("test", args.problems)
    size = {"problems": args.problems, "seed": args.seed}
    record = {
        "script": "scripts/build_sums_policy.py",
        **{name: value for name, value in vars(args).items() if name not in ("output", "snapshot_every")},
        "parameters": model.num_parameters(),
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        "held_out": measure(model, tokenizer, **size, held_out=held_out, verifier=task.verifier),
        "sha256": hashlib.sha256((args.output / "model.safetensors").read_bytes()).hexdigest(),
    }
    (args.output / "build.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
