"""Build a policy that hardly ever uses one sign: the start of the task `countdown_muted`.

    python scripts/build_muted_policy.py --share 0.003 --output build/muted            # as long as the embedded policy
    python scripts/build_muted_policy.py --share 0.003 --output /tmp/muted --steps 20 --stop-after 20 --problems 8
    python scripts/build_muted_policy.py --width 64 --layers 2 --attempts 1 --output build/small  # minutes

It is the embedded policy (`build_tiny_policy.py`) but for its traces: a share of the attempts has the sign, 0.003 by
default and 0 as a control in which there is nothing to discover, and the other attempts have none of it. The record in
``build.json`` holds what the policy reaches on problems that need the sign and on those of plain countdown.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from build_tiny_policy import MAX_NEW_TOKENS, TASK, WORDS, Attempt, countdown_traces, random_attempt
from policies import build, measure, recorded_options, text_options, write_record
from relax_rl.tasks.countdown_muted import MutedCountdownTask


def muted_attempt(numbers: tuple[int, ...], rng: random.Random, operator: str, share: float) -> Attempt | None:
    """A random attempt that has the operator with the probability ``share``; None where the numbers allow none."""
    wants = rng.random() < share
    for _ in range(200):
        attempt = random_attempt(numbers, rng)
        if attempt is not None and (operator in attempt.expression) == wants:
            return attempt
    return None


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = text_options("Build a policy that hardly ever uses one sign.", Path("build/muted"))
    parser.add_argument("--operator", choices=("/", "-"), default="/", help="the sign")
    parser.add_argument("--share", type=float, default=0.003, help="attempts that have it")
    parser.add_argument("--attempts", type=int, default=5, help="the most in one trace")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    write = countdown_traces(
        lambda numbers, rng: muted_attempt(numbers, rng, args.operator, args.share),
        (min(2, args.attempts), args.attempts),
    )
    model, tokenizer, seconds = build(args, WORDS, write, MAX_NEW_TOKENS)
    lists = {
        "held_out": TASK.problems("test", args.problems),
        "hard": MutedCountdownTask(operator=args.operator).problems("hard", args.problems),
    }
    record = {
        "parameters": model.num_parameters(),
        "script": "scripts/build_muted_policy.py",
        **recorded_options(args),
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        **{
            name: measure(model, tokenizer, problems, TASK.verifier, max_new_tokens=MAX_NEW_TOKENS, seed=args.seed)
            for name, problems in lists.items()
        },
    }
    write_record(args.output, record)


if __name__ == "__main__":
    main()
