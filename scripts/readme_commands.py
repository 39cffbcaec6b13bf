"""Run every `relax` command of README.md, in order, with small settings: what is pasted works.

    python scripts/readme_commands.py [ROOT]

Commands of ```bash blocks and those in the table run in one fresh folder, which has the examples of the repository. The
settings of `SMALL` are added to each, so that all take minutes. `smollm2` is the embedded policy where `make smollm2`
did not run. Blocks marked ```bash hub need the Hugging Face Hub and do not run; `make docs` parses them. Prints the
commands and their times, and exits with 1 if one fails.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SMALL", "commands_of", "main"]

_TRAINING = (
    "--trainer.max_steps 2 --trainer.num_generations 4 --trainer.per_device_train_batch_size 8 "
    "--trainer.gradient_accumulation_steps 1 --trainer.max_completion_length 24 --train_problems 16 "
    "--dictionary.num_observables 4 --evaluation.num_problems 4 --evaluation.num_samples 2"
)
SMALL = {
    "train": _TRAINING,
    "compare": f"{_TRAINING} --seeds 1",
    "eval": "-n 4 -k 2 --max-completion-length 24",
    "spectrum": "-n 6 --max-completion-length 48 --observables 8 --overwrite",
}
"""Added to the words of each verb; the last one of an option wins."""

_BLOCK = re.compile(r"^```bash *$\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CELL = re.compile(r"\| `(relax [^`]+)` \|")


def commands_of(page: str) -> Iterator[list[str]]:
    """The words after `relax` of each command, in the order of the page."""
    found = [(match.start(), match[1]) for pattern in (_BLOCK, _CELL) for match in pattern.finditer(page)]
    for _, text in sorted(found):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["relax"]:
                yield words[1:]


def main(root: Path) -> int:
    """Run them all; 1 if one fails."""
    from relax_rl.cli.main import main as relax

    failures = 0
    has_smollm2 = (root / "models" / "smollm2").is_dir()
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        for folder in ("examples", "models"):
            if (root / folder).is_dir():
                os.symlink(root / folder, folder)
        for words in commands_of((root / "README.md").read_text("utf-8")):
            small = SMALL.get(words[0], "").split()
            known = words if has_smollm2 else ["tiny" if word == "smollm2" else word for word in words]
            model = [] if has_smollm2 or "examples/word_problems.toml" not in words else ["--model", "tiny"]
            began, said = time.monotonic(), io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = relax([*known, *model, *small])
            print(f"{time.monotonic() - began:6.1f} s  relax {shlex.join(words)}", flush=True)
            if code:
                failures += 1
                print(f"exit code {code}:\n{said.getvalue()}")
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[1]).resolve()))
