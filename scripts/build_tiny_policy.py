"""Build the embedded tiny policy: supervised learning on written-out searches for countdown.

    python scripts/build_tiny_policy.py                      # about half an hour on one busy core
    python scripts/build_tiny_policy.py --steps 20 --problems 8 --output /tmp/tiny      # a smoke test

A trace tries random expressions, says for each whether it hits the target, and commits:

    11 1 3>14:                                               the prompt
    11-1=10*3=30 no1*3=3+11=14 yes<answer>(1*3)+11</answer>  the completion, then the end-of-text token

All arithmetic in the traces is right. The search is blind on purpose, and it gives up (committing to its last, wrong
attempt) after 2 to 5 attempts, how many drawn for each trace. So the generator caps the share of successes: 11 % of
random expressions hit, which makes 35 % of the traces end well. The slips of a small model take some of that away, and
training stops at two thirds of the schedule to leave some: on other held-out problems than the recorded ones mean@1 was
0.17 after 1800 updates, 0.24 after 2400, 0.32 after 3000 and 0.33 after all 3600. What is left for reinforcement
learning to find is to aim better, to slip less, and to search longer before giving up.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from policies import ANSWER, Trace, build, measure, text_options, write_record
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask

ASSET = Path(__file__).resolve().parents[1] / "src/relax_rl/assets/tiny"
TASK = CountdownTask()
MAX_NEW_TOKENS = 96
LARGEST_RESULT = 2 * TASK.max_target
WORDS = (*ANSWER, " yes", " no")


@dataclass(frozen=True)
class Attempt:
    """One expression over three numbers: how it is computed, how it is committed to, and its value."""

    steps: str
    expression: str
    value: int


def random_attempt(numbers: tuple[int, ...], rng: random.Random) -> Attempt | None:
    """A random expression over three numbers; ``None`` if a step leaves the whole numbers from 1 to a bound.

    The second step goes on from the first result (``11-1=10*3=30``); only where that result is on the right of a minus
    or a division sign is the step written out (``2*3=6,8-6=2``).
    """
    a, b, c = rng.sample(numbers, 3)
    first, second = rng.choice("+-*/"), rng.choice("+-*/")
    middle = _apply(first, a, b)
    if middle is None:
        return None
    if second in "-/" and rng.random() < 0.5:
        value = _apply(second, c, middle)
        steps, expression = f"{a}{first}{b}={middle},{c}{second}{middle}={value}", f"{c}{second}({a}{first}{b})"
    else:
        value = _apply(second, middle, c)
        steps, expression = f"{a}{first}{b}={middle}{second}{c}={value}", f"({a}{first}{b}){second}{c}"
    return None if value is None else Attempt(steps, expression, value)


def _apply(sign: str, a: int, b: int) -> int | None:
    if sign == "/":
        return a // b if a % b == 0 else None
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    return value if 1 <= value <= LARGEST_RESULT else None


Draw = Callable[[tuple[int, ...], random.Random], Attempt | None]
"""How an attempt is drawn: `random_attempt`, or another distribution over the same expressions."""


def write_trace(
    problem: Problem, rng: random.Random, draw: Draw = random_attempt, attempts: tuple[int, int] = (2, 5)
) -> Trace:
    """The prompt, its numbers in a random order, and one search for it.

    Args:
        draw: an attempt.
        attempts: fewest and most of them before it gives up.
    """
    gold = CountdownAnswer.parse(problem.answer)
    assert gold is not None
    numbers = tuple(rng.sample(gold.numbers, len(gold.numbers)))
    text, tried = "", set()
    budget = rng.randint(*attempts)
    while True:
        attempt = draw(numbers, rng)
        if attempt is None or attempt.steps in tried:
            continue
        tried.add(attempt.steps)
        hit = attempt.value == gold.target
        text += attempt.steps + (" yes" if hit else " no")
        if hit or len(tried) == budget:
            return f"{CountdownAnswer(numbers, gold.target)}:", f"{text}<answer>{attempt.expression}</answer>"


def countdown_traces(
    draw: Draw = random_attempt, attempts: tuple[int, int] = (2, 5)
) -> Callable[[random.Random], Trace]:
    """Searches of random training problems of countdown."""
    problems = TASK.problems("train", 6000)
    return lambda rng: write_trace(rng.choice(problems), rng, draw, attempts)


def parse_arguments() -> argparse.Namespace:
    """The command line; the defaults built the shipped policy."""
    parser = text_options("Build the embedded tiny policy.", ASSET)
    parser.add_argument("--attempts", type=int, default=5, help="the most in one trace")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    write = countdown_traces(attempts=(min(2, args.attempts), args.attempts))
    model, tokenizer, seconds = build(args, WORDS, write, MAX_NEW_TOKENS)
    record = {
        "script": "scripts/build_tiny_policy.py",
        "task": {
            "name": TASK.name,
            "num_numbers": TASK.num_numbers,
            "max_number": TASK.max_number,
            "max_target": TASK.max_target,
        },
        "parameters": model.num_parameters(),
        "steps": args.steps,
        "stop_after": args.stop_after,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "seed": args.seed,
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        "held_out": measure(
            model,
            tokenizer,
            TASK.problems("test", args.problems),
            TASK.verifier,
            max_new_tokens=MAX_NEW_TOKENS,
            seed=args.seed,
        ),
    }
    write_record(args.output, record)


if __name__ == "__main__":
    main()
