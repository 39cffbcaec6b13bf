"""The whole method in one readable loop of plain PyTorch: sample, grade, forward, objective, step.

    python examples/plain_loop.py --objective relax

No trainer is involved. Read it to see what a training does, and start from it when your own loop is to use an objective
of this package. It trains the embedded policy on countdown, on one process and one device.

Settings: 4 prompts x 8 completions of at most 64 tokens an update, temperature 1, AdamW at 2e-4, gradients clipped at
1, seed 0. A dictionary of 16 observables is fitted on the first completions.

Expect: "mean reward of the first five updates 0.256, of the last five 0.375" (26 s of one CPU core; another version of
torch may draw other completions). `--objective grpo` and `--objective kl_cov` run, too.

tests/examples/test_plain_loop.py holds it against `relax_rl.RelaxTrainer`: on the same completions, the parameters
after five updates of grpo, kl_cov and relax differ by less than 1e-6.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from relax_rl.objectives import Objective, RolloutBatch, RunLimits, build_objective
from relax_rl.objectives.inputs import REF_LOG_PROBS
from relax_rl.tasks import CountdownTask
from relax_rl.training.models import load_model

Sampler = Callable[[list[list[int]]], list[list[int]]]
"""Prompts as token ids, each as often as it has completions, to one completion each."""

Grader = Callable[[list[list[int]], list[Any]], list[float]]
"""Completions as token ids, and what each problem's row says, to rewards."""


@dataclass
class Settings:
    """What a run depends on.

    `updates_per_rollout` above 1 takes several optimiser steps on the completions of one policy: from the second on,
    they are off-policy, the ratio is not 1, and clipping and KL-Cov act.
    """

    objective: str = "relax"
    options: dict[str, Any] = field(default_factory=dict)
    updates: int = 20
    prompts: int = 4
    group: int = 8
    updates_per_rollout: int = 1
    max_completion_length: int = 64
    temperature: float = 1.0
    learning_rate: float = 2e-4
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    max_grad_norm: float = 1.0


@dataclass
class Rollout:
    """B = P*G completions, prompt by prompt: token ids, and (B,) rewards."""

    prompts: list[list[int]]
    completions: list[list[int]]
    rewards: Tensor

    def parts(self, size: int) -> list[Rollout]:
        """One for each update."""
        cuts = [slice(start, start + size) for start in range(0, len(self.prompts), size)]
        return [Rollout(self.prompts[cut], self.completions[cut], self.rewards[cut]) for cut in cuts]


@dataclass
class Before:
    """(B, T) log-probabilities before the first update: under the policy that sampled, and under the reference."""

    old: Tensor | None
    reference: Tensor | None


@dataclass
class Forward:
    """(B, T) log-probabilities and entropies, (B, T, H) final-norm states, (B, T) mask of the completions."""

    log_probs: Tensor
    entropy: Tensor
    states: Tensor
    mask: Tensor


def train(
    model: Any,
    rows: Iterator[tuple[list[int], Any]],
    sample: Sampler,
    grade: Grader,
    settings: Settings,
    log: Callable[[int, float, dict[str, float]], None] = lambda update, reward, metrics: None,
) -> Objective:
    """Train `model` in place; the objective as it is at the end.

    Args:
        rows: prompts as token ids, with what the grader needs of each.
        sample: draws completions from the policy as it is.
        grade: gives each its reward.
    """
    limits = RunLimits(settings.max_completion_length, settings.group, settings.updates)
    objective = build_objective(settings.objective, limits, **settings.options)
    # The reference is the policy at the start, and is kept only where a term pulls towards it.
    reference = copy.deepcopy(model).eval() if REF_LOG_PROBS in objective.inputs else None
    optimizer = torch.optim.AdamW(
        model.parameters(), settings.learning_rate, settings.betas, settings.epsilon, weight_decay=0.0
    )
    done = 0
    while done < settings.updates:
        rollout = collect(rows, sample, grade, settings)
        if not objective.is_calibrated:
            # Once, on the first completions: the dictionary, and xi where it is a quantile.
            with torch.no_grad():
                read = forward(model, rollout, settings.temperature)
            objective = objective.calibrated(read.states.float(), read.mask)
        parts = rollout.parts(settings.prompts * settings.group)
        known = [before(model, reference, part, settings) for part in parts]
        for part, log_probs in zip(parts, known, strict=True):
            if done < settings.updates:
                metrics = update(model, optimizer, objective, part, log_probs, settings)
                done += 1
                log(done, part.rewards.mean().item(), metrics)
    return objective


def collect(rows: Iterator[tuple[list[int], Any]], sample: Sampler, grade: Grader, settings: Settings) -> Rollout:
    """Completions of the next prompts, and their rewards."""
    chosen = [next(rows) for _ in range(settings.prompts * settings.updates_per_rollout)]
    repeated = [row for row in chosen for _ in range(settings.group)]
    prompts = [prompt for prompt, _ in repeated]
    completions = sample(prompts)
    rewards = torch.tensor(grade(completions, [known for _, known in repeated]))
    return Rollout(prompts, completions, rewards)


