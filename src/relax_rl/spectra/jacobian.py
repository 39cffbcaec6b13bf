"""Spectra without a fit of a language model, beside the fitted spectra of the same states.

Finite-time Lyapunov exponents of the final state from token to token, and the leading singular values and eigenvalues
of single Jacobians (:mod:`relax_rl.latent.jacobian`). They are the oracle of a fitted spectrum only where the map that
was fitted is that of the Jacobian; docs/research/oracle.md shows where both agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from relax_rl.errors import ConfigError, DataError
from relax_rl.koopman import dmd
from relax_rl.koopman.spectra.lyapunov import exponents_of_products, leading_eigenvalues, leading_singular_values
from relax_rl.latent.jacobian import TokenJacobian, token_jacobians
from relax_rl.latent.sites import FINAL_NORM
from relax_rl.latent.trajectories import capture_sequences
from relax_rl.spectra.reading import LatentText
from relax_rl.statistics.intervals import Estimate, bootstrap_mean

__all__ = ["JacobianSettings", "JacobianSpectrum", "TokenSpectrum", "jacobian_spectrum"]

_VARIANTS = ("least_squares", "instrumental")


@dataclass(frozen=True)
class JacobianSettings:
    """How much is measured.

    Attributes:
        count: exponents, singular values and eigenvalues.
        max_tokens: most tokens of each text, from its start on.
        num_points: tokens of each text at which singular values and eigenvalues are taken, evenly spread.
        iterations: steps of their subspace iterations.
        warm_up: first tokens of each text, in which the frame finds its directions.
        temperature: temperature of the next token's distribution.
        rank: directions of the fitted operators; they are pooled over the same tokens.
        seed: seed of the frames.
    """

    count: int = 4
    max_tokens: int = 48
    num_points: int = 2
    iterations: int = 20
    warm_up: int = 4
    temperature: float = 1.0
    rank: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("count", "max_tokens", "iterations", "rank"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} = {getattr(self, name)} must be at least 1.")
        if self.count > self.rank:
            raise ConfigError(
                f"count = {self.count} exponents need a fitted rank of at least as many, got {self.rank}."
            )
        if self.warm_up < 0 or self.num_points < 0:
            raise ConfigError(f"warm_up = {self.warm_up} and num_points = {self.num_points} must not be negative.")


@dataclass(frozen=True)
class TokenSpectrum:
    """One Jacobian: its leading singular values and eigenvalues.

    Attributes:
        id, position: id and position of the text, and the token in it.
        singular_values: descending; the largest is how far a small change of the state can be stretched in one token.
        eigenvalues: (real, imaginary), largest modulus first.
        residuals: |J v - lambda v| of each; large where the iteration has not converged.
    """

    id: str
    position: int
    singular_values: tuple[float, ...]
    eigenvalues: tuple[tuple[float, float], ...]
    residuals: tuple[float, ...]


@dataclass(frozen=True)
class JacobianSpectrum:
    """The findings without a fit, and the fit on the same states.

    Attributes:
        model: its name.
        settings: those used.
        num_texts, num_tokens: number of texts and number of tokens of the exponents, the warm-up left out.
        exponents: finite-time Lyapunov exponents, per token, largest first: mean over texts with 95 % intervals over
        texts. points: single Jacobians.
        fitted: log |eigenvalue| of operators fitted on the same states, by variant, the `count` largest; a variant that
            these states do not allow is absent, and said in `remarks`.
        remarks: warnings for the reader.
    """

    model: str
    settings: JacobianSettings
    num_texts: int
    num_tokens: int
    exponents: tuple[Estimate, ...]
    points: tuple[TokenSpectrum, ...]
    fitted: dict[str, tuple[float, ...]]
    remarks: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain tables and lists."""
        return asdict(self)


