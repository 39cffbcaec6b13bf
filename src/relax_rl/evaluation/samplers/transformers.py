"""Sampling completions from a Hugging Face causal or image-text language model.

``generate`` decodes every row of a batch until its slowest row ends, prefills a prompt again for each of its samples,
and draws from one random stream, so that the batch size decides what is sampled. This loop drops finished rows from
the cache, prefills each prompt once, and gives every (problem, sample) a random stream of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch

from relax_rl.errors import ConfigError, DataError
from relax_rl.evaluation.prompts import (
    PromptForm,
    encode_prompt,
    looks_of,
    prompt_inputs,
    prompt_positions,
    render_prompt,
    without_image_token,
)
from relax_rl.evaluation.samplers.protocol import Completion, Draw, SamplingSettings
from relax_rl.evaluation.texts import completion_texts
from relax_rl.latent.caches import CachePlan, cache_plan, new_cache, repeat_rows, select_rows
from relax_rl.latent.capture import evaluation_mode
from relax_rl.latent.contract import stop_token_ids
from relax_rl.latent.images.sharing import shown
from relax_rl.latent.sites import language_model_of
from relax_rl.tasks.base import Problem

__all__ = [
    "TransformersSampler",
    "evaluation_mode",
    "sample_blocks",
    "sample_completions",
    "stop_token_ids",
]

_RACE_ABOVE = 4096
"""Vocabularies larger than this draw tokens by a race (`_Choice`)."""
_LEAST_EXPONENTIAL = 2.0**-25
"""Half the step between the smallest float32 exponentials: none is zero, so that nothing is divided by zero."""
_COMPACT_BELOW = 0.8
"""Finished rows are dropped once fewer than this share of the rows is unfinished: dropping copies the cache."""


def sample_completions(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    num_samples: int,
    *,
    max_completion_length: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 128,
    seed: int = 0,
    keys: Sequence[str] | None = None,
) -> list[list[Completion]]:
    """Draw ``num_samples`` completions of each prompt.

    The random numbers behind a sample depend on ``(seed, key, sample index)`` alone, so results do not depend on batch
    size or order beyond the last bits of the logits. The global random state is not touched.

    Args:
        tokenizer: the model's own, or its processor.
        prompts: token ids (`encode_prompt`), none empty.
        temperature: 0 is greedy decoding.
        top_p: nucleus; the smallest set of tokens whose probability reaches it.
        batch_size: rows decoded together; bounds the memory of the key-value cache.
        keys: stable name of each prompt, such as the problem id; its position when None.

    Returns:
        One list a prompt, in order.

    Raises:
        ConfigError: a setting out of range.
        DataError: an empty prompt, or keys that are not one a prompt and distinct.
    """
    settings = SamplingSettings(num_samples, max_completion_length, temperature, top_p, seed)
    keys = [str(index) for index in range(len(prompts))] if keys is None else list(keys)
    completions: dict[tuple[int, int], Completion] = {}
    for draws in sample_blocks(model, tokenizer, prompts, keys, settings, batch_size=batch_size):
        completions.update({(draw.prompt, draw.index): draw.completion for draw in draws})
    return [[completions[prompt, index] for index in range(num_samples)] for prompt in range(len(prompts))]


def sample_blocks(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    keys: Sequence[str],
    settings: SamplingSettings,
    *,
    batch_size: int = 128,
    done: Container[tuple[int, int]] = frozenset(),
    takes: Callable[[int], bool] = lambda number: True,
) -> Generator[list[Draw]]:
    """As `sample_completions`, block by block as they are decoded.

    Args:
        done: (prompt, sample) that are there already. A block is left out if all of it is there, and decoded whole if
            any of it is missing: the same blocks, and so the same bits, whether a run was interrupted or not.
        takes: whether this process decodes a block, by its number among those that are not there: 0, 1, and so on.

    Yields:
        The draws of a block that were missing.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size = {batch_size} must be at least 1.")
    if len(keys) != len(prompts) or len(set(keys)) != len(keys):
        raise DataError("keys must be distinct, one a prompt: samples of prompts that share a key would be copies.")
    for key, prompt in zip(keys, prompts, strict=True):
        if not prompt:
            raise DataError(f"prompt {key!r} is empty; give it at least one token, such as the begin-of-text token.")
    plan = cache_plan(language_model_of(model).config)
    decoder = _Decoder(model, stop_token_ids(model, tokenizer), settings, plan)
    blocks = _blocks(prompts, settings.num_samples, batch_size, pads=plan.pads_prompts)
    missing = (block for block in blocks if not all(row in done for row in block.rows))
    for number, block in enumerate(missing):
        if not takes(number):
            continue
        streams = [_stream_key(settings.seed, keys[index], draw) for index, draw in block.rows]
        with evaluation_mode(model):
            decoded, entropies = decoder.decode([prompts[index] for index in block.prompts], block.repeats, streams)
        texts = completion_texts(tokenizer, decoded)
        yield [
            Draw(*row, Completion(text, tuple(ids), len(ids), ids[-1] not in decoder.stop_ids, entropy))
            for row, ids, text, entropy in zip(block.rows, decoded, texts, entropies, strict=True)
            if row not in done
        ]