@torch.no_grad()
def before(model: Any, reference: Any, part: Rollout, settings: Settings) -> Before:
    """What the objective compares an update's log-probabilities with.

    Part by part, as the updates run: the same rows in the same padding give the same bits. So while the policy has not
    moved every ratio is exactly 1, and |log r|, which KL-Cov adds, has no slope from rounding.
    """
    is_off_policy = settings.updates_per_rollout > 1
    return Before(
        old=forward(model, part, settings.temperature).log_probs if is_off_policy else None,
        reference=None if reference is None else forward(reference, part, settings.temperature).log_probs,
    )


def update(
    model: Any,
    optimizer: torch.optim.Optimizer,
    objective: Objective,
    part: Rollout,
    known: Before,
    settings: Settings,
) -> dict[str, float]:
    """One optimiser step on whole groups; the objective's metrics."""
    read = forward(model, part, settings.temperature)

    def grouped(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (-1, settings.group))

    batch = RolloutBatch(
        log_probs=grouped(read.log_probs),
        old_log_probs=grouped(read.log_probs.detach() if known.old is None else known.old),
        mask=grouped(read.mask),
        rewards=grouped(part.rewards.to(model.device)),
        ref_log_probs=None if known.reference is None else grouped(known.reference),
        entropy=grouped(read.entropy),
        hidden_states=grouped(read.states),
    )
    output = objective(batch)
    optimizer.zero_grad()
    output.loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
    optimizer.step()
    return {"loss": output.loss.item(), **output.metrics}


def forward(model: Any, rollout: Rollout, temperature: float) -> Forward:
    """One padded forward over prompts and completions.

    Prompts are padded on the left and completions on the right, so that all completions begin at one place.
    """
    start = max(len(prompt) for prompt in rollout.prompts)
    length = max(len(completion) for completion in rollout.completions)
    ids = torch.zeros(len(rollout.prompts), start + length, dtype=torch.long)
    is_token = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(zip(rollout.prompts, rollout.completions, strict=True)):
        text = slice(start - len(prompt), start + len(completion))
        ids[row, text] = torch.tensor([*prompt, *completion])
        is_token[row, text] = 1
    ids, is_token = ids.to(model.device), is_token.to(model.device)
    positions = (is_token.cumsum(1) - 1).clamp(min=0)
    output = model(ids, attention_mask=is_token, position_ids=positions, output_hidden_states=True, use_cache=False)
    # The logits at a position are the distribution of the next token; the state of a token stands at its own position.
    log_softmax = (output.logits[:, start - 1 : -1] / temperature).log_softmax(-1)
    return Forward(
        log_probs=log_softmax.gather(-1, ids[:, start:, None]).squeeze(-1),
        entropy=-(log_softmax.exp() * log_softmax).sum(-1),
        states=output.hidden_states[-1][:, start:],
        mask=is_token[:, start:].bool(),
    )


def sampler(model: Any, tokenizer: Any, settings: Settings) -> Sampler:
    """Plain ancestral sampling by the model's own `generate`."""

    @torch.no_grad()
    def sample(prompts: list[list[int]]) -> list[list[int]]:
        inputs = tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt").to(model.device)
        drawn = model.generate(
            **inputs,
            do_sample=True,
            temperature=settings.temperature,
            top_k=0,
            top_p=1.0,
            max_new_tokens=settings.max_completion_length,
            pad_token_id=tokenizer.pad_token_id,
        )
        completions = drawn[:, inputs["input_ids"].shape[1] :].tolist()
        return [until_end(completion, tokenizer.eos_token_id) for completion in completions]

    return sample


def until_end(completion: list[int], end: int) -> list[int]:
    """With its end token, which the policy chose, and without the padding behind it."""
    return completion[: completion.index(end) + 1] if end in completion else completion


def countdown(tokenizer: Any, seed: int) -> tuple[Iterator[tuple[list[int], str]], Grader]:
    """Prompts of the task with their answers, and its verifier as the grader."""
    task = CountdownTask()
    problems = task.problems("train", 512, seed)

    def rows() -> Iterator[tuple[list[int], str]]:
        while True:
            for problem in problems:
                yield tokenizer(problem.prompt)["input_ids"], problem.answer

    def grade(completions: list[list[int]], answers: list[str]) -> list[float]:
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        # A verifier says None where it could not score; NaN gives such a completion the advantage 0.
        return [float("nan") if s is None else s for s in task.verifier.score(texts, answers)]

    return rows(), grade


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded policy in a plain loop.")
    parser.add_argument("--objective", default="relax")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    options: dict[str, Any] = {}
    if words.objective == "relax":
        options = {"xi": "quantile:0.9", "dictionary": {"num_observables": 16}}
    settings = Settings(words.objective, options, words.updates)
    torch.manual_seed(words.seed)
    model, tokenizer = load_model("tiny")
    model.train()
    rows, grade = countdown(tokenizer, words.seed)
    rewards: list[float] = []

    def log(update: int, reward: float, metrics: dict[str, float]) -> None:
        rewards.append(reward)
        dsd = f", DSD {metrics['latent/dsd']:.4f}" if "latent/dsd" in metrics else ""
        print(f"update {update}: reward {reward:.3f}, loss {metrics['loss']:+.4f}{dsd}")

    train(model, rows, sampler(model, tokenizer, settings), grade, settings, log)
    first, last = (sum(part) / len(part) for part in (rewards[:5], rewards[-5:]))
    print(f"mean reward of the first five updates {first:.3f}, of the last five {last:.3f}")


if __name__ == "__main__":
    main()
