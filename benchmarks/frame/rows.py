"""A row: one thing of ours beside one thing that it is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from frame.timing import Times

__all__ = ["FULL", "QUICK", "Effort", "Row", "row_of_limit", "row_of_times"]


@dataclass(frozen=True)
class Effort:
    """How much to measure. Sizes are the same either way, so that ratios of both may be compared.

    Attributes:
        rounds: how often every side runs.
        is_quick: leave out rows that take more than some seconds a round.
    """

    rounds: int
    is_quick: bool


FULL = Effort(rounds=5, is_quick=False)
QUICK = Effort(rounds=3, is_quick=True)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One result.

    Attributes:
        name: what is measured; with `against` it is known by in the history.
        ratio: ours over theirs, smaller is better. In rows of growth: the exponent.
        against: what theirs is.
        ours: our figure, in `unit`.
        theirs: the other one.
        unit: "s" for seconds of processor time, "s wall" for seconds of the clock, "MiB", "exponent".
        target: the largest ratio that is wanted; None where the row is only watched.
        low: the smallest ratio of a round.
        high: the largest one.
        bound: what keeps the ratio above its target, with a measurement. Empty where the target is met.
        floor: the smallest ratio that `bound` leaves possible, from figures of the same run; None where it was not
            measured, or where the target is met.
        note: something else that was measured, such as an error.
        points: of a row of growth, (size, figure) as measured.
    """

    name: str
    ratio: float
    against: str
    ours: float
    theirs: float
    unit: str = "s"
    target: float | None = None
    low: float | None = None
    high: float | None = None
    bound: str = ""
    floor: float | None = None
    note: str = ""
    points: tuple[tuple[float, float], ...] = ()

    @property
    def is_met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.ratio <= self.target

    @property
    def verdict(self) -> str:
        """ "met", "missed", "bounded (x)" where a measured floor x is itself above the target, "" without a target."""
        if self.is_met is None:
            return ""
        if self.is_met:
            return "met"
        is_bounded = self.floor is not None and self.target is not None and self.floor > self.target
        return f"bounded ({self.floor:.3g})" if is_bounded else "missed"

    @property
    def key(self) -> str:
        """Stays the same from run to run."""
        return f"{self.name} | {self.against}"

    def as_json(self) -> dict[str, Any]:
        """Only what is set."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", ())}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Row:
        """The row that `as_json` wrote."""
        points = tuple((float(size), float(figure)) for size, figure in found.get("points", ()))
        return cls(**{**found, "points": points})


def row_of_times(
    name: str,
    ours: Times,
    theirs: Times,
    against: str,
    *,
    target: float | None = None,
    bound: str = "",
    floor: float | None = None,
    note: str = "",
    clock: str = "processor",
) -> Row:
    """The row of two sides that ran in the same rounds: the median over rounds of the ratio within a round.

    Args:
        bound, floor: see `Row`; both are dropped where the target is met.
        clock: "processor", or "wall" where several processes do the work of one side.
    """
    mine, other = (_seconds(times, clock) for times in (ours, theirs))
    ratios = [a / b for a, b in zip(mine, other, strict=True)]
    is_missed = target is not None and median(ratios) > target
    return Row(
        name=name,
        ratio=median(ratios),
        against=against,
        ours=median(mine),
        theirs=median(other),
        unit="s" if clock == "processor" else "s wall",
        target=target,
        low=min(ratios),
        high=max(ratios),
        bound=bound if is_missed else "",
        floor=floor if is_missed else None,
        note=note,
    )


def row_of_limit(
    name: str,
    seconds: Sequence[float],
    limit: float,
    *,
    bound: str = "",
    floor: float | None = None,
    note: str = "",
    clock: str = "processor",
) -> Row:
    """The row of one side that is held against a number of seconds: the median over its rounds.

    Args:
        seconds: one for each round.
        bound, floor, clock: as of `row_of_times`.
    """
    ratios = [value / limit for value in seconds]
    is_missed = median(ratios) > 1.0
    return Row(
        name=name,
        ratio=median(ratios),
        against=f"{limit:g} s {'of processor time' if clock == 'processor' else 'by the clock'}",
        ours=median(seconds),
        theirs=limit,
        unit="s" if clock == "processor" else "s wall",
        target=1.0,
        low=min(ratios) if len(ratios) > 1 else None,
        high=max(ratios) if len(ratios) > 1 else None,
        bound=bound if is_missed else "",
        floor=floor if is_missed else None,
        note=note,
    )


def _seconds(times: Times, clock: str) -> Sequence[float]:
    return times.processor if clock == "processor" else times.wall
