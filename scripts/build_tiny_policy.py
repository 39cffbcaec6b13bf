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
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from relax_rl.rewards.base import Verifier
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask

ASSET = Path(__file__).resolve().parents[1] / "src/relax_rl/assets/tiny"
TASK = CountdownTask()
MAX_NEW_TOKENS = 96
LARGEST_RESULT = 2 * TASK.max_target
PAD, END = "<|pad|>", "<|end|>"
PAD_ID, END_ID = 256, 257  # after the 256 bytes
WORDS = ("<answer>", "</answer>", " yes", " no")
IGNORED = -100


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


Trace = tuple[str, str]
"""A prompt and the completion to be learned."""


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


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, four words and two marks. Every text survives the round trip; nothing is added to a prompt.

    The words are no special tokens: a decoder that skips special tokens must not lose the answer.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in (PAD, END)])
    core.add_tokens([AddedToken(word, normalized=False) for word in WORDS])
    assert (core.token_to_id(PAD), core.token_to_id(END)) == (PAD_ID, END_ID)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, width: int = 128, layers: int = 4) -> LlamaForCausalLM:
    """A Llama with fresh weights, of 0.84 million parameters by default."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=11 * width // 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
        initializer_range=0.05,
    )
    return LlamaForCausalLM(config)


def countdown_traces(
    draw: Draw = random_attempt, attempts: tuple[int, int] = (2, 5)
) -> Callable[[random.Random], Trace]:
    """Searches of random training problems of countdown."""
    problems = TASK.problems("train", 6000)
    return lambda rng: write_trace(rng.choice(problems), rng, draw, attempts)


def batches(
    tokenizer: PreTrainedTokenizerFast, batch_size: int, rng: random.Random, write: Callable[[random.Random], Trace]
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless (tokens, labels), each (B, T), padded on the right; traces of like length share a batch."""
    while True:
        rows = []
        for _ in range(16 * batch_size):
            prompt, completion = write(rng)
            prompt_ids = tokenizer.encode(prompt)
            rows.append((len(prompt_ids), [*prompt_ids, *tokenizer.encode(completion), END_ID]))
        rows.sort(key=lambda row: len(row[1]))
        starts = list(range(0, len(rows), batch_size))
        rng.shuffle(starts)
        for start in starts:
            chunk = rows[start : start + batch_size]
            width = max(len(ids) for _, ids in chunk)
            tokens = torch.full((batch_size, width), PAD_ID)
            labels = torch.full((batch_size, width), IGNORED)
            for row, (prompt_length, ids) in enumerate(chunk):
                tokens[row, : len(ids)] = torch.tensor(ids)
                labels[row, prompt_length : len(ids)] = tokens[row, prompt_length : len(ids)]
            yield tokens, labels


