"""A second task family, so that a finding is not an accident of countdown: which of five numbers add up to a target?

python evidence/subset_sum.py --out runs/evidence/subset_sum_policy

builds its starting policy from the embedded one: supervised learning on written-out searches, stopped early enough to
leave room to explore. The task is then ``--task evidence.subset_sum:SubsetSumTask`` from the repository's root.

python evidence/subset_sum.py --out runs/evidence/smollm2_policy --model smollm2 --steps 60 --batch-size 32 \
    --learning-rate 2e-4 --problems 48

does the same with a pretrained model, which without it solves nothing of the kind (study F).

    s3 8 11 15 20>31:                                     the prompt
    3+15=18 no3+8+20=31 yes<answer>3+8+20</answer>        the completion
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel

from relax_rl.evaluation.runner import evaluate
from relax_rl.rewards.base import Verifier
from relax_rl.tasks.base import Problem
from relax_rl.training.models import load_model
from relax_rl.training.precision import computing_in

NUM_NUMBERS, MAX_NUMBER = 5, 30
_ANSWER = re.compile(r"<answer>(\d{1,3}(?:\+\d{1,3}){1,4})</answer>", re.ASCII)
_WARMUP, _DECAY = 0.1, 0.4
"""Shares of the updates in which the learning rate rises and falls."""


class SubsetSumVerifier:
    """1.0 if the last answer is a sum of at least two of the given numbers, none used twice, that equals the target."""

    name = "subset_sum"

    def score(self, completions: Sequence[str], answers: Sequence[str]) -> list[float | None]:
        return [self._score(*pair) for pair in zip(completions, answers, strict=True)]

    @staticmethod
    def _score(completion: str, answer: str) -> float:
        numbers, target = answer.split(">")
        found = _ANSWER.findall(completion)
        if not found:
            return 0.0
        terms = found[-1].split("+")
        spare = Counter(terms) - Counter(numbers.split())
        return float(not spare and sum(map(int, terms)) == int(target))


@dataclass(frozen=True)
class SubsetSumTask:
    """Problems without end; the item seeds and the split of a problem come from digests, as in countdown."""

    name: str = field(default="subset_sum", init=False)
    verifier: Verifier = field(default_factory=SubsetSumVerifier, init=False, compare=False, repr=False)

    def problems(self, split: str, count: int | None = None, seed: int = 0) -> list[Problem]:
        """The first ``count`` problems of "train" (2048 without a count) or "test" (256)."""
        problems: dict[str, Problem] = {}
        index = 0
        while len(problems) < (count if count is not None else {"train": 2048, "test": 256}[split]):
            rng = random.Random(_digest("item", split, seed, index))
            index += 1
            numbers = sorted(rng.sample(range(1, MAX_NUMBER + 1), NUM_NUMBERS))
            subset = sorted(rng.sample(numbers, rng.choice((2, 3))))
            answer = f"{' '.join(map(str, numbers))}>{sum(subset)}"
            if (_digest("split", answer) % 5 == 0) == (split == "test"):
                solution = f"<answer>{'+'.join(map(str, subset))}</answer>"
                problems.setdefault(
                    answer, Problem(f"{split}-{seed}-{index}", f"s{answer}:", answer, solution=solution)
                )
        return list(problems.values())


def _digest(*parts: object) -> int:
    text = "|".join(map(str, ("subset_sum", *parts)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


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
        size = {"num_problems": settings.problems, "num_samples": 16, "max_new_tokens": 96}
        result = evaluate(model, tokenizer, SubsetSumTask(), **size)
    record = {name: round(estimate.value, 4) for name, estimate in result.metrics.items()}
    asked = {name: value for name, value in vars(settings).items() if name != "out"}
    (out / "build.json").write_text(json.dumps({**asked, **record}, indent=2) + "\n")
    print(json.dumps(record))


def learn_traces(model: PreTrainedModel, tokenizer, settings: argparse.Namespace) -> None:
    """Supervised updates on fresh traces of random problems."""
    rng = random.Random(settings.seed)
    problems = SubsetSumTask().problems("train", 6000)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98))
    steps = settings.steps
    model.train()
    for step in range(steps):
        rows = [(problem.prompt, write_trace(problem, rng)) for problem in rng.choices(problems, k=settings.batch_size)]
        tokens, labels = _encode(tokenizer, rows)
        for group in optimizer.param_groups:
            rise, fall = (step + 1) / (_WARMUP * steps), (steps - step) / (_DECAY * steps)
            group["lr"] = settings.learning_rate * min(1.0, rise, fall)
        loss = model(input_ids=tokens, labels=labels, use_cache=False).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if (step + 1) % 10 == 0:
            print(f"step {step + 1} loss {loss.item():.3f}", flush=True)


def _encode(tokenizer, rows: Sequence[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and labels (B, T), padded on the right; only the completion is learned."""
    prompts = [tokenizer.encode(prompt) for prompt, _ in rows]
    completions = [[*tokenizer.encode(text), tokenizer.eos_token_id] for _, text in rows]
    width = max(len(a) + len(b) for a, b in zip(prompts, completions, strict=True))
    tokens = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full_like(tokens, -100)
    for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
        tokens[row, : len(prompt) + len(completion)] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
    return tokens, labels


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
