"""The evaluation of a policy before training, kept once for all runs that start from it.

It depends on the start and on the ruler, not on the method or the seed of a run. So the runs of a comparison share a
folder, where each evaluation stands under the digest of everything that decides it:

    before/DIGEST/identity.json     what was hashed
    before/DIGEST/...               the files of the run's own evaluations/
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from relax_rl.errors import RunError
from relax_rl.evaluation.grading import grader_version, grading_options
from relax_rl.tasks.base import BaseTask, Problem, image_digest
from relax_rl.version import __version__

__all__ = ["SharedStart", "identity_of"]

_IDENTITY = "identity.json"
_PACKAGES = ("torch", "transformers", "tokenizers", "numpy")


class SharedStart:
    """Evaluations of initial policies in a folder, each whole or not there.

    Args:
        folder: is made when the first one is kept.
        identity: identity of the one that is meant, as `identity_of` gives it.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self._text = json.dumps(identity, indent=1, sort_keys=True) + "\n"
        digest = hashlib.blake2b(self._text.encode(), digest_size=8).hexdigest()
        self._folder, self._digest = folder, digest

    @property
    def path(self) -> Path:
        """Its place, if it exists."""
        return self._folder / self._digest

    def take(self, evaluations: Path) -> bool:
        """Copy its files to a run's evaluations; False where there is none.

        Raises:
            RunError: it is there, and cannot be read or copied.
        """
        if not self.path.is_dir():
            return False
        try:
            evaluations.mkdir(exist_ok=True)
            for file in sorted(self.path.iterdir()):
                if file.name != _IDENTITY:
                    temporary = evaluations / f".{file.name}.{os.getpid()}"
                    shutil.copyfile(file, temporary)
                    os.replace(temporary, evaluations / file.name)
        except OSError as error:
            raise RunError(
                f"The evaluation before training in {self.path} cannot be taken over ({error}); make room, or delete "
                "that folder, so that it is measured again."
            ) from error
        return True

    def keep(self, files: Iterable[Path]) -> None:
        """Copy files of a run's evaluations; of several runs that do so at once, one does.

        Raises:
            RunError: they cannot be written.
        """
        place = self._folder / f".{self._digest}.{os.getpid()}"
        try:
            place.mkdir(parents=True)
            for file in files:
                shutil.copyfile(file, place / file.name)
            (place / _IDENTITY).write_text(self._text, encoding="utf-8")
            # A folder that is not empty is never replaced: then another run was first, with the same bytes.
            with contextlib.suppress(OSError):
                os.rename(place, self.path)
            if not self.path.is_dir():
                raise OSError(f"{place} could not be renamed")
        except OSError as error:
            raise RunError(
                f"The evaluation before training cannot be kept for the other runs in {self._folder} ({error}); make "
                "room or allow it, and run the same command again."
            ) from error
        finally:
            shutil.rmtree(place, ignore_errors=True)


def identity_of(
    model: Any,
    tokenizer: Any,
    task: BaseTask,
    problems: Sequence[Problem],
    encode: Callable[[Problem], Sequence[int]],
    settings: dict[str, Any],
) -> dict[str, Any]:
    """Everything that moves a byte of an evaluation, as JSON.

    Args:
        problems: all that are asked, those of the dictionary included.
        encode: a problem as the model reads it.
        settings: settings of the sampling and of the dictionary.
    """
    return {
        "settings": settings,
        "task": task.name,
        "problems": _digest(_bytes_of(problem, encode) for problem in problems),
        "grader": grader_version(task.verifier),
        "grading": grading_options(task.verifier),
        "model": [type(model).__name__, model.config.to_json_string(use_diff=False)],
        "generation": model.generation_config.to_json_string(use_diff=False),
        "weights": _digest(_bytes_of_tensors(model)),
        "tokenizer": _digest(_bytes_of_tokenizer(tokenizer)),
        "versions": {"relax-rl": __version__, **{name: version(name) for name in _PACKAGES}},
        # The last bits of the logits differ between them.
        "machine": [platform.machine(), torch.backends.cpu.get_cpu_capability(), model.device.type],
        "threads": torch.get_num_threads(),
    }


def _bytes_of(problem: Problem, encode: Callable[[Problem], Sequence[int]]) -> bytes:
    return repr((replace(problem, images=()), image_digest(problem.images), encode(problem))).encode(
        "utf-8", "surrogatepass"
    )


def _bytes_of_tensors(model: Any) -> Iterable[bytes]:
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        data = tensor.detach().cpu().contiguous()
        yield f"{name} {data.dtype} {tuple(data.shape)}".encode()
        yield data.reshape(-1).view(torch.uint8).numpy().tobytes()


def _bytes_of_tokenizer(tokenizer: Any) -> Iterable[bytes]:
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                yield file.relative_to(folder).as_posix().encode()
                yield file.read_bytes()


def _digest(parts: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8) + part)
    return found.hexdigest()
