"""The model card that travels with a run's checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

__all__ = ["model_card"]


def model_card(
    *,
    base_model: str,
    revision: str | None,
    precision: str,
    task: str,
    split: str,
    objective: Mapping[str, Any],
    num_updates: int,
    group_size: int,
    seed: int,
    digest: str,
) -> str:
    """Markdown with the metadata that the Hub reads: what was trained, on what, by which objective and settings.

    Args:
        base_model, revision, precision: what training starts from, and what it is computed in.
        task, split: where the prompts come from.
        objective: ``name`` and options.
        num_updates, group_size, seed: of the run.
        digest: stands for all settings of the run.
    """
    settings = json.dumps(objective, ensure_ascii=False)
    packages = ", ".join(f"{name} {version(name)}" for name in ("relax-rl", "trl", "transformers", "torch"))
    return f"""---
base_model: {json.dumps(base_model, ensure_ascii=False)}
library_name: transformers
pipeline_tag: text-generation
tags: [relax-rl, trl, {objective["name"]}, reinforcement-learning]
---
# {task}, trained with {objective["name"]}

- start: `{base_model}`{f" at revision `{revision}`" if revision else ""}, {precision}
- task: `{task}`, split `{split}`
- objective: `{settings}`
- updates: {num_updates}, {group_size} completions a prompt, seed {seed}
- settings: `config.json` of the run (digest {digest})
- made with {packages}

ReLaX: [arXiv 2512.07558](https://arxiv.org/abs/2512.07558). GRPO: [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).
"""