def train(
    args: argparse.Namespace,
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    write: Callable[[random.Random], Trace],
) -> None:
    """AdamW with warm-up and a cosine that ``args.stop_after`` cuts short; snapshots on the way if asked for."""
    decayed = [p for p in model.parameters() if p.dim() == 2]
    rest = [p for p in model.parameters() if p.dim() != 2]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.learning_rate, betas=(0.9, 0.98))
    stream = batches(tokenizer, args.batch_size, random.Random(args.seed), write)
    begun, smooth = time.perf_counter(), math.nan
    model.train()
    for step in range(1, min(args.stop_after, args.steps) + 1):
        scale = min(step / 100, 0.5 * (1 + math.cos(math.pi * step / args.steps)))
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * scale
        tokens, labels = next(stream)
        # Padding is on the right, so the causal mask alone keeps it out of sight.
        logits = model(input_ids=tokens, use_cache=False).logits[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        smooth = loss.item() if math.isnan(smooth) else 0.95 * smooth + 0.05 * loss.item()
        if step % 20 == 0:
            print(f"step {step} loss {smooth:.4f} seconds {time.perf_counter() - begun:.0f}", flush=True)
        if args.snapshot_every and step % args.snapshot_every == 0:
            save(args.work / f"step-{step}", model, tokenizer)


def save(folder: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """Weights, configuration, tokenizer and generation defaults in the Hugging Face layout."""
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        max_new_tokens=MAX_NEW_TOKENS,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def measure(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    *,
    problems: int,
    samples: int = 16,
    seed: int = 0,
    held_out: Sequence[Problem] | None = None,
    verifier: Verifier = TASK.verifier,
) -> dict[str, float]:
    """Sample held-out problems at temperature 1: mean@1, pass@k (k = ``samples``), lengths in tokens, cut-off share."""
    held_out = TASK.problems("test", problems) if held_out is None else held_out[:problems]
    torch.manual_seed(seed)
    model.eval()
    scores: list[list[float]] = []
    lengths: list[int] = []
    for start in range(0, problems, 16):
        chunk = held_out[start : start + 16]
        inputs = tokenizer([problem.prompt for problem in chunk], return_tensors="pt", padding=True)
        output = model.generate(
            **inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=samples, max_new_tokens=MAX_NEW_TOKENS,
        )  # fmt: skip
        completions = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        answers = [problem.answer for problem in chunk for _ in range(samples)]
        flat = [score or 0.0 for score in verifier.score(texts, answers)]
        scores += [flat[row : row + samples] for row in range(0, len(flat), samples)]
        ends = completions == END_ID
        lengths += torch.where(ends.any(1), ends.int().argmax(1) + 1, MAX_NEW_TOKENS + 1).tolist()
    return {
        "problems": problems,
        "samples": samples,
        "temperature": 1.0,
        "max_new_tokens": MAX_NEW_TOKENS,
        "mean_at_1": sum(map(sum, scores)) / (problems * samples),
        f"pass_at_{samples}": sum(any(row) for row in scores) / problems,
        "mean_completion_tokens": sum(min(length, MAX_NEW_TOKENS) for length in lengths) / len(lengths),
        "truncated_share": sum(length > MAX_NEW_TOKENS for length in lengths) / len(lengths),
    }


def parse_arguments() -> argparse.Namespace:
    """The command line; the defaults built the shipped policy."""
    parser = argparse.ArgumentParser(description="Build the embedded tiny policy.")
    parser.add_argument("--output", type=Path, default=ASSET, help="folder of the finished policy")
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="folder for snapshots")
    parser.add_argument("--snapshot-every", type=int, default=0, help="steps between snapshots; 0 for none")
    parser.add_argument("--steps", type=int, default=3600, help="optimiser updates of the whole cosine")
    parser.add_argument("--stop-after", type=int, default=2400, help="updates that are made")
    parser.add_argument("--batch-size", type=int, default=64, help="traces an update")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--width", type=int, default=128, help="of the hidden states")
    parser.add_argument("--layers", type=int, default=4, help="of the model")
    parser.add_argument("--attempts", type=int, default=5, help="the most in one trace")
    parser.add_argument("--seed", type=int, default=0, help="of weights, traces and sampling")
    parser.add_argument("--problems", type=int, default=128, help="held-out problems in the final measurement")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    begun = time.perf_counter()
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, args.width, args.layers)
    attempts = (min(2, args.attempts), args.attempts)
    train(args, model, tokenizer, countdown_traces(attempts=attempts))
    save(args.output, model, tokenizer)
    write_record(args, model, tokenizer, seconds=time.perf_counter() - begun)


def write_record(args: argparse.Namespace, model: Any, tokenizer: PreTrainedTokenizerFast, *, seconds: float) -> None:
    """Measure the finished policy and write ``build.json`` beside it."""
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
        "held_out": measure(model, tokenizer, problems=args.problems, seed=args.seed),
        "sha256": hashlib.sha256((args.output / "model.safetensors").read_bytes()).hexdigest(),
    }
    (args.output / "build.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
