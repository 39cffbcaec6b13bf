"""The kinds of figures by name."""

from __future__ import annotations

from relax_rl.tasks.figures.angles import Angles
from relax_rl.tasks.figures.areas import Area
from relax_rl.tasks.figures.bars import Bars
from relax_rl.tasks.figures.clock import Clock, Dial
from relax_rl.tasks.figures.counting import Counting
from relax_rl.tasks.figures.graph import Graph
from relax_rl.tasks.figures.kind import Kind
from relax_rl.tasks.figures.perimeter import Perimeter
from relax_rl.tasks.figures.prism import Prism
from relax_rl.tasks.figures.table import Table

__all__ = ["KINDS"]

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (Perimeter(), Area(), Prism(), Clock(), Dial(), Bars(), Counting(), Angles(), Graph(), Table())
}
