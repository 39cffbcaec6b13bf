"""Take the pictures of the documentation from the report of `make demo`, in a headless Chromium.

    python scripts/screenshots.py [RUNS] [--output docs/images]

RUNS is the folder that `make demo` leaves (runs/demo). The pages are written again, so that they are those of this
version; nothing is trained, and `relax spectrum` measures the embedded policy. Needs Chromium on the path. A picture
has at most 256 colours and 300 kB.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.support.browser import Chromium  # noqa: E402

MOST_BYTES = 300_000
HOVER_AT = 0.6
"""Place of the pointer in a plot, as a share of its width."""


@dataclass(frozen=True)
class Shot:
    """One picture.

    Attributes:
        name: its file, without the ending.
        page: "report", "board" or "spectrum".
        selector: element whose top is the top of the picture.
        size: width and height in pixels.
        is_dark: in dark mode.
        before: script that runs first.
        pointer: selector of a plot to point at; "" for none.
    """

    name: str
    page: str
    selector: str
    size: tuple[int, int]
    is_dark: bool = False
    before: str = ""
    pointer: str = ""


_PLOT = "[data-part=curves] .u-over"
SHOTS = (
    Shot("report", "report", "#training", (1200, 720), pointer=_PLOT),
    Shot("report-results", "report", "h1", (1200, 1120)),
    Shot("report-training", "report", "[data-part=curves] details", (1200, 560), is_dark=True, pointer=_PLOT),
    Shot("report-completions", "report", "#completions", (1200, 620)),
    Shot("report-modes", "report", "#spectra", (1200, 1010)),
    Shot("report-phone", "report", "[data-part=curves] details", (390, 760), is_dark=True, pointer=_PLOT),
    Shot("report-board", "board", "h1", (1200, 640)),
    Shot("spectrum", "spectrum", "#spectrum_modes", (1200, 1000)),
)


def take(browser: Chromium, shot: Shot, address: str) -> bytes:
    """One picture as PNG."""
    width, height = shot.size
    browser.prefer("dark" if shot.is_dark else "light")
    browser.visit(address, width, height)
    # The bar of links would cover the first line, and a plot is drawn when it comes into sight.
    browser.ask("document.querySelectorAll('nav').forEach((e) => { e.style.position = 'static'; })")
    browser.ask(shot.before or "0")
    # Plots far above are drawn while they come by, which moves what is below.
    for _ in range(2):
        browser.ask(f"scrollBy(0, document.querySelector({shot.selector!r}).getBoundingClientRect().top - 10)")
        browser.ask("new Promise((done) => setTimeout(done, 700))")
    if shot.pointer:
        box = browser.ask(
            f"(() => {{ const b = document.querySelector({shot.pointer!r}).getBoundingClientRect();"
            "return [b.left, b.top, b.width, b.height]; })()"
        )
        for share in (HOVER_AT - 0.1, HOVER_AT):
            browser.mouse("mouseMoved", box[0] + share * box[2], box[1] + box[3] / 2)
        browser.ask("new Promise((done) => setTimeout(done, 300))")
    image = Image.open(io.BytesIO(browser.picture())).convert("RGB")
    file = io.BytesIO()
    image.quantize(256, dither=Image.Dither.NONE).save(file, "png", optimize=True)
    return file.getvalue()


def pages(runs: Path, folder: Path) -> dict[str, str]:
    """Write the pages into a folder; addresses by name."""
    found = sorted(path.parent for path in runs.rglob("metrics.jsonl"))
    if not found:
        raise SystemExit(f"{runs} holds no runs; run 'make demo' first, or name a folder of runs.")
    place = runs.resolve().parents[1]  # pages say where runs are: runs/demo, and no folder of this machine
    found, runs = [path.resolve().relative_to(place) for path in found], runs.resolve().relative_to(place)
    commands = {
        "report.html": ["report", *found, "-o", folder / "report.html"],
        "board.html": ["report", runs, "-o", folder / "board.html"],
        "spectrum/spectrum.html": ["spectrum", "tiny", "-o", folder / "spectrum"],
    }
    for words in commands.values():
        subprocess.run([sys.executable, "-m", "relax_rl.cli.main", *map(str, words)], check=True, cwd=place)
    return {Path(name).stem: (folder / name).resolve().as_uri() for name in commands}


def main(argv: list[str] | None = None) -> int:
    """Take all pictures; 1 if one of them is too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", nargs="?", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args(argv)
    is_good = True
    with tempfile.TemporaryDirectory() as made:
        addresses = pages(arguments.runs, Path(made))
        browser = Chromium(Path(made) / "profile")
        try:
            for shot in SHOTS:
                data = take(browser, shot, addresses[shot.page])
                (arguments.output / f"{shot.name}.png").write_bytes(data)
                is_good = is_good and len(data) <= MOST_BYTES and not browser.errors
                print(f"{shot.name}.png  {len(data) / 1000:.0f} kB  {'; '.join(browser.errors)}".rstrip())
        finally:
            browser.close()
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
