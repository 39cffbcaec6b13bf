"""Peak memory of ReLaX's terms: from lifted states (F columns) against from hidden ones (H columns).

python benchmarks/suite.py --only terms

Forward and backward of the objective on 8 completions of 4096 tokens at the width of a 7B model, in bfloat16 as a
forward gives the states. Not counted is what a training step holds anyway: the states and the log-probabilities, the
gradients in them, and what GRPO alone takes on the same log-probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from frame.rows import Effort, Row
from frame.timing import stream_apart
from growth import peak_of, returning_allocator

B, T, H, F = 8, 4096, 3584, 50


def rows(effort: Effort) -> Iterator[Row]:
    """One row: the terms' own memory, after against before."""
    if effort.is_quick:
        return
    with returning_allocator():
        found = dict(stream_apart(measured, limit=600.0))
    with_gradient = {name: found[name] - found["grpo"] for name in ("hidden", "lifted")}
    # MiB of the gradient in the states, which the head of the model has as well, or passes on.
    before, after = with_gradient["hidden"] - B * T * H * 2 / 2**20, with_gradient["lifted"] - B * T * F * 4 / 2**20
    yield Row(
        name=f"ReLaX's terms, B = {B}, T = {T}, H = {H}: memory",
        ratio=after / before,
        against="the same terms from hidden states",
        ours=after,
        theirs=before,
        unit="MiB",
        target=0.01,
        note=f"F = {F}; with the gradient in the states {with_gradient['hidden']:.3g} and "
        f"{with_gradient['lifted']:.3g} MiB, a factor of {with_gradient['hidden'] / with_gradient['lifted']:.0f}",
    )


def measured() -> Iterator[tuple[str, float]]:
    """MiB at the peak of GRPO and of ReLaX on hidden and on lifted states."""
    from relax_rl.koopman import KoopmanDictionary
    from relax_rl.objectives import RolloutBatch, build_objective

    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    log_probs = -torch.rand((1, B, T), generator=generator)
    rewards = (torch.arange(B) % 2).float().unsqueeze(0)
    bare = RolloutBatch(log_probs, log_probs.clone(), torch.ones((1, B, T), dtype=torch.bool), rewards, log_probs)
    dictionary = KoopmanDictionary((torch.rand((H, F), generator=generator) * 2 - 1) * H**-0.5)
    relax = build_objective("relax", xi=1.0, dictionary=dictionary)
    assert relax.probe is not None
    states = torch.empty((1, B, T, H), dtype=torch.bfloat16)
    for place in range(B):  # one at a time: a float32 copy of all would be in the peak
        states[0, place] = torch.randn((T, H), generator=generator).bfloat16()
    with torch.no_grad():
        lifted = torch.stack([relax.probe.lifted_columns(states[0, place]) for place in range(B)]).unsqueeze(0)
    objectives = {"grpo": build_objective("grpo", beta=0.01), "lifted": relax, "hidden": relax}
    given = {"grpo": {}, "lifted": {"lifted_states": lifted}, "hidden": {"hidden_states": states}}
    for name, objective in objectives.items():
        leaves = {key: tensor.detach().requires_grad_() for key, tensor in given[name].items()}
        batch = replace(bare, log_probs=log_probs.detach().requires_grad_(), **leaves)

        def work(batch: RolloutBatch = batch, objective=objective, leaves=leaves) -> None:
            torch.autograd.grad(objective(batch).loss, [batch.log_probs, *leaves.values()])

        if name != "hidden":
            work()  # what is made once, such as buffers of libraries
        yield name, peak_of(work)
