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
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from build_tiny_policy import MAX_NEW_TOKENS, WORDS
from policies import Trace, build, measure, recorded_options, text_options, write_record
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
    small = {"width": 64, "layers": 2, "steps": 3000, "stop_after": 3000, "learning_rate": 3e-3}
    parser = text_options("Build a small policy that adds numbers at random.", Path("build/sums"), **small)
    parser.add_argument("--numbers", type=int, default=7, help="of a problem")
    parser.add_argument("--max-number", type=int, default=9, help="largest of them")
    parser.add_argument("--max-target", type=int, default=24, help="largest target")
    parser.add_argument("--min-solutions", type=int, default=5, help="of a problem")
    parser.add_argument("--aimed", type=float, default=0.3, help="share of traces that reach the target")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    task = ManySolutionsTask(
        kind="subset_sum",
        num_numbers=args.numbers,
        max_number=args.max_number,
        max_target=args.max_target,
        min_solutions=args.min_solutions,
    )
    model, tokenizer, seconds = build(args, WORDS, sum_traces(task, args.aimed), MAX_NEW_TOKENS)
    held_out = task.problems("test", args.problems)
    record = {
        "script": "scripts/build_sums_policy.py",
        **recorded_options(args),
        "parameters": model.num_parameters(),
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        "held_out": measure(model, tokenizer, held_out, task.verifier, max_new_tokens=MAX_NEW_TOKENS, seed=args.seed),
    }
    write_record(args.output, record)


if __name__ == "__main__":
    main()
