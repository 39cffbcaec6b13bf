"""Dispersion: how fast ours is, and which robust estimator to keep.

python benchmarks/suite.py --only dispersion   forward and backward against a loop, and against raw torch
python benchmarks/dispersion.py                the tables of docs/research/robust-dispersion.md
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from typing import get_args

import torch
from torch import Tensor

from frame.rows import Effort, Row, row_of_times
from frame.timing import in_turn
from relax_rl.koopman import (
    Dispersion,
    Estimator,
    KoopmanDictionary,
    dispersion_from_lifted,
    dmd,
    dynamic_spectral_dispersion,
    snapshot_pairs,
    subspace_dmd,
)
from relax_rl.koopman.dispersion.controls import held_out_heterogeneity
from relax_rl.koopman.dispersion.estimators import ROBUST_WINDOW, Precision, dispersion_from_gram
from relax_rl.koopman.linalg.eigensolvers import eig, eigh
from relax_rl.koopman.pairs.snapshots import gram_statistics
from relax_rl.koopman.spectra.eigenpairs import eigenvalue_moduli

Candidate = Callable[[Tensor], Tensor]
"""Lifted states (B, T, F) -> dispersion (B,)."""

TARGETS: dict[Estimator, float] = {"paper": 1 / 6, "singular": 1 / 6, "robust": 1 / 4}
"""Of the loop's time, from lifted states."""
EIGENPROBLEMS: dict[Estimator, str] = {
    "paper": "the eigenvectors of one matrix a trajectory",
    "singular": "the singular values of one matrix a trajectory",
    "robust": "for each window the directions of its 33 snapshots and the eigenvectors of an 8 x 8 operator",
}
LOOP = "a loop of pinv and eigvals"


# --- speed ---------------------------------------------------------------------------------------------------------


def rows(effort: Effort) -> Iterator[Row]:
    """Forward and backward: against what one would write at first, and of a large batch against raw torch."""
    yield from rows_of_loop(effort)
    yield from rows_of_large_batch(effort)
    yield from rows_of_instruments(effort)


def printed_formula(lifted: Tensor) -> Tensor:
    """Lifted states (T, F) -> the printed dispersion, as one writes it down."""
    moduli = torch.linalg.eigvals(torch.linalg.pinv(lifted[:-1]) @ lifted[1:]).abs()
    return moduli.var(correction=0)


def rows_of_loop(effort: Effort, size: tuple[int, int, int, int] = (32, 1024, 576, 50)) -> Iterator[Row]:
    """The whole from hidden states, with the lift that the loop has too, and the rest from lifted states."""
    B, T, H, F = size
    generator = torch.Generator().manual_seed(0)
    states = torch.randn((B, T, H), generator=generator)
    for step in range(1, T):
        states[:, step] = 0.9 * states[:, step - 1] + 0.44 * states[:, step]
    mask = torch.ones((B, T), dtype=torch.bool)
    dictionary = KoopmanDictionary((torch.rand((H, F), generator=generator) * 2 - 1) * H**-0.5)
    lifted = dictionary(states).detach().double()
    whole: dict[str, Candidate] = {
        "loop": lambda x: torch.stack([printed_formula(dictionary(row).double()) for row in x])
    }
    spectral: dict[str, Candidate] = {"loop": lambda x: torch.stack([printed_formula(row) for row in x])}
    for name in TARGETS:
        whole[name] = lambda x, name=name: dynamic_spectral_dispersion(x, mask, dictionary, name).values
        spectral[name] = lambda x, name=name: dispersion_from_lifted(x, mask, name).values
    sides = {name: _both_ways(method, lifted) for name, method in spectral.items()}
    times = in_turn(sides | eigenproblems(lifted), effort.rounds)
    for name, target in TARGETS.items():
        alone = times[f"eigenproblems of {name}"].median
        bound = f"its eigenproblems alone, without a gradient, take {1e3 * alone:.0f} ms: {EIGENPROBLEMS[name]}"
        title = f"{name}, from lifted states {B} x {T} x {F}"
        floor = alone / times["loop"].median
        yield row_of_times(title, times[name], times["loop"], LOOP, target=target, bound=bound, floor=floor)
    if effort.is_quick:
        return
    times = in_turn({name: _both_ways(method, states) for name, method in whole.items()}, effort.rounds)
    for name in TARGETS:
        yield row_of_times(f"{name}, from hidden states, H = {H}", times[name], times["loop"], f"{LOOP}, with the lift")


