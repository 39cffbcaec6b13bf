"""The model card that travels with a run's checkpoints."""

from __future__ import annotations

import json
from importlib.metadata import version

from relax_rl.config import TrainConfig

__all__ = ["model_card"]


def model_card(config: TrainConfig) -> str:
    """Markdown with the metadata that the Hub reads: what was trained, on what, by which objective and settings."""
    settings = json.dumps(config.objective.model_dump(), ensure_ascii=False)
    packages = ", ".join(f"{name} {version(name)}" for name in ("relax-rl", "trl", "transformers", "torch"))
    return f"""---
base_model: {json.dumps(config.model, ensure_ascii=False)}
library_name: transformers
pipeline_tag: text-generation
tags: [relax-rl, trl, {config.objective.name}, reinforcement-learning]
---
# {config.task.name}, trained with {config.objective.name}

- start: `{config.model}`{f" at revision `{config.model_revision}`" if config.model_revision else ""}, {config.dtype}
- task: `{config.task.name}`, split `{config.train_split}`
- objective: `{settings}`
- updates: {config.trainer.max_steps}, {config.trainer.num_generations} completions a prompt, seed {config.seed}
- settings: `config.json` of the run (digest {config.digest})
- made with {packages}

ReLaX: [arXiv 2512.07558](https://arxiv.org/abs/2512.07558). GRPO: [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).
"""