class TransformersSampler:
    """A Hugging Face causal or image-text language model, with its tokenizer or processor, in this process.

    Args:
        batch_size: completions decoded together.
        form: form of the prompts.
    """

    backend = "transformers"

    def __init__(self, model: Any, tokenizer: Any, batch_size: int = 128, form: PromptForm | None = None) -> None:
        self._form = form or PromptForm()
        self._model = model
        self._tokenizer = tokenizer
        self._batch_size = batch_size

    @property
    def fingerprint(self) -> str:
        """A digest of up to 64 entries of each parameter: other weights are noticed, another file of the same not."""
        digest = hashlib.blake2b(digest_size=8)
        for name, parameter in sorted(self._model.named_parameters()):
            flat = parameter.detach().flatten()
            entries = flat[torch.linspace(0, len(flat) - 1, min(64, len(flat)), dtype=torch.float64).long()]
            digest.update(name.encode() + entries.double().cpu().numpy().tobytes())
        return digest.hexdigest()

    def render(self, problem: Problem) -> str:
        """The text that the model reads."""
        return render_prompt(self._tokenizer, problem, self._form)

    def prompt_length(self, problem: Problem) -> int:
        """Tokens of a problem's prompt."""
        return len(encode_prompt(self._tokenizer, problem, self._form))

    @property
    def batch_size(self) -> int:
        """Completions decoded together."""
        return self._batch_size

    def sample(
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        done: Container[tuple[int, int]] = frozenset(),
        takes: Callable[[int], bool] = lambda number: True,
    ) -> Generator[list[Draw]]:
        """See `relax_rl.evaluation.samplers.protocol.Sampler`, and `sample_blocks` for ``takes``."""
        return sample_blocks(
            self._model,
            self._tokenizer,
            [encode_prompt(self._tokenizer, problem, self._form) for problem in problems],
            [problem.id for problem in problems],
            settings,
            batch_size=self._batch_size,
            done=done,
            takes=takes,
        )


@dataclass(frozen=True)
class _Block:
    """Prompts that are prefilled together, and the draws made of each."""

    prompts: list[int]
    draws: range

    @property
    def repeats(self) -> int:
        return len(self.draws)

    @property
    def rows(self) -> list[tuple[int, int]]:
        return [(index, draw) for index in self.prompts for draw in self.draws]


