"""Whether hidden states should be standardised before they are lifted: saturation, conditioning and residuals.

python benchmarks/standardization.py models/smollm2 docs/*.md

Hidden states of each text (its first 256 tokens, without the first, whose state is an outlier of its own) at a layer in
the middle and after the final norm, lifted by the random start of a dictionary of 50 observables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from relax_rl.koopman import KoopmanDictionary
from relax_rl.koopman.dictionaries.fit import lift_batch, residual_loss

NUM_OBSERVABLES = 50


@torch.no_grad()
def hidden_states(model_path: str, texts: list[str]) -> dict[str, list[Tensor]]:
    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval().base_model
    sites: dict[str, list[Tensor]] = {"middle layer": [], "final norm": []}
    for text in texts:
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=256).input_ids
        layers = model(ids, output_hidden_states=True).hidden_states
        sites["middle layer"].append(layers[len(layers) // 2][0, 1:])
        sites["final norm"].append(layers[-1][0, 1:])
    return sites


def print_site(name: str, trajectories: list[Tensor]) -> None:
    states = torch.cat(trajectories)
    mean, deviation, size = states.mean(0), states.std(0), states.square().mean(0).sqrt()
    generator = torch.Generator().manual_seed(0)
    weight = (torch.rand((states.shape[1], NUM_OBSERVABLES), generator=generator) * 2 - 1) * states.shape[1] ** -0.5
    print(f"\n{name}: {len(states)} states, largest channel {size.max() / size.median():.0f} times the median one")
    print("| states | saturated | cond(X) | cond of correlations | mean squared residual |\n|---|---|---|---|---|")
    for kind, (centre, scale) in {
        "as they are": (torch.zeros_like(mean), torch.ones_like(mean)),
        "by root mean square": (torch.zeros_like(mean), size),
        "by mean and deviation": (mean, deviation),
    }.items():
        dictionary = KoopmanDictionary(weight)
        batch = lift_batch([(trajectory - centre) / scale for trajectory in trajectories], dictionary)
        lifted = batch.first.double()
        saturated = ((lifted < 0.02) | (lifted > 0.98)).double().mean()
        centred = lifted - lifted.mean(0)
        conditions = [torch.linalg.cond(x) for x in (lifted, centred / centred.norm(dim=0))]
        residual = float(residual_loss(batch, "relative_residual"))
        print(f"| {kind} | {saturated:.1%} | {conditions[0]:.0f} | {conditions[1]:.1f} | {residual:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", type=Path)
    arguments = parser.parse_args()
    sites = hidden_states(arguments.model, [path.read_text(encoding="utf-8") for path in arguments.texts])
    for name, trajectories in sites.items():
        print_site(name, trajectories)
    report = KoopmanDictionary.fit(sites["final norm"], steps=200, learning_rate=1e-2).report
    assert report is not None
    print(
        f"\nfitted on the final norm: residual {report.relative_residual_before:.2f} -> "
        f"{report.relative_residual_after:.2f} on all, {report.validation_before:.2f} -> "
        f"{report.validation_after:.2f} on {report.num_validation} texts held out, best step {report.best_step}"
    )


if __name__ == "__main__":
    main()
