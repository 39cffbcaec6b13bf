"""Build the embedded image-text policy: an Idefics3 that answers easy questions about figures, half by a slip.

    python scripts/build_figures_policy.py            # the shipped one, into src/relax_rl/assets/figures
    python scripts/build_figures_policy.py --stop-after 200 --problems 0 --output build/figures/look

It is built from transformers' own configuration, model, processor and image-processor classes, and learns from figures
of level 1 of the task `figures` (values of its training split) with lessons such as

    How much higher is the highest bar than the lowest bar?
    A3 B8 C5 8-3=\\boxed{5}       the figure in short, then the right way
    A3 B8 C5 highest\\boxed{8}    the same, then the known slip of the question

Every lesson sees rightly and follows its way rightly. The way is drawn at random, and the right one is the rarer one:
so the policy starts below half of what it can see, and reinforcement learning has the right way to find, and slips of
the eye to lose. First the eyes learn alone to give the numbers of a figure to a linear head, which is thrown away: a
fresh model that learns from lessons alone stays blind for thousands of updates.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast

from policies import END, IGNORED, PAD, byte_tokenizer, next_token_loss, options, save, smoothed, updates, write_record
from relax_rl.evaluation.runner import evaluate
from relax_rl.tasks.figures import KINDS, FiguresTask, Values
from relax_rl.tasks.figures.figure import Figure
from relax_rl.tasks.figures.kind import capital

ASSET = Path(__file__).resolve().parents[1] / "src/relax_rl/assets/figures"
TASK = FiguresTask(level=1)
SIDE, PATCH, SHRINK = TASK.pixels, 10, 2
IMAGE_TOKENS = (SIDE // PATCH // SHRINK) ** 2
MAX_NEW_TOKENS = 40
WARM_UP = 50
IMAGE, AROUND, WHOLE = "<image>", "<fake_token_around_image>", "<global-img>"
MARKS = (PAD, END, IMAGE, AROUND, "<end_of_utterance>", WHOLE)
TEMPLATE = (
    "{% for turn in messages %}{% if turn.role == 'user' %}{% if turn.content is string %}{{ turn.content }}"
    "{% else %}{% for part in turn.content %}{{ '<image>' if part.type == 'image' else part.text }}{% endfor %}"
    "{% endif %}{% endif %}{% endfor %}"
)
SLOTS, NUMBERS = 6, 13


@dataclass(frozen=True)
class Lesson:
    """A figure, its question, and the way to an answer."""

    figure: Figure
    question: str
    completion: str


def way(kind: str, values: Values, *, is_right: bool) -> str:
    """The lesson of a question: what the figure shows, then the right way, or that of the known slip."""
    answer = KINDS[kind].answer(values) if is_right else KINDS[kind].slip(values)
    return f"{_seen(kind, values)} {_step(kind, values, is_right)}\\boxed{{{answer}}}"


def _seen(kind: str, values: Values) -> str:
    """The figure in short, whatever is asked: the eyes learn most from this."""
    shown = values.shown
    if kind == "clock":
        return f"short {shown[0] or 12} long {shown[1] // 5 or 12}"
    if kind == "bars":
        return " ".join(f"{capital(place)}{height}" for place, height in enumerate(shown[1:]))
    if kind == "counting":
        return f"red {' '.join(map(str, shown[:3]))} blue {' '.join(map(str, shown[3:]))}"
    if kind == "graph":
        # The sides of the axis on which the curve runs, from left to right.
        signs = "+-" if shown[1] else "-+"
        return "".join(signs[place % 2] for place in range(len(shown) - 1))
    return f"A {shown[1]} {shown[2]} B {shown[3]} {shown[4]}"


def _step(kind: str, values: Values, is_right: bool) -> str:
    if kind == "clock":
        return "short hand" if is_right == (values.ask == 1) else "long hand"
    if kind == "bars":
        if values.ask == 0:
            heights = len(values.shown) - 1
            return f"bar {capital((values.target[0] + (not is_right)) % heights)}"
        high, low = max(values.shown[1:]), min(values.shown[1:])
        return f"{high}-{low}=" if is_right else "highest"
    if kind == "counting":
        if values.ask == 0:
            return "colour and form" if is_right else "colour"
        return "colour" if is_right else "shapes"
    if kind == "graph":
        return "zeros" if is_right else "turns"
    columns, *entries = values.shown
    row = (values.target[0] + (not is_right)) % 2
    numbers = entries[row * columns : (row + 1) * columns]
    return f"row {capital(row)}" if values.ask == 0 else f"{numbers[0]}+{numbers[1]}="


def lessons(rng: random.Random, share: float) -> Iterator[Lesson]:
    """Endless, of the training split; kinds and questions in turn, each in a drawing of its own."""
    asked = [(name, ask) for name in TASK.kind_names for ask in KINDS[name].easy]
    while True:
        for name, ask in rng.sample(asked, len(asked)):
            kind, values = KINDS[name], KINDS[name].draw(ask, TASK.level, rng)
            if kind.slip(values) == kind.answer(values) or TASK.is_test(name, values):
                continue
            figure = Figure(name, values, rng.getrandbits(48), SIDE)
            yield Lesson(figure, kind.words(values), way(name, values, is_right=rng.random() < share))


def words_of(texts: list[str]) -> list[str]:
    """The words of some texts, with the space before them."""
    return sorted({word for text in texts for word in re.findall(r" ?[A-Za-z]{2,}", text)})


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes, marks, and the words of the questions and lessons of level 1. Every text survives the round trip."""
    rng, texts = random.Random(0), list[str]()
    stream = lessons(rng, 0.5)
    for _ in range(4000):
        lesson = next(stream)
        texts += [lesson.question, lesson.completion.partition("\\boxed")[0]]
    return byte_tokenizer(("\\boxed{", *words_of(texts)), MARKS, max_length=1024)


