"""Runs commands in forks of a process that has imported the large libraries, which takes as long as ten updates.

No code of a revision is imported before the fork, so that one launcher serves both revisions.

    python -m side_by_side.launcher      reads a task in JSON a line, and answers each with its exit code
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["Launcher"]

LIBRARIES = (
    "torch",
    "transformers",
    "trl.trainer.grpo_trainer",
    "trl.trainer.grpo_config",
    "scipy.stats",
    "rich.progress",
)


class Launcher:
    """A process that runs one command at a time.

    Args:
        environment: of the process, with the folder of this package on the path. It decides the number of threads.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        # Without the current folder on the path, which may hold anything.
        words = [sys.executable, "-P", "-m", "side_by_side.launcher"]
        self._process = subprocess.Popen(
            words, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, entry: str, words: Sequence[str], *, tree: Path, environment: Mapping[str, str], folder: Path, log: Path
    ) -> int:
        """Run a function, ``module:name``, as a command with these words, and give its exit code.

        Args:
            entry, words: what runs.
            tree: the code that must answer.
            environment: of the command, with the path of its code in ``PYTHONPATH``.
            folder: where it runs.
            log: takes all that it prints; what is there stays.
        """
        task = {"entry": entry, "words": list(words), "tree": str(tree), "environment": dict(environment)}
        task |= {"folder": str(folder), "log": str(log)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        return int(answer) if answer else 1

    def close(self) -> None:
        """End the process once its command is done."""
        with suppress(OSError):
            self._process.communicate()


def _serve() -> None:
    for name in LIBRARIES:
        __import__(name)
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if child == 0:
            # Whatever happens, the child must not return into this loop.
            code = 1
            try:
                code = _run(task)
            except SystemExit as error:
                code = error.code if isinstance(error.code, int) else 1
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(task: Mapping[str, Any]) -> int:
    with open(task["log"], "a") as log, open(os.devnull) as nothing:
        for stream, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(stream.fileno(), number)
    os.chdir(task["folder"])
    os.environ.clear()
    os.environ.update(task["environment"])
    sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
    module, _, function = task["entry"].partition(":")
    sys.argv = ["relax", *task["words"]]
    command = getattr(__import__(module, fromlist=[function]), function)
    import relax_rl

    if not Path(relax_rl.__file__).is_relative_to(task["tree"]):
        print(f"relax_rl is imported from {relax_rl.__file__}, not from {task['tree']}")
        return 1
    return int(command())


if __name__ == "__main__":
    _serve()
