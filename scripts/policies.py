"""What the scripts that build small policies share: their options, supervised learning, and the record of a build.

A text policy is a small Llama that reads bytes. It learns traces: a prompt, and a completion that is to be learned. One
generator writes all traces of a build, and one seed decides them, the weights and the sampling of the measurement.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from relax_rl.rewards.base import Verifier
from relax_rl.tasks.base import Problem

PAD, END = "<|pad|>", "<|end|>"
PAD_ID, END_ID = 256, 257  # after the 256 bytes
ANSWER = ("<answer>", "</answer>")
IGNORED = -100

Trace = tuple[str, str]
"""A prompt and the completion to be learned."""


def options(description: str, output: Path, **defaults: Any) -> argparse.ArgumentParser:
    """The options that every script has.

    Args:
        output: folder of the policy, unless another is named.
        defaults: in place of those below, by their names in the code.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--output", type=Path, default=output, help="folder of the finished policy")
    parser.add_argument("--steps", type=int, default=3600, help="optimiser updates of the whole cosine")
    parser.add_argument("--stop-after", type=int, default=2400, help="updates that are made")
    parser.add_argument("--batch-size", type=int, default=64, help="traces an update")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0, help="of weights, traces and sampling")
    parser.add_argument("--problems", type=int, default=128, help="held-out problems of each measurement")
    parser.set_defaults(**defaults)
    return parser


def text_options(description: str, output: Path, **defaults: Any) -> argparse.ArgumentParser:
    """Those of a script that builds a text policy."""
    parser = options(description, output)
    parser.add_argument("--width", type=int, default=128, help="of the hidden states")
    parser.add_argument("--layers", type=int, default=4, help="of the model")
    parser.add_argument("--snapshot-every", type=int, default=0, help="steps between snapshots; 0 for none")
    parser.add_argument("--work", type=Path, default=Path("build/snapshots"), help="folder for snapshots")
    parser.set_defaults(**defaults)
    return parser


def recorded_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that decide what is built."""
    return {name: value for name, value in vars(args).items() if name not in ("output", "snapshot_every", "work")}


def byte_tokenizer(
    words: Sequence[str], marks: Sequence[str] = (PAD, END), max_length: int = 512
) -> PreTrainedTokenizerFast:
    """Bytes, marks and words. Every text survives the round trip; nothing is added to a prompt.

    The words are no special tokens: a decoder that skips special tokens must not lose an answer.

    Args:
        words: texts that are one token each.
        marks: special tokens, the first two `PAD` and `END`.
        max_length: of a text, in tokens.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    core.add_tokens([AddedToken(word, normalized=False) for word in words])
    assert (core.token_to_id(PAD), core.token_to_id(END)) == (PAD_ID, END_ID)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, width: int, layers: int) -> LlamaForCausalLM:
    """A Llama with fresh weights: of 0.84 million parameters with a width of 128 and 4 layers."""
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


def updates(
    parameters: Sequence[Any], learning_rate: float, steps: int, warm_up: int
) -> Iterator[Callable[[torch.Tensor], None]]:
    """What is to be called with the loss of each update: AdamW with warm-up and a cosine, gradients clipped at 1."""
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": 0.05},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))

    def update(loss: torch.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()

    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(step / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps)))
        yield update


def next_token_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labels of a batch of its cross-entropy; logits (B, T, V), labels (B, T)."""
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
    )


def smoothed(before: float, now: float) -> float:
    """A running mean; the first value begins it."""
    return now if math.isnan(before) else 0.95 * before + 0.05 * now


def build(
    args: argparse.Namespace, words: Sequence[str], write: Callable[[random.Random], Trace], max_new_tokens: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, float]:
    """Build a text policy into ``args.output``: fresh weights, supervised learning, all files.

    Args:
        args: the values of `text_options`.
        words: see `byte_tokenizer`.
        write: one trace.
        max_new_tokens: default length of a completion.

    Returns:
        The model, its tokenizer, and the seconds that it took.
    """
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    begun = time.perf_counter()
    tokenizer = byte_tokenizer(words)
    model = build_model(tokenizer, args.width, args.layers)
    stream, smooth = batches(tokenizer, args.batch_size, random.Random(args.seed), write), math.nan
    model.train()
    for step, update in enumerate(updates(list(model.parameters()), args.learning_rate, args.steps, 100), start=1):
        if step > args.stop_after:
            break
        tokens, labels = next(stream)
        # Padding is on the right, so the causal mask alone keeps it out of sight.
        loss = next_token_loss(model(input_ids=tokens, use_cache=False).logits, labels)
        update(loss)
        smooth = smoothed(smooth, loss.item())
        if step % 20 == 0:
            print(f"step {step} loss {smooth:.4f} seconds {time.perf_counter() - begun:.0f}", flush=True)
        if args.snapshot_every and step % args.snapshot_every == 0:
            save(args.work / f"step-{step}", model, tokenizer, tokenizer, max_new_tokens)
    save(args.output, model, tokenizer, tokenizer, max_new_tokens)
    return model, tokenizer, time.perf_counter() - begun


def save(folder: Path, model: Any, tokenizer: PreTrainedTokenizerFast, processor: Any, max_new_tokens: int) -> None:
    """Write what `from_pretrained` reads; the processor of a text policy is its tokenizer."""
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        max_new_tokens=max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@torch.no_grad()
def measure(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    verifier: Verifier,
    *,
    max_new_tokens: int,
    samples: int = 16,
    seed: int = 0,
) -> dict[str, float]:
    """Sample problems at temperature 1: mean@1, pass@k (k = ``samples``), lengths in tokens, truncated share.

    mean@1 is the share of samples that score 1, whatever else a verifier pays for.
    """
    torch.manual_seed(seed)
    model.eval()
    rows: list[list[bool]] = []
    lengths: list[int] = []
    for start in range(0, len(problems), 16):
        chunk = problems[start : start + 16]
        inputs = tokenizer([problem.prompt for problem in chunk], return_tensors="pt", padding=True)
        output = model.generate(
            **inputs, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
            num_return_sequences=samples, max_new_tokens=max_new_tokens,
        )  # fmt: skip
        completions = output[:, inputs["input_ids"].shape[1] :]
        texts = tokenizer.batch_decode(completions, skip_special_tokens=True)
        answers = [problem.answer for problem in chunk for _ in range(samples)]
        right = [score == 1 for score in verifier.score(texts, answers)]
        rows += [right[row : row + samples] for row in range(0, len(right), samples)]
        ends = completions == END_ID
        lengths += torch.where(ends.any(1), ends.int().argmax(1) + 1, max_new_tokens + 1).tolist()
    return {
        "problems": len(problems),
        "samples": samples,
        "temperature": 1.0,
        "max_new_tokens": max_new_tokens,
        "mean_at_1": sum(map(sum, rows)) / (len(problems) * samples),
        f"pass_at_{samples}": sum(map(any, rows)) / len(problems),
        "mean_completion_tokens": sum(min(length, max_new_tokens) for length in lengths) / len(lengths),
        "truncated_share": sum(length > max_new_tokens for length in lengths) / len(lengths),
    }


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write ``build.json`` into the folder of a policy, with the digest of its weights, and print it."""
    whole = {**record, "sha256": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()}
    (folder / "build.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(whole, indent=2))