def _blocks(
    prompts: Sequence[Sequence[int]], num_samples: int, batch_size: int, *, pads: bool = True
) -> Iterator[_Block]:
    """Prompts of like length together, so that little is padded; samples split only if they exceed a batch.

    Args:
        pads: whether prompts of several lengths may be together at all.
    """
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    num_together = max(1, batch_size // num_samples)
    parts = [by_length] if pads else [list(part) for _, part in groupby(by_length, lambda index: len(prompts[index]))]
    for part in parts:
        for start in range(0, len(part), num_together):
            for first in range(0, num_samples, batch_size):
                draws = range(first, min(first + batch_size, num_samples))
                yield _Block(part[start : start + num_together], draws)


def _stream_key(seed: int, key: str, draw: int) -> int:
    """128 bits that name the random stream of one sample."""
    # A digest, not seed + index: neighbouring seeds must not share streams.
    return int.from_bytes(hashlib.blake2b(f"{seed}/{draw}/{key}".encode(), digest_size=16).digest())


class _Choice:
    """Picks tokens for rows with a random stream each, so that what else is in the batch has no say.

    For small vocabularies one uniform number a token, through the inverse of the distribution. With V tokens it has V
    boundaries that the last bits of the logits can move across the number, and those bits do depend on the batch. So
    large vocabularies race: the token with the largest p / e wins, for one exponential e a token, and only the last
    bits of the two leaders matter.
    """

    def __init__(
        self, streams: Sequence[int], settings: SamplingSettings, vocabulary: int, device: torch.device
    ) -> None:
        self._settings = settings
        self._generators: list[torch.Generator] = []
        if vocabulary > _RACE_ABOVE:
            self._generators = [torch.Generator(device).manual_seed(stream % 2**63) for stream in streams]
        else:
            # float32 keeps u * total below total in float64, so that the inverse never runs off its end.
            numbers = [
                np.random.Generator(np.random.Philox(key=stream)).random(
                    settings.max_completion_length, dtype=np.float32
                )
                for stream in streams
            ]
            self._uniforms = torch.from_numpy(np.stack(numbers)).to(device)

    def draw(self, logits: torch.Tensor, rows: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """One token for each of ``rows``, and the entropy before top-p in nats: (N, V), (N,) -> (N,), (N,).

        A greedy choice has no entropy: at temperature 0 it is that of temperature 1.
        """
        temperature, top_p = self._settings.temperature, self._settings.top_p
        probabilities = torch.softmax(logits.double() / (temperature or 1.0), dim=-1)
        entropy = torch.special.entr(probabilities).sum(dim=-1)
        if temperature == 0.0:
            return logits.argmax(dim=-1), entropy
        if top_p < 1.0:
            ordered, order = probabilities.sort(dim=-1, descending=True)
            before = ordered.cumsum(dim=-1) - ordered
            ordered = ordered.masked_fill(before >= top_p, 0.0)
            probabilities = torch.zeros_like(probabilities).scatter(-1, order, ordered)
        if self._generators:
            handicaps = torch.empty(logits.shape, device=logits.device)
            for handicap, row in zip(handicaps, rows.tolist(), strict=True):
                handicap.exponential_(generator=self._generators[row]).clamp_(min=_LEAST_EXPONENTIAL)
            return (probabilities / handicaps).argmax(dim=-1), entropy
        cumulative = probabilities.cumsum(dim=-1)
        targets = self._uniforms[rows, step].double() * cumulative[:, -1]
        return torch.searchsorted(cumulative, targets[:, None], right=True).squeeze(1), entropy


@dataclass(frozen=True)
class _Decoder:
    model: Any
    stop_ids: list[int]
    settings: SamplingSettings
    plan: CachePlan

    def decode(
        self, prompts: Sequence[Sequence[int]], repeats: int, streams: Sequence[int]
    ) -> tuple[list[list[int]], list[float]]:
        """Ids and summed entropy of ``len(prompts) * repeats`` rows, each with its random stream."""
        device = self.model.device
        cache, logits, attention, positions = self._prefill(prompts, repeats)
        choice = _Choice(streams, self.settings, logits.shape[-1], device)
        stops = torch.tensor(self.stop_ids, device=device, dtype=torch.long)
        rows = torch.arange(len(streams), device=device)
        sampled = torch.full((len(streams), self.settings.max_completion_length), -1, device=device, dtype=torch.long)
        entropy = torch.zeros(len(streams), device=device, dtype=torch.float64)
        is_open = torch.ones(len(streams), dtype=torch.bool, device=device)
        for step in range(self.settings.max_completion_length):
            tokens, step_entropy = choice.draw(logits, rows, step)
            sampled[rows[is_open], step] = tokens[is_open]
            entropy[rows[is_open]] += step_entropy[is_open]
            is_open &= ~torch.isin(tokens, stops)
            num_open = int(is_open.sum())
            if num_open == 0 or step + 1 == self.settings.max_completion_length:
                break
            if self.plan.moves_rows and num_open < _COMPACT_BELOW * len(rows):
                kept = is_open.nonzero().squeeze(1)
                select_rows(cache, kept)
                rows, tokens, attention, is_open = rows[kept], tokens[kept], attention[kept], is_open[kept]
                positions = positions[..., kept, :]
            attention = torch.cat([attention, attention.new_ones(len(rows), 1)], dim=1)
            positions = positions + 1
            mask = {"attention_mask": attention} if self.plan.masks_steps else {}
            logits = self._forward(cache, positions, {"input_ids": tokens[:, None]} | mask)
        return [row[row >= 0].tolist() for row in sampled.cpu()], entropy.tolist()

    def _prefill(
        self, prompts: Sequence[Sequence[int]], repeats: int
    ) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cache, logits (N, V), attention mask (N, L) and last positions (..., N, 1) of ``len(prompts) * repeats``."""
        if not self.plan.moves_rows:
            prompts, repeats = [prompt for prompt in prompts for _ in range(repeats)], 1
        looks = looks_of(prompts)
        inputs = prompt_inputs(self.model, prompts, looks)
        if not self.plan.moves_rows:
            # A state kept in a layer is that of the last block, which a prompt of one token would be taken to follow.
            # A forward without a cache lets go of it.
            self.model(input_ids=inputs["input_ids"][:, :1], use_cache=False, logits_to_keep=1)
        positions = prompt_positions(self.model, inputs)
        cache = new_cache(language_model_of(self.model).config)
        with shown(self.model, looks):
            logits = self._forward(cache, positions, inputs)
        if self.plan.moves_rows:
            repeat_rows(cache, repeats, len(prompts), logits.device)
        attention = inputs["attention_mask"].repeat_interleave(repeats, dim=0)
        positions = positions[..., -1:].repeat_interleave(repeats, dim=-2)
        return cache, logits.repeat_interleave(repeats, dim=0), attention, positions

    def _forward(self, cache: Any, positions: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        kept = {self.plan.argument: cache}
        output = self.model(**inputs, **kept, position_ids=positions, use_cache=True, logits_to_keep=1)
        return without_image_token(self.model, output.logits[:, -1])
