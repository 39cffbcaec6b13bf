"""The latent dynamics of a policy at one moment of its training: the file that a run keeps, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from relax_rl.errors import DataError
from relax_rl.evaluation.result import PooledSpectrum, as_spectrum

__all__ = ["Snapshot", "TracedCompletion"]


@dataclass(frozen=True)
class TracedCompletion:
    """A completion of the prompt that a snapshot follows.

    Attributes:
        reward: None where it has none.
        tokens: their texts; together they are the completion's beginning. Untrusted.
        entropy: nats at each token.
        points: (T, K) coordinates of the hidden states in the run's basis.
        strengths: strength of the snapshot's modes at each token, see `relax_rl.spectra.activity.ModeActivity`.
    """

    reward: float | None
    tokens: tuple[str, ...]
    entropy: tuple[float, ...]
    points: tuple[tuple[float, ...], ...]
    strengths: tuple[str, ...] = ()


@dataclass(frozen=True)
class Snapshot:
    """Measurements after an update.

    Attributes:
        update: after which.
        num_completions: completions of the rollout batch that the spectrum is measured on.
        spectrum: spectrum of all of them; None with too few tokens for its observables.
        modes: places in the spectrum of the modes whose strengths are kept.
        prompt: prompt of the traced completions. Untrusted.
        completions: completions of this prompt.
    """

    update: int
    num_completions: int
    spectrum: PooledSpectrum | None
    modes: tuple[int, ...]
    prompt: str
    completions: tuple[TracedCompletion, ...]

    def to_dict(self) -> dict[str, Any]:
        """As plain tables and lists."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Snapshot:
        """Read what `to_dict` wrote.

        Raises:
            DataError: a key is missing or holds something else.
        """
        try:
            traced = tuple(
                TracedCompletion(
                    reward=row["reward"],
                    tokens=tuple(map(str, row["tokens"])),
                    entropy=tuple(map(float, row["entropy"])),
                    points=tuple(tuple(map(float, point)) for point in row["points"]),
                    strengths=tuple(map(str, row["strengths"])),
                )
                for row in data["completions"]
            )
            return cls(
                update=int(data["update"]),
                num_completions=int(data["num_completions"]),
                spectrum=as_spectrum(data["spectrum"]),
                modes=tuple(map(int, data["modes"])),
                prompt=str(data["prompt"]),
                completions=traced,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is not a snapshot of latent dynamics ({type(error).__name__}: {error}); write it with to_dict()."
            ) from error
