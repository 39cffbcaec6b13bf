"""Run the demo and put what it printed into README.md, between its two marks.

    python scripts/readme_demo.py [--steps N]     or `make readme-demo`

The numbers of the table depend on the processor; the time that it says, on how busy the machine is.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from pathlib import Path

from relax_rl.cli.main import main as relax

__all__ = ["with_output"]

README = Path(__file__).resolve().parents[1] / "README.md"
_BLOCK = re.compile(r"(<!-- demo output -->\n```text\n).*?(```\n<!-- end of demo output -->)", re.DOTALL)


class Both(io.StringIO):
    """Keeps what is written, and shows it on standard error at once."""

    def write(self, text: str) -> int:
        sys.__stderr__.write(text)  # type: ignore[union-attr]
        return super().write(text)


def with_output(page: str, output: str) -> str:
    """The page with this output. Raises ValueError if it does not have both marks once."""
    lines = "\n".join(line.rstrip() for line in output.strip("\n").splitlines())
    changed, count = _BLOCK.subn(lambda found: f"{found[1]}{lines}\n{found[2]}", page)
    if count != 1:
        raise ValueError(f"README.md has the marks of the demo's output {count} times; it must have them once.")
    return changed


def main() -> int:
    """Demo, then README."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    shown, told = Both(), Both()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(told):
        code = relax(["demo", "--overwrite", "--steps", str(arguments.steps)])
    if code:
        return code
    took = [line for line in told.getvalue().splitlines() if line.startswith("took ")]
    README.write_text(
        with_output(README.read_text("utf-8"), "\n".join([shown.getvalue().rstrip("\n"), *took])), "utf-8"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
