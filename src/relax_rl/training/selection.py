"""Evaluations during training, and the best policy of a run so far: one folder, replaced by a better one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relax_rl.errors import RunError
from relax_rl.evaluation.result import EvaluationResult
from relax_rl.runs import RunDirectory
from relax_rl.runs.files import write_whole
from relax_rl.training.together import made_once

__all__ = ["Selection"]

_FILE = "selection.json"
_PICKLES = ("training_args.bin",)


@dataclass(frozen=True)
class Selection:
    """Measures a policy every so many updates, and keeps the best one.

    The first of equally good policies stays. A run that is resumed before its best update makes that update again; the
    folder is kept meanwhile, as its file says what was measured of it.

    Attributes:
        every: updates between two evaluations; the last update has one, too.
        metric: metric of an evaluation, which the best policy has most of.
        measure: the evaluation of the policy as it is. Collective.
        save: writes the policy into a folder. Collective.
        run: directory of the run.
        say: receives a sentence on each evaluation.
        card: card of the run, for the folder.
    """

    every: int
    metric: str
    measure: Callable[[], EvaluationResult]
    save: Callable[[Path], Any]
    run: RunDirectory
    say: Callable[[str], None]
    card: str

    def after_update(self, update: int, num_updates: int, *, is_first: bool) -> None:
        """Measure, if it is time to, and keep the policy if it is the best so far. Collective.

        Args:
            is_first: whether this process writes.

        Raises:
            RunError: the folder cannot be written.
        """
        if update % self.every and update != num_updates:
            return
        result = self.measure()
        value = result.metrics[self.metric].value
        best = made_once(self._best)
        if is_first:
            self.run.write_evaluation(f"during/update_{update:06d}", result.to_dict())
        is_better = best is None or value > best
        if is_better:
            self._keep(update, result, is_first=is_first)
        standing = "the best so far, kept in best" if is_better else f"the best so far is {best:.4g}"
        self.say(f"update {update}: {self.metric} {_words(result, self.metric)} on {result.split}; {standing}")

    def _best(self) -> float | None:
        try:
            return float(json.loads((self.run.best / _FILE).read_text("utf-8"))["value"])
        except (OSError, ValueError, KeyError):
            return None

    def _keep(self, update: int, result: EvaluationResult, *, is_first: bool) -> None:
        unfinished = self.run.path / ".best-unfinished"
        try:
            if is_first:
                shutil.rmtree(unfinished, ignore_errors=True)
            self.save(unfinished)
            if not is_first:
                return
            for name in _PICKLES:
                (unfinished / name).unlink(missing_ok=True)
            (unfinished / "README.md").write_text(self.card, encoding="utf-8")
            chosen = {"update": update, "metric": self.metric, "value": result.metrics[self.metric].value}
            write_whole(unfinished / _FILE, json.dumps(chosen | {"split": result.split}, indent=2) + "\n")
            shutil.rmtree(self.run.best, ignore_errors=True)
            unfinished.rename(self.run.best)
        except OSError as error:
            raise RunError(f"the best policy cannot be kept in {self.run.best}: {error}; make room") from error
        finally:
            if is_first:
                shutil.rmtree(unfinished, ignore_errors=True)


def _words(result: EvaluationResult, metric: str) -> str:
    found = result.metrics[metric]
    return f"{found.value:.4g} [{found.low:.4g}, {found.high:.4g}]"
