"""What capture adds to a forward pass: states at some sites and at all, and measuring them instead of keeping them.

python benchmarks/suite.py --only capture

The forward is that of a random model of SmolLM2-135M's shape without its head, which makes the shares larger than they
are of a whole forward. Statistics-only lifts the states, sums their Gram matrices, measures the spectrum of every text,
and writes both to a store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from relax_rl.koopman import KoopmanDictionary
from relax_rl.koopman.linalg.eigensolvers import eig
from relax_rl.koopman.operators.fits import least_squares_operator
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.latent.sites import FINAL_NORM
from relax_rl.latent.store import LatentStore
from relax_rl.latent.trajectories import capture_inputs
from relax_rl.spectra.measure import LatentText, latent_spectra
from relax_rl.spectra.rulers import SpectrumSettings

TARGETS = {"states of the final norm": 1.03, "states of all 32 sites": 1.03, "statistics only, final norm": 1.05}
FLOORS = {
    "states of the final norm": ("plain hook", "a plain hook of torch that keeps the output of the final norm"),
    "states of all 32 sites": ("plain hooks", "plain hooks of torch that keep the output of every layer"),
    "statistics only, final norm": ("sums", "such a hook, the lift, the pair sums and the eigenvectors of every text"),
}
"""The least that each must do: the side that does it, and what that is."""


def random_model(width: int = 576, layers: int = 30, seed: int = 0) -> LlamaForCausalLM:
    """SmolLM2-135M's shape with random weights."""
    torch.manual_seed(seed)
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

    def kept(modules: Iterable[torch.nn.Module]) -> list[Tensor]:
        """Outputs of some modules in a forward, last one last."""
        found: list[Tensor] = []

        def keep(module: torch.nn.Module, given: object, output: Tensor) -> None:
            found.append(output)

        hooks = [module.register_forward_hook(keep) for module in modules]
        forward()
        for hook in hooks:
            hook.remove()
        return found

    @torch.no_grad()
    def sums() -> object:
        lifted = dictionary(kept([model.model.norm])[-1])
        pairs = torch.ones(lifted.shape[0], lifted.shape[1] - 1, dtype=torch.bool)
        return eig(least_squares_operator(gram_statistics(lifted, pairs)).matrix)

    def statistics_only() -> object:
        store = LatentStore.create(folder / str(next(calls)), {})
        return latent_spectra(
            model, texts, settings, dictionaries={FINAL_NORM: dictionary}, store=store, keep_statistics_only=True
        )

    return {
        "forward": forward,
        "plain hook": lambda: kept([model.model.norm]),
        "plain hooks": lambda: kept([*model.model.layers, model.model.norm]),
        "sums": sums,
        "states of the final norm": lambda: capture_inputs(model, inputs, [FINAL_NORM]),
        "states of all 32 sites": lambda: capture_inputs(model, inputs, ["all"]),
        "statistics only, final norm": statistics_only,
    }


def rows(effort: Effort, batch: int = 8, tokens: int = 256) -> Iterator[Row]:
    """The forward with each way of capture over the bare forward."""
    model = random_model()
    ids = torch.randint(5, 49152, (batch, tokens), generator=torch.Generator().manual_seed(1))
    with tempfile.TemporaryDirectory() as folder:
        times = in_turn(variants(model, ids, Path(folder)), effort.rounds)
    against = f"the bare forward of {batch} x {tokens} tokens"
    for name, target in TARGETS.items():
        side, what = FLOORS[name]
        floor = row_of_times(side, times[side], times["forward"], against).ratio
        bound = f"{what} takes {floor:.3f} of the forward in the same rounds"
        yield row_of_times(name, times[name], times["forward"], against, target=target, bound=bound, floor=floor)