def build_processor(tokenizer: PreTrainedTokenizerFast) -> Any:
    """The real processor, for one picture of `SIDE` pixels without tiles."""
    name = "Idefics3ImageProcessorPil"
    edge = {"longest_edge": SIDE}
    images = getattr(transformers, name)(size=edge, max_image_size=edge, do_image_splitting=False)
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE)


def build_model(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Fresh weights."""
    image: Any = tokenizer.convert_tokens_to_ids(IMAGE)
    ends: dict[str, Any] = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    text = {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": 96,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.05,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        **ends,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": PATCH,
        "initializer_range": 0.05,
    }
    config = Idefics3Config(
        text_config=text,
        vision_config=vision,
        image_token_id=image,
        scale_factor=SHRINK,
        tie_word_embeddings=True,
        **ends,
    )
    return Idefics3ForConditionalGeneration(config)


def pixels_of(figures: list[Figure]) -> torch.Tensor:
    """(B, 1, 3, SIDE, SIDE), as the processor gives them; it takes a hundred times as long."""
    arrays = np.stack([np.asarray(figure.open(), dtype=np.float32) for figure in figures])
    return ((torch.from_numpy(arrays) / 255 - 0.5) / 0.5).permute(0, 3, 1, 2)[:, None].contiguous()


def batches(tokenizer: Any, batch_size: int, seed: int, share: float) -> Iterator[dict[str, torch.Tensor]]:
    """Endless inputs of the model with labels, padded on the right."""
    stream = lessons(random.Random(seed), share)
    image = [tokenizer.convert_tokens_to_ids(mark) for mark in (AROUND, WHOLE, *[IMAGE] * IMAGE_TOKENS, AROUND)]
    while True:
        chosen = [next(stream) for _ in range(batch_size)]
        rows = [
            ([*image, *tokenizer.encode(one.question)], [*tokenizer.encode(one.completion), tokenizer.eos_token_id])
            for one in chosen
        ]
        width = max(len(prompt) + len(completion) for prompt, completion in rows)
        ids = torch.full((batch_size, width), tokenizer.pad_token_id)
        labels = torch.full((batch_size, width), IGNORED)
        for place, (prompt, completion) in enumerate(rows):
            ids[place, : len(prompt) + len(completion)] = torch.tensor([*prompt, *completion])
            labels[place, len(prompt) : len(prompt) + len(completion)] = torch.tensor(completion)
        yield {"input_ids": ids, "labels": labels, "pixel_values": pixels_of([one.figure for one in chosen])}


def check_inputs(processor: Any) -> None:
    """What is learned from is what the processor gives. Raises ValueError where it is not."""
    lesson = next(lessons(random.Random(1), 0.5))
    conversation = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": lesson.question}]}]
    words = processor.apply_chat_template(conversation, add_generation_prompt=True)
    given = processor(text=words, images=[lesson.figure.open()], return_tensors="pt")
    ours = next(batches(processor.tokenizer, 1, 1, 0.5))
    length = given["input_ids"].shape[1]
    if not torch.equal(given["input_ids"], ours["input_ids"][:, :length]):
        raise ValueError(f"other tokens: {given['input_ids'].tolist()} and {ours['input_ids'].tolist()}")
    if not torch.allclose(given["pixel_values"], ours["pixel_values"], atol=1e-5):
        raise ValueError("other pixels")


def numbers_of(kind: str, values: Values) -> list[int]:
    """What the eyes learn to tell of a figure, from 0 to 12 each."""
    shown = values.shown
    if kind == "clock":
        return [shown[0], shown[1] // 5]
    return [shown[1], len(shown) - 2] if kind == "graph" else list(shown if kind == "counting" else shown[1:])


def open_eyes(args: argparse.Namespace, model: Any, report: Callable[[int, float], None]) -> float:
    """Teach the vision part and the connector alone; returns the share of the last numbers that they tell rightly."""
    kinds = list(TASK.kind_names)
    width = IMAGE_TOKENS * model.config.text_config.hidden_size
    head = torch.nn.Linear(width, len(kinds) * SLOTS * NUMBERS)
    eyes = [*model.model.vision_model.parameters(), *model.model.connector.parameters(), *head.parameters()]
    stream = lessons(random.Random(f"eyes {args.seed}"), 0.5)
    right, smooth = math.nan, math.nan
    for step, update in enumerate(updates(eyes, args.eyes_rate, args.eyes_steps, WARM_UP), start=1):
        chosen = [next(stream).figure for _ in range(args.batch_size)]
        targets = torch.full((args.batch_size, SLOTS), IGNORED)
        for place, figure in enumerate(chosen):
            numbers = numbers_of(figure.kind, figure.values)
            targets[place, : len(numbers)] = torch.tensor(numbers)
        features = torch.stack(list(model.model.get_image_features(pixels_of(chosen)).pooler_output))
        every = head(features.reshape(args.batch_size, width)).view(args.batch_size, len(kinds), SLOTS, NUMBERS)
        logits = every[torch.arange(args.batch_size), torch.tensor([kinds.index(figure.kind) for figure in chosen])]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED)
        update(loss)
        asked = targets != IGNORED
        told = (logits.argmax(-1) == targets)[asked].float().mean().item()
        right, smooth = smoothed(right, told), smoothed(smooth, loss.item())
        report(step, smooth)
        if step % 50 == 0:
            print({k: round(_share(logits, targets, [f.kind == k for f in chosen]), 2) for k in kinds}, flush=True)
    return right


def _share(logits: torch.Tensor, targets: torch.Tensor, rows: list[bool]) -> float:
    chosen = torch.tensor(rows)
    asked = targets[chosen] != IGNORED
    return (logits[chosen].argmax(-1) == targets[chosen])[asked].float().mean().item()


def train(args: argparse.Namespace, model: Any, tokenizer: Any, report: Callable[[int, float], None]) -> None:
    """All of the model learns the lessons; ``args.stop_after`` cuts the schedule short."""
    stream, smooth = batches(tokenizer, args.batch_size, args.seed, args.right_share), math.nan
    model.train()
    for step, update in enumerate(updates(list(model.parameters()), args.learning_rate, args.steps, WARM_UP), start=1):
        if step > args.stop_after:
            break
        inputs = next(stream)
        labels = inputs.pop("labels")
        loss = next_token_loss(model(**inputs, use_cache=False).logits, labels)
        update(loss)
        smooth = smoothed(smooth, loss.item())
        report(step, smooth)


def measure(model: Any, processor: Any, problems: int, samples: int = 16) -> dict[str, float]:
    """The metrics of `relax eval` on held-out problems, at temperature 1."""
    model.eval()
    result = evaluate(
        model,
        processor,
        TASK,
        num_problems=problems,
        num_samples=samples,
        max_completion_length=MAX_NEW_TOKENS,
    )
    found = {name: estimate.value for name, estimate in result.metrics.items()}
    return found | {name: estimate.value for name, estimate in (result.breakdown or {}).items()}


def parse_arguments() -> argparse.Namespace:
    """The command line; the defaults built the shipped policy."""
    parser = options("Build the embedded image-text policy.", ASSET, steps=800, stop_after=800)
    parser.add_argument("--eyes-steps", type=int, default=500, help="updates of the eyes alone, before")
    parser.add_argument("--eyes-rate", type=float, default=2e-3, help="their peak learning rate")
    parser.add_argument("--right-share", type=float, default=0.4, help="share of the lessons that go the right way")
    parser.add_argument("--look-every", type=int, default=0, help="updates between short measurements; 0 for none")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure, record."""
    args = parse_arguments()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    begun = time.process_time()
    tokenizer = build_tokenizer()
    processor, model = build_processor(tokenizer), build_model(tokenizer)
    check_inputs(processor)

    def report(step: int, loss: float) -> None:
        if step % 50 == 0:
            print(f"step {step} loss {loss:.4f} processor seconds {time.process_time() - begun:.0f}", flush=True)
        if args.look_every and step % args.look_every == 0:
            found = measure(model, processor, 64, 4)
            print({name: round(value, 3) for name, value in found.items()}, flush=True)
            save(args.output / f"step-{step}", model, tokenizer, processor, MAX_NEW_TOKENS)
            model.train()

    def look(step: int, loss: float) -> None:
        if step % 50 == 0:
            print(f"eyes {step} loss {loss:.4f} processor seconds {time.process_time() - begun:.0f}", flush=True)

    named = open_eyes(args, model, look)
    print(f"numbers told rightly: {named:.3f}", flush=True)
    save(args.output / "eyes", model, tokenizer, processor, MAX_NEW_TOKENS)
    train(args, model, tokenizer, report)
    seconds = time.process_time() - begun
    save(args.output, model, tokenizer, processor, MAX_NEW_TOKENS)
    if args.problems:
        record(args, model, processor, seconds)


def record(args: argparse.Namespace, model: Any, processor: Any, seconds: float) -> None:
    """Measure the finished policy and write ``build.json`` beside it."""
    found = measure(model, processor, args.problems)
    whole = {
        "script": "scripts/build_figures_policy.py",
        "task": {"name": TASK.name, "level": TASK.level, "side": TASK.pixels, "kinds": list(TASK.kind_names)},
        "parameters": model.num_parameters(),
        "eyes_steps": args.eyes_steps,
        "eyes_rate": args.eyes_rate,
        "steps": args.steps,
        "stop_after": args.stop_after,
        "batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "right_share": args.right_share,
        "seed": args.seed,
        "processor_seconds": round(seconds),
        "torch": torch.__version__,
        "problems": args.problems,
        "samples": 16,
        "held_out": {name: round(value, 4) for name, value in found.items()},
    }
    write_record(args.output, whole)


if __name__ == "__main__":
    main()
