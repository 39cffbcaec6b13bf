"""The contract of a model: everything that training and evaluation rely on, before they run.

relax model tiny
relax model HuggingFaceTB/SmolLM2-135M-Instruct --json
relax model ./my-checkpoint --headers-only
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from relax_rl.cli.arguments import add_remote_code, refuse_settings

if TYPE_CHECKING:
    from relax_rl.latent.contract import ModelContract

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The model, and how to print it."""
    parser.add_argument("model", metavar="MODEL", help="'tiny', 'figures', 'smollm2', a Hugging Face name or a folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--headers-only", action="store_true", help="do not look for NaN in the values of the weights")
    parser.add_argument("--revision", help="revision of a Hugging Face model")
    add_remote_code(parser)


def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Print the contract; exit code 2 where training or evaluation would refuse the model."""
    refuse_settings(settings, "model")

    from relax_rl.workflows.model import read_model

    contract = read_model(arguments.model, arguments.revision, values=not arguments.headers_only)
    if arguments.json:
        print(json.dumps(contract.to_dict(), indent=2, ensure_ascii=False))
    else:
        for name, fact in _facts(contract):
            print(f"{name:14} {fact}")
    for problem in contract.problems:
        print(f"relax: error: {problem}", file=sys.stderr)
    return 2 if contract.problems else 0


def _facts(contract: ModelContract) -> Iterator[tuple[str, str]]:
    kind = contract.architecture
    yield "model", contract.name
    yield "class", f"{kind.model_class} ({kind.model_type}), {kind.modality}"
    if contract.adapter is not None:
        yield "adapter", f"{contract.adapter.kind} on {contract.adapter.base}"
    yield (
        "size",
        (
            f"{kind.num_parameters:,} parameters, {kind.num_layers} layers of width {kind.hidden_size}, vocabulary of "
            f"{kind.vocabulary:,}"
        ),
    )
    yield "backbone", f"{kind.backbone}, final norm {kind.final_norm or 'none'}"
    yield "head", f"{kind.head}, {'tied to the embedding' if kind.is_tied else 'a weight of its own'}"
    yield "cache", kind.cache
    yield "context", "no limit" if kind.context is None else f"{kind.context:,} tokens for prompt and completion"
    yield "soft caps", _table(kind.soft_caps)
    yield "dropout", f"{_table(kind.dropout)}, off in training unless asked for" if kind.dropout else "none"
    yield "quantisation", kind.quantization or "none"
    yield from _words(contract)
    yield "weights", _weights(contract)
    for note in contract.notes:
        yield "note", note


def _words(contract: ModelContract) -> Iterator[tuple[str, str]]:
    """How it reads and writes text."""
    tokens, template, words = contract.tokens, contract.template, dict(contract.tokens.names)

    def named(token: int | None) -> str:
        return "none" if token is None else f"{words[token]} ({token})"

    yield "stop tokens", ", ".join(named(token) for token in tokens.stop) or "none"
    yield "pad token", named(tokens.pad)
    if not template.exists:
        yield "template", "none: prompts are plain text"
        return
    turn_end = "no special token" if template.turn_end is None else named(template.turn_end)
    takes = "takes a system message" if template.takes_system else "takes no system message"
    yield "template", f"{takes}, a turn ends with {turn_end}"
    yield (
        "thought",
        f"opened by the prompt ({template.opens.strip()})" if template.opens else "not opened by the prompt",
    )
    yield "switches", ", ".join(template.switches) or "none"


def _weights(contract: ModelContract) -> str:
    weights = contract.weights
    if weights is None:
        return "not readable"
    if not weights.files:
        return "not in the local cache; checked when they are loaded"
    first = weights.files[0] if len(weights.files) == 1 else f"{len(weights.files)} files"
    types = ", ".join(f"{count} tensors of {name}" for name, count in (weights.dtypes or {}).items())
    return f"{first} ({weights.num_bytes / 2**20:,.1f} MiB){': ' + types if types else ''}"


def _table(numbers: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in numbers.items()) or "none"
