"""What capture adds to a forward pass: states at some sites and at all, and measuring them instead of keeping them.

python benchmarks/capture.py                    a random model of SmolLM2-135M's shape; processor time, one thread
python benchmarks/capture.py --tokens 512 --repeats 7

Targets: capture at most 3 % of the forward, statistics-only at most 5 %. The forward is that of the model without its
head, which makes the shares larger than they are of a whole forward. Statistics-only lifts the states, sums their Gram
matrices, measures the spectrum of every text, and writes both to a store. Every variant runs once a round, in an order
that moves on by one each round; its share is the median over rounds of its time over the bare forward's of the same
round. Processor time, so that other processes on the machine count little.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from relax_rl.koopman import KoopmanDictionary
from relax_rl.latent.sites import FINAL_NORM
from relax_rl.latent.store import LatentStore
from relax_rl.latent.trajectories import capture_inputs
from relax_rl.spectra.measure import LatentText, latent_spectra
from relax_rl.spectra.rulers import SpectrumSettings


def random_model(width: int = 576, layers: int = 30) -> LlamaForCausalLM:
    """SmolLM2-135M's shape with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=width,
        intermediate_size=width * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        num_key_value_heads=max(1, width // 192),
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).eval()


def variants(model: LlamaForCausalLM, ids: Tensor, folder: Path) -> dict[str, Callable[[], object]]:
    """What is timed; the first is the bare forward."""
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    texts = [LatentText(f"text-{row}", tuple(tokens), 1) for row, tokens in enumerate(ids.tolist())]
    generator = torch.Generator().manual_seed(0)
    width = model.config.hidden_size
    dictionary = KoopmanDictionary((torch.rand((width, 50), generator=generator) * 2 - 1) * width**-0.5)
    settings = SpectrumSettings(sites=(FINAL_NORM,), estimators=("paper",), num_paths=0)
    calls = iter(range(10**6))

    @torch.no_grad()
    def forward() -> object:
        return model.model(**inputs, use_cache=False)

    def statistics_only() -> object:
        store = LatentStore.create(folder / str(next(calls)), {})
        return latent_spectra(
            model, texts, settings, dictionaries={FINAL_NORM: dictionary}, store=store, keep_statistics_only=True
        )

    return {
        "forward": forward,
        "capture, final norm": lambda: capture_inputs(model, inputs, [FINAL_NORM]),
        "capture, all 32 sites": lambda: capture_inputs(model, inputs, ["all"]),
        "statistics only, final norm": statistics_only,
    }


def measure(repeats: int, batch: int, tokens: int) -> None:
    """Print the share of the forward that each variant adds."""
    model = random_model()
    ids = torch.randint(5, 49152, (batch, tokens), generator=torch.Generator().manual_seed(1))
    shares: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        methods = variants(model, ids, Path(folder))
        for method in methods.values():
            method()
        seconds: dict[str, list[float]] = {name: [] for name in methods}
        names = list(methods)
        for round_ in range(repeats):
            for name in names[round_ % len(names) :] + names[: round_ % len(names)]:
                start = time.process_time()
                methods[name]()
                seconds[name].append(time.process_time() - start)
    shares = {
        name: [t / base - 1 for t, base in zip(times, seconds["forward"], strict=True)]
        for name, times in seconds.items()
    }
    print(f"B={batch} T={tokens} H={model.config.hidden_size}, {torch.get_num_threads()} threads, {repeats} rounds")
    for name, found in shares.items():
        median, fastest = statistics.median(seconds[name]), min(seconds[name]) / min(seconds["forward"]) - 1
        print(
            f"  {name:28s} {median:7.3f} s   adds {100 * statistics.median(found):+5.1f} % (median of rounds), "
            f"{100 * fastest:+5.1f} % (fastest against fastest)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measure(arguments.repeats, arguments.batch, arguments.tokens)


if __name__ == "__main__":
    main()
