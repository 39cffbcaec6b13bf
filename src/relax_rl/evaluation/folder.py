"""The folder of one evaluation: what was asked, every sample, and the result; and how it survives being killed.

    settings.json     what decides the samples; another evaluation is refused
    partial.jsonl     samples as they come, while it runs
    samples.jsonl     all of them, graded, in the order of the problems
    result.json       the numbers (`.result.EvaluationResult`)

``partial.jsonl`` only grows, a batch of samples a write. A write that the disk has no room for is taken back, to the
last whole line. When an evaluation is resumed, lines that are no sample are dropped, such as half a line that a killed
process left, or two lines glued together, and their samples are drawn again. The other files are written whole or not
at all and hold neither times nor places, so that an evaluation that was interrupted ends in the same files as one that
was not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relax_rl.errors import DataError, RunError
from relax_rl.evaluation.records import Sample
from relax_rl.evaluation.result import EvaluationResult, with_present_names
from relax_rl.runs.files import append_whole, write_whole

__all__ = ["EvaluationFolder"]


class EvaluationFolder:
    """Paths, readers and writers of one evaluation."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.settings_path = self.path / "settings.json"
        self.partial_path = self.path / "partial.jsonl"
        self.samples_path = self.path / "samples.jsonl"
        self.result_path = self.path / "result.json"

    def check(self) -> None:
        """Before the minutes that loading a model takes.

        Raises:
            RunError: there is a file at the path, something other than an evaluation in it, or it cannot be written.
        """
        place = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise RunError(
                f"The evaluation {self.path} cannot be written: {place} is a file or forbids it; use -o DIR."
            )
        if place == self.path and any(place.iterdir()) and not self.settings_path.is_file():
            raise RunError(f"The folder {self.path} holds something else than an evaluation; name another with -o DIR.")

    @property
    def is_complete(self) -> bool:
        """Whether samples and result are there."""
        return self.result_path.is_file() and self.samples_path.is_file()

    def start(self, settings: Mapping[str, Any], *, overwrite: bool = False) -> list[Sample]:
        """Begin an evaluation, or resume the same one.

        Args:
            settings: everything that decides what is sampled, as JSON.
            overwrite: delete what is there first.

        Returns:
            The samples that are there already.

        Raises:
            RunError: the folder holds an evaluation with other settings (each is named), or see `check`.
        """
        self.check()
        if overwrite:
            for path in (self.result_path, self.samples_path, self.partial_path, self.settings_path):
                path.unlink(missing_ok=True)
        if self.settings_path.is_file():
            self._refuse_others(settings)
        else:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                write_whole(self.settings_path, _settings_text(settings))
            except OSError as error:
                raise self._cannot_write(error) from error
        return self._recover()

    def read_settings(self) -> dict[str, Any]:
        """Identity that `start` wrote. Raises DataError if it is not there or not readable."""
        try:
            return with_present_names(json.loads(self.settings_path.read_text("utf-8")))
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(
                f"{self.path} is no folder of an evaluation: settings.json cannot be read ({error})."
            ) from error

    def _refuse_others(self, settings: Mapping[str, Any]) -> None:
        saved, asked = self.read_settings(), json.loads(json.dumps(settings))
        keys = sorted(key for key in saved.keys() | asked.keys() if saved.get(key) != asked.get(key))
        if keys:
            changes = ", ".join(f"{key} is {saved.get(key)!r} there and {asked.get(key)!r} here" for key in keys)
            raise RunError(
                f"The folder {self.path} holds another evaluation: {changes}; name another folder with -o DIR, or "
                "delete that one with --overwrite."
            )

    def _recover(self) -> list[Sample]:
        """The complete samples on disk; what a killed process left half-written is dropped."""
        if self.samples_path.is_file():
            self.partial_path.unlink(missing_ok=True)
            return self.read_samples()
        if not self.partial_path.is_file():
            return []
        data = self.partial_path.read_bytes()
        whole: list[bytes] = []
        found: dict[tuple[str, int], Sample] = {}
        for line in data.splitlines(keepends=True):
            try:
                sample = Sample.from_json(line.decode("utf-8"))
            except (DataError, UnicodeDecodeError):
                continue
            if line.endswith(b"\n"):
                found.setdefault((sample.problem_id, sample.index), sample)
                whole.append(line)
        kept = b"".join(whole)
        if kept != data:
            try:
                write_whole(self.partial_path, kept.decode("utf-8"))
            except OSError as error:
                raise self._cannot_write(error) from error
        return list(found.values())

    def append(self, samples: Iterable[Sample]) -> None:
        """Keep a batch of new samples; they are with the operating system when this returns.

        Raises:
            RunError: they cannot be written whole (a full disk, a quota); the file ends as it did before.
        """
        data = "".join(f"{sample.to_json()}\n" for sample in samples).encode()
        try:
            append_whole(self.partial_path, data)
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> RunError:
        return RunError(
            f"The evaluation {self.path} cannot be written ({error.strerror or error}); make room or allow it, and run "
            "the same command again: it resumes with the samples that are there."
        )

    def read_samples(self) -> list[Sample]:
        """All samples of a complete evaluation. Raises DataError if they are not there or not readable."""
        try:
            lines = self.samples_path.read_text("utf-8").splitlines()
        except OSError as error:
            raise DataError(
                f"The evaluation {self.path} is not complete: {error}; run its command again to resume it."
            ) from error
        return _samples(lines, self.samples_path)

    def finish(self, samples: Sequence[Sequence[Sample]], result: EvaluationResult) -> None:
        """Write the graded samples and the result, and drop the partial file."""
        try:
            write_whole(self.samples_path, "".join(f"{sample.to_json()}\n" for row in samples for sample in row))
            write_whole(self.result_path, result.to_json())
        except OSError as error:
            raise self._cannot_write(error) from error
        self.partial_path.unlink(missing_ok=True)

    def regraded(self, options: Mapping[str, Any]) -> None:
        """Keep the options of the verifier that graded the samples again: they are a part of the identity.

        Args:
            options: `relax_rl.evaluation.grading.grading_options`.
        """
        saved = self.read_settings()
        settings = {name: value for name, value in saved.items() if name != "grading"}
        settings |= {"grading": dict(options)} if options else {}
        if settings == saved:
            return
        try:
            write_whole(self.settings_path, _settings_text(settings))
        except OSError as error:
            raise self._cannot_write(error) from error


def _settings_text(settings: Mapping[str, Any]) -> str:
    return json.dumps(settings, indent=1, sort_keys=True) + "\n"


def _samples(lines: Iterable[str], path: Path) -> list[Sample]:
    found: dict[tuple[str, int], Sample] = {}
    for number, line in enumerate(lines, start=1):
        try:
            sample = Sample.from_json(line)
        except DataError as error:
            raise DataError(f"Line {number} of {path}: {error}") from error
        found.setdefault((sample.problem_id, sample.index), sample)
    return list(found.values())
