"""A copy of the package that a change is made in, so that processes of a test's own see it, and nobody else does."""

from __future__ import annotations

import compileall
import os
import shutil
from pathlib import Path

from mutants.blocks import HITS_MODULE, HITS_SOURCE, instrumented

__all__ = ["PACKAGE", "Shadow"]

PACKAGE = "relax_rl"


class Shadow:
    """A copy of src/relax_rl.

    Args:
        folder: where it stands; what was there is replaced.
        source: the folder src.
        is_instrumented: whether its files say what they run.
    """

    def __init__(self, folder: Path, source: Path, *, is_instrumented: bool = False) -> None:
        self.path = folder
        shutil.rmtree(folder, ignore_errors=True)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(source / PACKAGE, folder / PACKAGE, ignore=ignored)
        self._changes = 0
        if is_instrumented:
            (folder / f"{HITS_MODULE}.py").write_text(HITS_SOURCE)
            for file in sorted((folder / PACKAGE).rglob("*.py")):
                relative = str(file.relative_to(folder / PACKAGE))
                file.write_bytes(instrumented(relative, file.read_bytes()))
        compileall.compile_dir(folder, quiet=2)

    def write(self, relative: str, text: bytes) -> tuple[bytes, os.stat_result]:
        """Change a file, and return what `restore` needs."""
        file = self.path / PACKAGE / relative
        before = (file.read_bytes(), file.stat())
        file.write_bytes(text)
        # Compiled files are known by size and whole seconds: a time of its own for each change.
        self._changes += 1
        time = int(before[1].st_mtime) - self._changes
        os.utime(file, (time, time))
        return before

    def restore(self, relative: str, before: tuple[bytes, os.stat_result]) -> None:
        """Undo a change; the compiled file is good again."""
        file = self.path / PACKAGE / relative
        file.write_bytes(before[0])
        os.utime(file, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))
