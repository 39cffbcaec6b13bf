"""A ``relax`` command that ends when the process that started it does, however that one ends.

A killed process cannot end its children. So each of them holds the other end of a pipe that closes with its parent, and
ends too: a run directory withstands that, but not two processes that write to it.
"""

from __future__ import annotations

import os
import sys
import threading

from relax_rl.cli.main import main

__all__: list[str] = []


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock would be held when Python exits by itself.
    os.read(0, 1)
    os._exit(143)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main())
