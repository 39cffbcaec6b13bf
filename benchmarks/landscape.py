"""The landscape of five models on a hundred prompts: reading, distances, shuffles, bootstrap and page, against a limit.

python benchmarks/suite.py --only landscape

The models are random ones of SmolLM2's shape, thinner and less deep, that read texts of 64 to 163 tokens as they are.
What a large model adds is its own forward, once a text.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

from capture import random_model
from frame.rows import Effort, Row, row_of_limit
from frame.timing import Times
from relax_rl.training.models import load_tokenizer
from relax_rl.workflows.spectrum_landscape import LandscapeResult, spectrum_landscape
from relax_rl.workflows.spectrum_texts import Reading

MODELS, PROMPTS, LIMIT = 5, 100, 120.0


def rows(effort: Effort) -> Iterator[Row]:
    """One run, which takes about as long as the whole quick subset may."""
    if effort.is_quick:
        return
    times = Times()
    with tempfile.TemporaryDirectory() as folder:
        names, reading = made(Path(folder))

        def run() -> LandscapeResult:
            return spectrum_landscape(names, reading, output=Path(folder) / "landscape")

        found = times.take(run)
    shown = ", ".join(f"{each.method} {each.silhouette:.2f}" for each in found.landscapes)
    name = f"landscape of {MODELS} models x {PROMPTS} prompts"
    yield row_of_limit(name, times.processor, LIMIT, note=f"silhouettes: {shown}")


def made(folder: Path) -> tuple[list[str], Reading]:
    """Folders of the models, and texts that each model reads."""
    tokenizer = load_tokenizer("tiny")
    names = []
    for seed in range(MODELS):
        place = folder / f"random-{seed}"
        random_model(width=192, layers=4, seed=seed).save_pretrained(place)
        tokenizer.save_pretrained(place)
        names.append(str(place))
    draw = random.Random(0)
    texts = ["".join(draw.choices("0123456789+-*=", k=64 + place)) for place in range(PROMPTS)]
    return names, Reading(prompts=texts, text=True, num_problems=PROMPTS)
