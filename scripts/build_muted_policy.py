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
import hashlib
import json
import random
import time
from pathlib import Path

import torch

from build_tiny_policy import (
    Attempt,
    build_model,
    build_tokenizer,
    countdown_traces,
    measure,
    random_attempt,
    save,
    train,
)
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
    parser = argparse.ArgumentParser(description="Build a policy that hardly ever uses one sign.")
    parser.add_argument("--output", type=Path, default=Path("build/muted"), help="folder of the policy (%(default)s)")
    parser.add_argument("--operator", choices=("/", "-"), default="/", help="the sign (%(default)s)")
    parser.add_argument("--share", type=float, default=0.003, help="attempts that have it (%(default)s)")
    parser.add_argument("--steps", type=int, default=3600, help="updates of the whole cosine (%(default)s)")
    parser.add_argument("--stop-after", type=int, default=2400, help="updates that are made (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="traces an update (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak learning rate (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, traces and sampling (%(default)s)")
    parser.add_argument("--problems", type=int, default=128, help="held-out problems of each measurement (%(default)s)")
    parser.add_argument("--width", type=int, default=128, help="of the hidden states (%(default)s)")
    parser.add_argument("--layers", type=int, default=4, help="(%(default)s)")
    parser.add_argument("--attempts", type=int, default=5, help="the most in one trace (%(default)s)")
    parser.set_defaults(snapshot_every=0)
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    begun = time.perf_counter()
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.width, args.layers)
    write = countdown_traces(
        lambda numbers, rng: muted_attempt(numbers, rng, args.operator, args.share),
        (min(2, args.attempts), args.attempts),
    )
    train(args, model, tokenizer, write)
    save(args.output, model, tokenizer)
    seconds, size = time.perf_counter() - begun, {"problems": args.problems, "seed": args.seed}
    hard = MutedCountdownTask(operator=args.operator).problems("hard", args.problems)
    record = {
        "parameters": model.num_parameters(),
        "script": "scripts/build_muted_policy.py",
        **{name: value for name, value in vars(args).items() if name not in ("output", "snapshot_every")},
        "training_seconds": round(seconds),
        "torch": torch.__version__,
        "held_out": measure(model, tokenizer, **size),
        "hard": measure(model, tokenizer, **size, held_out=hard),
        "sha256": hashlib.sha256((args.output / "model.safetensors").read_bytes()).hexdigest(),
    }
    (args.output / "build.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