def jacobian_spectrum(
    model: Any,
    texts: Sequence[LatentText],
    settings: JacobianSettings | None = None,
    *,
    name: str = "model",
    on_text: Callable[[int], None] = lambda _: None,
) -> JacobianSpectrum:
    """Measure how small changes of the final state grow from token to token, along texts.

    Args:
        model: a Hugging Face causal language model.
        texts: each is read before its `start`, and measured from there; shorter ones than the warm-up are left out.
        settings: sizes of the measurement.
        on_text: is told the number of texts done.

    Raises:
        DataError: no text is long enough.
        ConfigError, ModelError: as :func:`~relax_rl.latent.jacobian.token_jacobians`.
    """
    settings = settings or JacobianSettings()
    needed = settings.warm_up + 2
    cut = [_cut(text, settings.max_tokens) for text in texts if text.num_tokens >= needed]
    remarks = []
    if not cut:
        raise DataError(
            f"No text has {needed} tokens to measure (a warm-up of {settings.warm_up}, and a token with a next one); "
            "give longer texts."
        )
    if len(cut) < len(texts):
        remarks.append(f"{len(texts) - len(cut)} of {len(texts)} texts are left out: fewer than {needed} tokens.")
    means, points, num_tokens = [], [], 0
    for number, text in enumerate(cut, start=1):
        stretches, found = _along(model, text, settings)
        # Sorted as the exponents of one trajectory are: the frame orders them in the long run only.
        means.append(stretches.mean(0).sort(descending=True).values)
        points += found
        num_tokens += len(stretches)
        on_text(number)
    table = torch.stack(means)
    exponents = tuple(_estimate(column.tolist()) for column in table.T)
    fitted, said = _fitted(model, cut, settings)
    return JacobianSpectrum(name, settings, len(cut), num_tokens, exponents, tuple(points), fitted, (*remarks, *said))


def _estimate(values: list[float]) -> Estimate:
    found = bootstrap_mean(values)
    assert found is not None
    return found


def _cut(text: LatentText, max_tokens: int) -> LatentText:
    """The text without what lies behind the measured tokens."""
    start = max(text.start, 1)
    return LatentText(text.id, text.token_ids[: start + max_tokens], start)


def _along(model: Any, text: LatentText, settings: JacobianSettings) -> tuple[Tensor, list[TokenSpectrum]]:
    points: list[TokenSpectrum] = []
    steps = len(text.token_ids) - text.start
    # In the middle of as many equal parts.
    chosen = {int((part + 0.5) * steps / settings.num_points) for part in range(settings.num_points)}

    jacobians = token_jacobians(model, text.token_ids, start=text.start, temperature=settings.temperature)
    first = next(jacobians)

    def pushes() -> Iterator[Callable[[Tensor], Tensor]]:
        for number, jacobian in enumerate(chain([first], jacobians)):
            if number in chosen:
                points.append(_point(jacobian, text.id, settings))
            yield jacobian.push

    size = len(first.state)
    count = _bounded(settings.count, size)
    stretches = exponents_of_products(pushes(), size, count=count, warm_up=settings.warm_up, seed=settings.seed)
    return stretches, points


def _bounded(count: int, size: int) -> int:
    if count > size:
        raise ConfigError(f"count = {count} exponents were asked of states of width {size}; ask for fewer.")
    return count


def _point(jacobian: TokenJacobian, identity: str, settings: JacobianSettings) -> TokenSpectrum:
    asked = {"count": settings.count, "iterations": settings.iterations, "seed": settings.seed}
    singular, _ = leading_singular_values(jacobian.push, jacobian.pull, jacobian.state, **asked)
    eigen = leading_eigenvalues(jacobian.push, len(jacobian.state), **asked)
    return TokenSpectrum(
        identity,
        jacobian.position,
        tuple(singular.tolist()),
        tuple((value.real, value.imag) for value in eigen.values.tolist()),
        tuple(eigen.residuals.tolist()),
    )


def _fitted(
    model: Any, texts: Sequence[LatentText], settings: JacobianSettings
) -> tuple[dict[str, tuple[float, ...]], list[str]]:
    """Log moduli of pooled operators of the centred states of the same tokens."""
    read = capture_sequences(
        model, [text.token_ids for text in texts], [FINAL_NORM], starts=[text.start for text in texts]
    )
    states = [trajectory.states[FINAL_NORM].double() for trajectory in read]
    mean = torch.cat(states).mean(0)
    centred = [part - mean for part in states if len(part) >= 2]
    fitted, said = {}, []
    for variant in _VARIANTS:
        try:
            moduli = dmd(centred, rank=min(settings.rank, centred[0].shape[1]), variant=variant).eigenvalues.abs()
        except DataError as refusal:
            said.append(f"No {variant} fit: {refusal}")
            continue
        fitted[variant] = tuple(moduli[: settings.count].log().tolist())
    return fitted, said