def _both_ways(method: Candidate, states: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
    def run() -> tuple[Tensor, Tensor]:
        leaf = states.clone().requires_grad_()
        values = method(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), gradient

    return run


def eigenproblems(lifted: Tensor) -> dict[str, Callable[[], object]]:
    """What of each estimator is LAPACK's, by `EIGENPROBLEMS`, on matrices like its own."""
    x = lifted[:, :-1]
    square = torch.linalg.solve(x.mT @ x, x.mT @ lifted[:, 1:])
    windows = lifted.unfold(1, ROBUST_WINDOW + 1, ROBUST_WINDOW // 2).flatten(0, 1)  # (windows, F, snapshots)
    centred = windows - windows.mean(-1, keepdim=True)
    gram = centred.mT @ centred
    reduced = torch.linalg.qr(gram[:, :, :8]).Q.mT @ gram[:, :, -8:]
    return {
        "eigenproblems of paper": lambda: eig(square),
        "eigenproblems of singular": lambda: torch.linalg.svdvals(square),
        "eigenproblems of robust": lambda: (eigh(gram), eig(reduced)),
    }


def rows_of_large_batch(effort: Effort, size: tuple[int, int, int] = (512, 64, 50)) -> Iterator[Row]:
    """Dispersion of many F x F problems from their Gram statistics, against the same formula in plain torch."""
    B, T, F = size
    hard = linear_system(0.3, T, B, seed=0, H=F).sigmoid()
    # Ten snapshots an observable and no constant: eigenvalues of a condition that single precision can take.
    easy = linear_system(0.3, 10 * F, B, seed=0, H=F)
    bound = "with the residual and the largest modulus of every trajectory, which the formula alone does not have"
    title = f"paper, {B} x {F} x {F}"
    yield row_of_precision(effort, hard, "double", title, bound)
    yield row_of_precision(effort, easy, "single", f"{title}, in single precision", bound)


def row_of_precision(effort: Effort, states: Tensor, precision: Precision, title: str, bound: str) -> Row:
    """One precision against raw torch in its dtype."""
    sums = gram_statistics(states, snapshot_pairs(torch.ones(states.shape[:2], dtype=torch.bool)))
    dtype = torch.float64 if precision == "double" else torch.float32

    def ours(wanted: Precision = precision) -> Dispersion:
        gram, cross = (x.clone().requires_grad_() for x in (sums.gram, sums.cross))
        found = dispersion_from_gram(replace(sums, gram=gram, cross=cross), precision=wanted)
        found.values.sum().backward()
        return found

    def raw() -> None:
        gram, cross = (x.to(dtype, copy=True).requires_grad_() for x in (sums.gram, sums.cross))
        torch.linalg.eigvals(torch.linalg.solve(gram, cross)).abs().var(-1, correction=0).sum().backward()

    times = in_turn({"ours": ours, "raw": raw}, effort.rounds)
    note = ""
    if precision == "single":
        found, exact = ours(), ours("double")
        assert found.error_bound is not None
        wrong = float((found.values - exact.values).detach().abs().max())
        in_double = float((found.error_bound == 0).double().mean())
        stated = f"bound {float(found.error_bound.max()):.0e}"
        note = f"off by {wrong:.0e} at most, {stated}; {100 * in_double:.0f} % solved in double"
    against = f"solve, eigvals and var in torch, {str(dtype).removeprefix('torch.')}"
    return row_of_times(title, times["ours"], times["raw"], against, target=1.1, bound=bound, note=note)


def rows_of_instruments(effort: Effort, size: tuple[int, int, int] = (16, 1000, 50)) -> Iterator[Row]:
    """Estimators of dynamics that are driven and seen with noise, against plain DMD of the same snapshots and rank."""
    B, T, F = size
    batch = list(linear_system(0.3, T, B, seed=1, H=F))
    sides: dict[str, Callable[[], object]] = {
        "plain": lambda: [dmd(states, rank=8) for states in batch],
        "instrumental": lambda: [dmd(states, rank=8, variant="instrumental") for states in batch],
        "subspace": lambda: [subspace_dmd(states, rank=8) for states in batch],
    }
    times = in_turn(sides, effort.rounds)
    for name in ("instrumental", "subspace"):
        title = f"{name} DMD, {B} x {T} x {F}, rank 8"
        yield row_of_times(title, times[name], times["plain"], "plain DMD, rank 8", target=2.0)


# --- synthetic systems ---------------------------------------------------------------------------------------------


def linear_system(spread: float, T: int, B: int, seed: int, H: int = 16, equal_noise: bool = False) -> Tensor:
    """Stationary (B, T, H): half the modes of modulus 0.5 - spread, half 0.5 + spread, so Var|lambda| = spread^2.

    A quarter of the modes of each half rotate. Modes have equal variance, or equal noise (then slow ones are larger).
    """
    generator = torch.Generator().manual_seed(seed)
    moduli = torch.tensor([0.5 - spread] * (H // 2) + [0.5 + spread] * (H // 2), dtype=torch.float64)
    matrix = torch.diag(moduli)
    for i in [*range(0, H // 4, 2), *range(H // 2, H // 2 + H // 4, 2)]:
        c, s = torch.cos(torch.tensor(0.7)) * moduli[i], torch.sin(torch.tensor(0.7)) * moduli[i]
        matrix[i : i + 2, i : i + 2] = torch.tensor([[c, s], [-s, c]])
    noise = torch.ones(H, dtype=torch.float64) if equal_noise else (1 - moduli**2).sqrt()
    state = torch.randn((B, H), generator=generator, dtype=torch.float64) * noise / (1 - moduli**2).sqrt()
    states = []
    for _ in range(T):
        states.append(state)
        state = state @ matrix + torch.randn((B, H), generator=generator, dtype=torch.float64) * noise
    mixing = torch.randn((H, H), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    return torch.stack(states, 1) @ torch.linalg.qr(mixing).Q


def lift(states: Tensor, F: int) -> Tensor:
    """A random sigmoid dictionary, in float64."""
    H = states.shape[-1]
    weight = torch.rand((H, F), generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 2 - 1
    return torch.sigmoid(states @ (weight * H**-0.5))


# --- candidates ----------------------------------------------------------------------------------------------------


def _moments(lifted: Tensor, center: bool) -> tuple[Tensor, Tensor, Tensor]:
    x, y = lifted[..., :-1, :], lifted[..., 1:, :]
    if center:
        mean = 0.5 * (x.mean(-2, keepdim=True) + y.mean(-2, keepdim=True))
        x, y = x - mean, y - mean
    return x.mT @ x, x.mT @ y, y.mT @ y


def _variance_of_moduli(matrix: Tensor) -> Tensor:
    return eigenvalue_moduli(matrix).values.clamp(max=1.0).var(-1, correction=0)


def relative_ridge(lifted: Tensor, ridge: float = 1e-2) -> Tensor:
    """Whole trajectory, ridge relative to the mean diagonal of G, moduli clipped at 1."""
    gram, cross, _ = _moments(lifted, center=False)
    scale = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None]
    return _variance_of_moduli(torch.linalg.solve(gram + ridge * scale * torch.eye(gram.shape[-1]).double(), cross))


def surrogate_null(lifted: Tensor, draws: int = 4) -> Tensor:
    """Relative ridge less its mean over time-permuted snapshots."""
    generator = torch.Generator().manual_seed(3)
    orders = [torch.randperm(lifted.shape[1], generator=generator) for _ in range(draws)]
    null = torch.stack([relative_ridge(lifted[:, order], 1e-3) for order in orders]).mean(0)
    return relative_ridge(lifted, 1e-3) - null


def residual_pruning(lifted: Tensor) -> Tensor:
    """Whole trajectory, the half of the eigenpairs with the smaller ResDMD residuals, moduli clipped at 1."""
    gram, cross, future = _moments(lifted, center=False)
    matrix = torch.linalg.solve(gram, cross)
    values, vectors = torch.linalg.eig(matrix.detach())

    def form(m: Tensor) -> Tensor:
        return (vectors.conj() * (m.detach().to(vectors.dtype) @ vectors)).sum(-2)

    squared = form(future).real - 2 * (values.conj() * form(cross)).real + values.abs() ** 2 * form(gram).real
    kept = (squared / form(gram).real).argsort(-1)[..., : matrix.shape[-1] // 2]
    return eigenvalue_moduli(matrix).values.gather(-1, kept).clamp(max=1.0).var(-1, correction=0)


def _whitened(lifted: Tensor, rank: int) -> Tensor:
    gram, cross, future = _moments(lifted, center=True)
    symmetric = 0.5 * (gram + future)
    basis = torch.linalg.eigh(symmetric.detach()).eigenvectors[..., -rank:]
    return torch.linalg.solve(basis.mT @ symmetric @ basis, basis.mT @ cross @ basis)


def whitened_shrunk(lifted: Tensor, rank: int = 8) -> Tensor:
    """Whole trajectory, time-symmetric whitening at rank 8, noise radius sqrt(R / N) taken off."""
    radius = (rank / (lifted.shape[1] - 1)) ** 0.5
    moduli = eigenvalue_moduli(_whitened(lifted, rank)).values
    return ((moduli - radius).clamp_min(0) / (1 - radius)).var(-1, correction=0)


def _product(estimator: str, **options: int) -> Candidate:
    def candidate(lifted: Tensor) -> Tensor:
        mask = torch.ones(lifted.shape[:2], dtype=torch.bool)
        return dispersion_from_lifted(lifted, mask, estimator, **options).values  # type: ignore[arg-type]

    return candidate


CANDIDATES: dict[str, Candidate] = {
    "paper": _product("paper"),
    "singular": _product("singular"),
    "relative ridge, clipped": relative_ridge,
    "residual pruning": residual_pruning,
    "surrogate null": surrogate_null,
    "whitened, shrunk by N": whitened_shrunk,
    "held-out modes, windows": held_out_heterogeneity,
    "robust (kept), 32 pairs": _product("robust"),
    "robust, 48 pairs": _product("robust", window=48),
    "instrumental": _product("instrumental"),
}


# --- tables --------------------------------------------------------------------------------------------------------


def print_lengths(B: int = 96) -> None:
    """(a) Mean of the same stationary process at several lengths."""
    settings = [(16, False), (16, True), (50, False)]
    print("\n(a) length: mean at T = 64, 256, 1024, and largest / smallest")
    print("| estimator | " + " | ".join(f"F={F}, equal {'noise' if e else 'variance'}" for F, e in settings) + " |")
    print("|---|" + "---|" * len(settings))
    for name, candidate in CANDIDATES.items():
        cells = []
        for F, equal_noise in settings:
            means = [
                candidate(lift(linear_system(0.3, T, B, seed=T, equal_noise=equal_noise), F)).mean().item()
                for T in (64, 256, 1024)
            ]
            cells.append(f"{means[0]:.4g} {means[1]:.4g} {means[2]:.4g} (x{max(means) / min(means):.2f})")
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_order(B: int = 96) -> None:
    """(d) Known heterogeneity: the mean at each spread, and how often a pair of trajectories is in the right order."""
    spreads = (0.0, 0.15, 0.3, 0.45)
    print("\n(d) order at T = 64: mean at Var|lambda| = " + ", ".join(f"{s * s:.4f}" for s in spreads))
    print("and share of pairs of single trajectories of neighbouring systems in the right order")
    print("| estimator | F=16 | F=16 order | F=50 | F=50 order |\n|---|---|---|---|---|")
    for name, candidate in CANDIDATES.items():
        cells = []
        for F in (16, 50):
            values = [candidate(lift(linear_system(s, 64, B, seed=i), F)) for i, s in enumerate(spreads)]
            right = [(b[:, None] > a[None]).double().mean().item() for a, b in pairwise(values)]
            cells += [" ".join(f"{v.mean():.3g}" for v in values), " ".join(f"{r:.2f}" for r in right)]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_noise(B: int = 48) -> None:
    """(b) Noise of measurement: mean and deviation of single trajectories, true Var|lambda| 0.09, no lift."""
    print("\n(b) noise of measurement of 0, 0.5 and 1 times the state's deviation, 4 modes, true Var|lambda| 0.09")
    print("| T | estimator | none | 0.5 | 1 |\n|---|---|---|---|---|")
    for T in (64, 256, 1024, 4096):
        mask = torch.ones((B, T), dtype=torch.bool)
        for name in get_args(Estimator):
            cells = []
            for size in (0.0, 0.5, 1.0):
                states = linear_system(0.3, T, B, seed=T, H=4)
                generator = torch.Generator().manual_seed(T + 1)
                states = states + size * torch.randn(states.shape, generator=generator, dtype=torch.float64)
                found = dispersion_from_lifted(states, mask, name)
                values = found.values[found.is_defined]
                share = "" if found.defined_share == 1 else f" ({100 * found.defined_share:.0f} % defined)"
                cells.append(f"{values.mean():.4f} ± {values.std():.4f}{share}" if len(values) > 1 else "undefined")
            print(f"| {T} | {name} | " + " | ".join(cells) + " |")


def print_ascent(steps: int, B: int = 8, T: int = 64, F: int = 16) -> None:
    """(c) Adam on the states themselves, and on an observation map that leaves the true spectrum as it is."""
    print(
        f"\n(c) {steps} steps of gradient ascent, T = {T}, F = {F}: the value, and what the held-out modes then show;"
    )
    print(
        "    on every state freely, and on a linear map of the states under fresh noise (true Var|lambda| stays 0.01)"
    )
    print("| estimator | states: value | states: held-out | map: value | map: held-out |\n|---|---|---|---|---|")
    for name, candidate in CANDIDATES.items():
        cells = []
        for kind in ("states", "map"):
            start = linear_system(0.1, T, B, seed=2)
            parameter = (start.clone() if kind == "states" else torch.eye(16).double()).requires_grad_()
            optimizer = torch.optim.Adam([parameter], lr=0.02)

            def lifted(seed: int, parameter: Tensor = parameter, kind: str = kind) -> Tensor:
                states = parameter if kind == "states" else linear_system(0.1, T, B, seed=seed) @ parameter
                return lift(states, F)

            def measure(
                lifted: Callable[[int], Tensor] = lifted, candidate: Candidate = candidate
            ) -> tuple[float, float]:
                with torch.no_grad():
                    samples = [lifted(seed) for seed in range(10_000, 10_008)]
                    mean = torch.stack([candidate(sample).mean() for sample in samples]).mean()
                    return float(mean), float(
                        torch.stack([held_out_heterogeneity(sample).mean() for sample in samples]).mean()
                    )

            before = measure()
            for step in range(steps):
                optimizer.zero_grad()
                (-candidate(lifted(100 + step)).mean()).backward()
                optimizer.step()
            after = measure()
            cells += [f"{before[i]:.3g} -> {after[i]:.3g}" for i in (0, 1)]
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="steps of gradient ascent")
    parser.add_argument("--only", choices=CANDIDATES, help="one candidate of (a), (c), (d), and no table (b)")
    arguments = parser.parse_args()
    if arguments.only is not None:
        for name in CANDIDATES.keys() - {arguments.only}:
            del CANDIDATES[name]
    print_lengths()
    if arguments.only is None:
        print_noise()
    print_order()
    print_ascent(arguments.steps)


if __name__ == "__main__":
    main()
