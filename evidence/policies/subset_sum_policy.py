"""Build the policy that the second task family starts from: supervised learning on written-out searches.

python -m evidence.policies.subset_sum_policy --out runs/evidence/subset_sum_policy

begins with the embedded policy and stops early enough to leave room to explore.

python -m evidence.policies.subset_sum_policy --out runs/evidence/smollm2_policy --model smollm2 --steps 60 \\
    --batch-size 32 --learning-rate 2e-4 --problems 48

does the same with a pretrained model, which without it solves nothing of the kind (study F).
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import torch
from transformers import PreTrainedModel

from evidence.policies.supervised import right_padded, updates
from evidence.tasks.subset_sum import SubsetSumTask
from relax_rl.evaluation.runner import evaluate
from relax_rl.tasks.base import Problem
from relax_rl.training.models import load_model
from relax_rl.training.precision import computing_in

_WARM_UP, _COOL_DOWN = 0.1, 0.4
"""Shares of the updates in which the learning rate rises and falls."""


def write_trace(problem: Problem, rng: random.Random) -> str:
    """A blind search of 2 to 5 attempts, which commits to its last one whether it hits or not."""
    numbers, target = problem.answer.split(">")
    text, budget = "", rng.randint(2, 5)
    for attempt in range(budget):
        terms = rng.sample(numbers.split(), rng.choice((2, 3)))
        total = sum(map(int, terms))
        hit = total == int(target)
        text += f"{'+'.join(terms)}={total}{' yes' if hit else ' no'}"
        if hit or attempt == budget - 1:
            return f"{text}<answer>{'+'.join(terms)}</answer>"
    raise AssertionError("the last attempt commits")


def build_policy(settings: argparse.Namespace) -> None:
    """Fine-tune a model on traces, save it, and measure it on held-out problems.

    A chat model loses its template: the prompts of this task are plain text, a tenth as long.
    """
    torch.manual_seed(settings.seed)
    model, tokenizer = load_model(settings.model)
    tokenizer.chat_template = None
    precision = "float32" if settings.model == "tiny" else "mixed"
    with computing_in(precision, model):
        learn_traces(model, tokenizer, settings)
        out = settings.out
        model.save_pretrained(out)
        tokenizer.save_pretrained(out)
        size = {"num_problems": settings.problems, "num_samples": 16, "max_completion_length": 96}
        result = evaluate(model, tokenizer, SubsetSumTask(), **size)
    record = {name: round(estimate.value, 4) for name, estimate in result.metrics.items()}
    asked = {name: value for name, value in vars(settings).items() if name != "out"}
    (out / "build.json").write_text(json.dumps({**asked, **record}, indent=2) + "\n")
    print(json.dumps(record))


def learn_traces(model: PreTrainedModel, tokenizer, settings: argparse.Namespace) -> None:
    """Supervised updates on fresh traces of random problems."""
    rng = random.Random(settings.seed)
    problems = SubsetSumTask().problems("train", 6000)
    shape = {"warm_up": _WARM_UP * settings.steps, "cool_down": _COOL_DOWN * settings.steps}
    model.train()
    for step, update in enumerate(updates(model.parameters(), settings.learning_rate, settings.steps, **shape)):
        chosen = rng.choices(problems, k=settings.batch_size)
        traces = [[*tokenizer.encode(write_trace(problem, rng)), tokenizer.eos_token_id] for problem in chosen]
        prompts = [tokenizer.encode(problem.prompt) for problem in chosen]
        tokens, labels = right_padded(prompts, traces, tokenizer.pad_token_id)
        loss = model(input_ids=tokens, labels=labels, use_cache=False).loss
        update(loss)
        if (step + 1) % 10 == 0:
            print(f"step {step + 1} loss {loss.item():.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence/subset_sum_policy"))
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--model", default="tiny", help="where to begin (%(default)s)")
    parser.add_argument("--steps", type=int, default=500, help="updates on traces (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=64, help="traces an update (%(default)s)")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="(%(default)s)")
    parser.add_argument("--problems", type=int, default=128, help="held-out, to measure the policy on (%(default)s)")
    build_policy(parser.parse_args())


if __name__ == "__main__":
    main()
