"""``relax spectrum MODEL --jacobian``: spectra without a fit, beside the fitted ones of the same states."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from relax_rl.cli.arguments import say
from relax_rl.cli.spectrum_modes import reading_of, refuse_beside
from relax_rl.errors import ConfigError

if TYPE_CHECKING:
    from relax_rl.spectra.jacobian import JacobianSpectrum

__all__ = ["run_jacobian"]

_TEXTS, _LENGTH = 8, 64
_OTHERS = (
    "compare",
    "states",
    "sentences",
    "sites",
    "store",
    "statistics_only",
    "observables",
    "dictionary",
    "layer_ids",
)


def run_jacobian(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
    """Tables, and a file where a folder was named."""
    refuse_beside(arguments, "a spectrum without --jacobian", (*_OTHERS, "skip", "miss_cost", "landscape"))
    if arguments.axis != "tokens":
        raise ConfigError("--jacobian goes from token to token; leave --axis out.")
    arguments.num_problems = arguments.num_problems or _TEXTS
    if not arguments.text:
        arguments.max_completion_length = arguments.max_completion_length or _LENGTH

    from relax_rl.spectra.jacobian import JacobianSettings
    from relax_rl.workflows.spectrum_jacobian import spectrum_of_jacobian

    count = arguments.rank or JacobianSettings.count
    result = spectrum_of_jacobian(
        arguments.model,
        reading_of(arguments, settings),
        JacobianSettings(
            count=count,
            rank=max(count, JacobianSettings.rank),
            temperature=arguments.temperature,
            seed=arguments.seed,
        ),
        output=arguments.output,
        overwrite=arguments.overwrite,
        on_progress=say,
    )
    print_jacobian(result.spectrum)
    if result.file is not None:
        print(result.file)
    return 0


def print_jacobian(found: JacobianSpectrum) -> None:
    """Exponents beside the logarithms of fitted moduli; then the single Jacobians."""
    from relax_rl.cli.spectrum_tables import console

    out = console()
    table = Table(
        box=SIMPLE_HEAD,
        title=f"{found.model}: growth per token, {found.num_tokens} tokens of {found.num_texts} texts",
        caption="exponent: log of the growth per token of a small change of the final state, mean [95 % interval over "
        "texts]; fits: log |λ| of operators on the same states",
    )
    for name in ("", "exponent", "95 % interval", *(f"{variant} fit" for variant in found.fitted)):
        table.add_column(name, no_wrap=True)
    for place, each in enumerate(found.exponents):
        logs = [f"{fitted[place]:+.3f}" if place < len(fitted) else "–" for fitted in found.fitted.values()]
        table.add_row(str(place + 1), f"{each.value:+.3f}", f"{each.low:+.3f} to {each.high:+.3f}", *logs)
    out.print(table)
    points = Table(
        box=SIMPLE_HEAD,
        title="single Jacobians",
        caption="|Jv - λv| of each eigenvalue: large where the iteration has not converged",
    )
    for name in ("text", "token", "singular values", "|λ|", "|Jv - λv|"):
        points.add_column(name, no_wrap=True)
    for point in found.points:
        moduli = [math.hypot(*value) for value in point.eigenvalues]
        cells = (_row(point.singular_values), _row(moduli), " ".join(f"{value:.0e}" for value in point.residuals))
        points.add_row(point.id, str(point.position), *cells)
    if found.points:
        out.print(points)
    for remark in found.remarks:
        out.print(f"note: {found.model}: {remark}", markup=False, highlight=False)


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:.3f}" for value in values)
