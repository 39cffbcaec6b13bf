"""An eigenvalue as a point that the page's scripts draw, with what it says when it is asked."""

from __future__ import annotations

import math
from typing import Any

from relax_rl.reports.payload import rounded
from relax_rl.reports.spectra.planes import SPURIOUS_RESIDUAL

__all__ = ["eigenvalue_point"]


def eigenvalue_point(real: float, imaginary: float, residual: float | None, is_vacuous: bool = False) -> list[Any]:
    """A point of a plane: where, whether it is hollow, how dark, and what it says."""
    modulus, angle = math.hypot(real, imaginary), math.atan2(imaginary, real)
    half = "does not decay" if modulus >= 1 else f"half-life {math.log(2) / -math.log(modulus):.3g} tokens"
    if modulus == 0:
        half = "gone at once"
    turn = "" if abs(angle) < 1e-9 else f", period {2 * math.pi / abs(angle):.3g} tokens"
    spurious = is_vacuous or residual is None or not residual < SPURIOUS_RESIDUAL
    said = "" if residual is None else f", residual {residual:.2f}{' (spurious)' if spurious else ''}"
    text = f"λ = {real:.3f}{imaginary:+.3f}i, |λ| {modulus:.3f}, {half}{turn}{said}"
    return [rounded(real), rounded(imaginary), spurious, 0.9 if spurious else rounded(1 - 0.8 * (residual or 0)), text]
