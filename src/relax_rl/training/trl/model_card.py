"""The model card of a run: with each checkpoint what it was trained on and how, in the end also how good it is."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from relax_rl.config import TrainConfig
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.latent.contract.files import EMBEDDED, find_file
from relax_rl.objectives import method_options

__all__ = ["coefficients_of", "licence_of", "model_card"]

_PACKAGES = ("relax-rl", "torch", "transformers", "trl", "accelerate", "peft", "bitsandbytes", "vllm", "deepspeed")
_SHOWN = re.compile(r"mean@1|pass@\d+|maj@\d+|entropy|dsd|length|truncated")
_LICENCE = re.compile(r"^license:\s*(\S.*?)\s*$", re.MULTILINE)


def licence_of(location: str, revision: str | None = None) -> str | None:
    """The licence that a model's own card names; None without a card at hand, or one that names none."""
    card = find_file(location, "README.md", revision, download=False)
    if card is None:
        return None
    parts = card.read_text("utf-8", errors="replace").split("---")
    found = _LICENCE.search(parts[1]) if len(parts) > 2 and not parts[0].strip() else None
    return found[1].strip("\"'") if found else None


def coefficients_of(settings: TrainConfig) -> dict[str, Any]:
    """Every coefficient of a run's method, given or by default."""
    given = settings.objective.options
    every = {key: given.get(key, value) for key, value in method_options(settings.objective.name).items()}
    return {key: value for key, value in every.items() if type(value) in (str, int, float, bool)}


def model_card(
    settings: TrainConfig,
    *,
    num_problems: int,
    coefficients: Mapping[str, Any],
    licence: str | None = None,
    ran: Mapping[str, str] | None = None,
    evaluations: Mapping[str, EvaluationResult] | None = None,
) -> str:
    """Markdown with the metadata that the Hub reads.

    Args:
        settings: settings of the run.
        num_problems: trained on.
        coefficients: coefficients of the method; see `coefficients_of`.
        licence: licence of the model that the run started from.
        ran: see `relax_rl.training.trl.what_ran`.
        evaluations: by the name of the policy, as "before" and "after".
    """
    method, trainer = settings.objective, settings.trainer
    is_adapter = settings.peft.r is not None
    start = f"`{settings.model}`" + (f" at revision `{settings.model_revision}`" if settings.model_revision else "")
    lines = [
        "---",
        *_base_on_hub(settings.model),
        f"library_name: {'peft' if is_adapter else 'transformers'}",
        *([] if licence is None else [f"license: {json.dumps(licence)}"]),
        "pipeline_tag: text-generation",
        f"tags: [relax-rl, trl, {method.name}, reinforcement-learning]",
        "---",
        f"# {settings.task.name}, trained with {method.name}",
        "",
        f"- start: {start}, {settings.dtype}",
        f"- licence of the start: {licence or 'not known here; see its own card'}",
        f"- task: `{json.dumps(settings.task.model_dump(), ensure_ascii=False)}`, split `{settings.train_split}`, "
        f"{num_problems:,} problems",
        f"- objective: `{method.name}`, `{json.dumps(dict(coefficients), ensure_ascii=False)}`",
        *([f"- adapter: `{json.dumps(settings.peft.model_dump())}`"] if is_adapter else []),
        f"- updates: {trainer.max_steps}, {trainer.num_generations} completions a prompt, at most "
        f"{trainer.max_completion_length} tokens, learning rate {trainer.learning_rate:g}, seed {settings.seed}",
        f"- settings: `config.json` of the run (digest {settings.digest})",
        *(f"- {name}: {fact}" for name, fact in (ran or {}).items()),
        f"- made with {', '.join(_versions())}",
        "",
        *_evaluated(evaluations or {}),
        "ReLaX: [arXiv 2512.07558](https://arxiv.org/abs/2512.07558). "
        "GRPO: [arXiv 2402.03300](https://arxiv.org/abs/2402.03300).",
        "",
    ]
    return "\n".join(lines)


def _base_on_hub(model: str) -> list[str]:
    """The Hub knows its own models alone; the folders of a machine are nobody else's business."""
    if model == "smollm2":
        return ["base_model: HuggingFaceTB/SmolLM2-135M-Instruct"]
    is_local = model in EMBEDDED or model.startswith((".", "/", "~")) or Path(model).exists()
    return [] if is_local else [f"base_model: {json.dumps(model, ensure_ascii=False)}"]


def _evaluated(evaluations: Mapping[str, EvaluationResult]) -> list[str]:
    if not evaluations:
        return []
    result = next(iter(evaluations.values()))
    names = [name for name in result.metrics if _SHOWN.fullmatch(name)]
    cells = {
        name: [
            f"{one.metrics[name].value:.4g} [{one.metrics[name].low:.4g}, {one.metrics[name].high:.4g}]"
            if name in one.metrics
            else "-"
            for one in evaluations.values()
        ]
        for name in names
    }
    return [
        "## Evaluation",
        "",
        f"| metric | {' | '.join(f'{when} training' for when in evaluations)} |",
        f"|---|{'---|' * len(evaluations)}",
        *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items()),
        "",
        f"`{result.task}`, split `{result.split}`: n = {result.num_problems} problems, k = {result.num_samples} "
        f"completions each of at most {result.max_completion_length} tokens, temperature {result.temperature:g}, top-p "
        f"{result.top_p:g}, graded by `{result.grader}`. mean@1 is over all completions. Intervals: 95 %, bootstrap "
        "over problems.",
        "",
    ]


def _versions() -> list[str]:
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return found
