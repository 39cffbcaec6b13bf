"""Runs of the command line: each in the code of its revision, kept once it is done, several at once."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from side_by_side.dialect import RENAMED_KEYS
from side_by_side.differences import Check, Values, differences
from side_by_side.launcher import Launcher
from side_by_side.outputs import counts_in, prune, values_in
from side_by_side.revisions import SCRIPTS, Revision, environment_with, settings_digest

__all__ = ["Command", "Pair", "compared"]


@dataclass(frozen=True)
class Command:
    """One command of one revision.

    Attributes:
        revision: whose code runs.
        part, name: as in `Check`.
        verb, words: what follows ``relax``, in the old dialect; the option for the place is left out.
        place: the option that names the place of the output.
        kept: the number of a checkpoint that stays on the disk, for a resume; None: none.
        begin: fills the place before the command runs, from the output of `follows`.
        follows: a command that must be done before.
    """

    revision: Revision
    part: str
    name: str
    verb: str
    words: tuple[str, ...]
    place: str
    kept: int | None = None
    begin: Callable[[Path, Path], None] | None = None
    follows: Command | None = None

    @property
    def folder(self) -> Path:
        """Of the output, the log and the mark of completion; another one for other settings."""
        before = None if self.follows is None else [self.follows.revision.name, self.follows.folder.name]
        spelled = self.revision.speller.spelled(self.verb, [*self.words, self.place])
        slug = re.sub(r"[^\w.-]+", "-", self.name)
        return self.revision.results / self.part / f"{slug}-{settings_digest([spelled, before])}"

    @property
    def output(self) -> Path:
        return self.folder / "output"

    @property
    def is_done(self) -> bool:
        kept = self.output / "checkpoints" / f"checkpoint-{self.kept}" / "trainer_state.json"
        return (self.folder / "done.json").is_file() and (self.kept is None or kept.is_file())

    def run(self, launcher: Launcher, fresh: bool = False) -> str | None:
        """Run it unless its output is kept. What went wrong, in words; None where it went well."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        # Another comparison in the same work folder may be at this command; its output serves both.
        with self.folder.with_name(f"{self.folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return None if self.is_done and not fresh else self._run(launcher)

    def _run(self, launcher: Launcher) -> str | None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        if self.begin is not None and self.follows is not None:
            self.begin(self.follows.output, self.output)
        started = time.monotonic()
        code = self._call(launcher)
        seconds = time.monotonic() - started
        print(f"    {self.revision.label}: {self.part} {self.name}, {seconds:.0f} s", flush=True)
        if code:
            return f"the command failed with exit code {code}: {self._last_line()} ({self.folder / 'log.txt'})"
        prune(self.output, self.kept)
        (self.folder / "done.json").write_text(json.dumps({"seconds": seconds}))
        return None

    def _call(self, launcher: Launcher) -> int:
        words = [*self.revision.speller.spelled(self.verb, [*self.words, self.place]), str(self.output)]
        # From an empty folder: the command line puts the current folder on the path.
        work, log = self.folder / "empty", self.folder / "log.txt"
        work.mkdir(exist_ok=True)
        log.write_text(" ".join(["relax", *words]) + "\n")
        environment = self.revision.environment()
        return launcher.run(
            self.revision.entry, words, tree=self.revision.tree, environment=environment, folder=work, log=log
        )

    def _last_line(self) -> str:
        lines = (self.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "no output"


@dataclass(frozen=True)
class Pair:
    """The same in both revisions, or what stands for it."""

    reference: Command
    candidate: Command


def compared(pairs: Sequence[Pair], jobs: int, fresh: bool) -> Iterator[Check]:
    """Run what is owed, `jobs` at once, and compare each pair as soon as both are there, in their order.

    Args:
        pairs: what is compared.
        jobs: commands at once.
        fresh: run those of the candidate again, even where their output is kept.
    """
    pool = ThreadPoolExecutor(jobs)
    launchers = [Launcher(environment_with(SCRIPTS)) for _ in range(jobs)]
    queue = _Queue(pool, fresh, deque(launchers))
    try:
        for pair in pairs:
            queue.submit(pair.reference)
        for pair in pairs:
            queue.submit(pair.candidate)
        for pair in pairs:
            yield _check(pair, queue.submit(pair.reference).result(), queue.submit(pair.candidate).result())
    finally:
        pool.shutdown(cancel_futures=True)
        for launcher in launchers:
            launcher.close()


@dataclass(frozen=True)
class _Queue:
    """Runs each command once, and no command before the one that it follows."""

    pool: ThreadPoolExecutor
    fresh: bool
    idle: deque[Launcher]
    _futures: dict[Path, Future[str | None]] = field(default_factory=dict)

    def submit(self, command: Command) -> Future[str | None]:
        """What went wrong with the command, once it is done."""
        if command.folder not in self._futures:
            before = None if command.follows is None else self.submit(command.follows)
            self._futures[command.folder] = self.pool.submit(self._run, command, before)
        return self._futures[command.folder]

    def _run(self, command: Command, before: Future[str | None] | None) -> str | None:
        # The earlier command entered the queue first, so a thread is at work on it already.
        if before is not None and before.result():
            return "not run, because the run to resume failed"
        # There are as many launchers as threads.
        launcher = self.idle.pop()
        try:
            return command.run(launcher, self.fresh and command.revision.role == "candidate")
        finally:
            self.idle.append(launcher)


def _check(pair: Pair, *failures: str | None) -> Check:
    found = [
        f"{role}: {text}" for role, text in zip(("reference", "candidate"), failures, strict=True) if text is not None
    ]
    part, name = pair.candidate.part, pair.candidate.name
    if found:
        return Check(part, name, "nothing compared", tuple(found))
    after = values_in(pair.candidate.output)
    before, renamed = _by_new_names(values_in(pair.reference.output), after)
    counts = "; ".join([counts_in(pair.reference.output), *renamed])
    return Check(part, name, counts, differences(before, after) if before else ("the reference left nothing behind",))


def _by_new_names(before: Values, after: Values) -> tuple[Values, list[str]]:
    """Values of the reference under the names that the candidate has for them, and what was renamed, in words."""
    found, renamed = {}, set()
    for name, value in before.items():
        place, _, key = name.rpartition(" ")
        new = ".".join(RENAMED_KEYS.get(part, part) for part in key.split("."))
        is_renamed = name not in after and f"{place} {new}" in after
        found[f"{place} {new}" if is_renamed else name] = value
        renamed |= {f"{old} is now {RENAMED_KEYS[old]}" for old in key.split(".") if is_renamed and old in RENAMED_KEYS}
    return found, sorted(renamed)
