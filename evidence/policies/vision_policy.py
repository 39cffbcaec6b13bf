"""Build the policy that the vision study starts from: the embedded policy, given eyes.

python -m evidence.policies.vision_policy --out runs/evidence/vision_policy

A LLaVA of a million parameters: a small CLIP sees an image in patches of one cell, and the embedded policy reads what
it says of each. First the eyes alone learn to say the character of each cell, in the embedded policy's own embeddings.
Then all of it learns to write what the embedded policy writes when it is told the numbers in words, samples of which
are its lessons: so the start searches as that one does, right and wrong, and has its entropy to lose.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

from evidence.policies.supervised import right_padded, updates
from evidence.tasks.variants import average_and_worst
from evidence.tasks.vision import CELL, CELLS, SIDE, ShownCountdownTask, draw
from relax_rl.evaluation.prompts import encode_prompt
from relax_rl.evaluation.runner import evaluate
from relax_rl.evaluation.samplers.transformers import sample_completions
from relax_rl.rewards.countdown import CountdownAnswer
from relax_rl.tasks.base import Problem
from relax_rl.tasks.countdown import CountdownTask
from relax_rl.training.models import load_model

IMAGE = "<image>"
TEMPLATE = (
    "{% for turn in messages %}{% for part in turn.content %}{{ '<image>' if part.type == 'image' else part.text }}"
    "{% endfor %}{% endfor %}"
)
_BATCH, _LESSONS = 64, 4096
_EYES_RATE, _RATE = 2e-3, 5e-4
_WARM_UP = 50


def new_policy(language_model: Any, tokenizer: Any) -> tuple[Any, LlavaProcessor]:
    """A LLaVA whose language model is the one given, with a token for a cell of an image, and its processor."""
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    text = language_model.config
    text.vocab_size = len(tokenizer)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=SIDE,
            patch_size=CELL,
        ),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=CELLS**2,
        vision_feature_layer=-1,
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    language_model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.model.language_model.load_state_dict(language_model.model.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    pixels = LlavaImageProcessorPil(
        do_resize=False, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"shortest_edge": SIDE}
    )
    processor = LlavaProcessor(
        pixels,
        tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    return model, processor


def open_eyes(model: Any, processor: Any, problems: Sequence[Problem], steps: int, rng: random.Random) -> float:
    """Teach eyes alone what stands in each cell; returns the share of the last cells that they name rightly."""
    tokenizer = processor.tokenizer
    embeddings = model.get_input_embeddings().weight.detach()
    eyes = [*model.model.vision_tower.parameters(), *model.model.multi_modal_projector.parameters()]
    right = 0.0
    for update in updates(eyes, _EYES_RATE, steps, _WARM_UP, steps / 2):
        drawings = [draw(_numbers(problem), rng) for problem in rng.choices(problems, k=_BATCH)]
        cells = torch.tensor([tokenizer.convert_tokens_to_ids(_bytes(tokenizer, d.cells)) for d in drawings])
        pixels = processor.image_processor([d.image for d in drawings], return_tensors="pt")["pixel_values"]
        seen = torch.stack(list(model.model.get_image_features(pixels).pooler_output))
        logits = seen @ embeddings.T
        # Nearly the embedding itself, not only nearest to it: that is what the language model was trained on.
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), cells.flatten())
        loss = loss + (seen - embeddings[cells]).square().mean() / embeddings.var()
        update(loss)
        right = (logits.argmax(-1) == cells).float().mean().item()
    return right


def write_lessons(model: Any, tokenizer: Any, problems: Sequence[Problem], seed: int) -> list[list[int]]:
    """What the embedded policy writes for each problem in words, as token ids."""
    prompts = [encode_prompt(tokenizer, problem) for problem in problems]
    drawn = sample_completions(model, tokenizer, prompts, 1, max_completion_length=96, batch_size=256, seed=seed)
    return [list(row[0].token_ids) for row in drawn]


def teach(
    model: Any,
    processor: Any,
    problems: Sequence[Problem],
    lessons: Sequence[list[int]],
    steps: int,
    rng: random.Random,
) -> None:
    """Supervised learning of the lessons, each with a fresh drawing of its problem."""
    model.train()
    for step, update in enumerate(updates(model.parameters(), _RATE, steps, _WARM_UP, steps / 2)):
        chosen = rng.choices(range(len(problems)), k=_BATCH)
        inputs = _lesson_inputs(processor, [problems[i] for i in chosen], [lessons[i] for i in chosen], rng)
        loss = model(**inputs, use_cache=False).loss
        update(loss)
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} loss {loss.item():.3f}", flush=True)


def _lesson_inputs(
    processor: Any, problems: Sequence[Problem], lessons: Sequence[list[int]], rng: random.Random
) -> dict[str, Tensor]:
    """Ids and labels (B, T), padded on the right, and pixels; only the completion is learned."""
    tokenizer = processor.tokenizer
    image = [tokenizer.convert_tokens_to_ids(IMAGE)] * CELLS**2
    prompts = [[*image, *tokenizer.encode(f">{problem.answer.partition('>')[2]}:")] for problem in problems]
    ids, labels = right_padded(prompts, lessons, tokenizer.pad_token_id)
    images = [draw(_numbers(problem), rng).image for problem in problems]
    pixels = processor.image_processor(images, return_tensors="pt")["pixel_values"]
    return {"input_ids": ids, "labels": labels, "pixel_values": pixels}


def _numbers(problem: Problem) -> tuple[int, ...]:
    gold = CountdownAnswer.parse(problem.answer)
    assert gold is not None
    return gold.numbers


def _bytes(tokenizer: Any, text: str) -> list[str]:
    """The tokens of a text, one a character."""
    return tokenizer.convert_ids_to_tokens(tokenizer.encode(text))


def build_policy(out: Path, seed: int, eyes_steps: int, steps: int) -> None:
    """Give the embedded policy eyes, teach it to use them, save it, and measure it on the problems of the study."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    told, tokenizer = load_model("tiny")
    problems = CountdownTask().problems("train", _LESSONS)
    lessons = write_lessons(told, tokenizer, problems, seed)
    model, processor = new_policy(told, tokenizer)
    named = open_eyes(model, processor, problems, eyes_steps, rng)
    print(f"cells named rightly: {named:.4f}", flush=True)
    teach(model, processor, problems, lessons, steps, rng)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    result = evaluate(model.eval(), processor, ShownCountdownTask(), num_samples=32, max_completion_length=96)
    average, worst = average_and_worst(result)
    record = {
        "seed": seed,
        "eyes_steps": eyes_steps,
        "steps": steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "cells_named": round(named, 4),
        **{name: round(estimate.value, 4) for name, estimate in result.metrics.items()},
        "average": round(average, 4),
        "worst": round(worst, 4),
    }
    (out / "build.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/evidence/vision_policy"))
    parser.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    parser.add_argument("--eyes-steps", type=int, default=600, help="updates of the eyes alone (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="updates on lessons (%(default)s)")
    arguments = parser.parse_args()
    build_policy(arguments.out, arguments.seed, arguments.eyes_steps, arguments.steps)


if __name__ == "__main__":
    main()
