"""Nothing calls home: what training, evaluation and spectra try to reach, on a machine that may."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relax_rl.telemetry import SWITCHES

# Counts whoever asks for an address or opens a connection, and lets nobody.
WATCH = """
import json, socket, sys
asked = []
def refuse(name):
    def call(*given, **more):
        asked.append([name, repr(given)[:200]])
        raise OSError("no network in this test")
    return call
socket.socket.connect = refuse("connect")
socket.socket.connect_ex = refuse("connect_ex")
socket.socket.sendto = refuse("sendto")
socket.getaddrinfo = refuse("getaddrinfo")
socket.gethostbyname = refuse("gethostbyname")
"""


def run(code: str, folder: Path, **environment: str) -> Any:
    dropped = {*SWITCHES, "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE"}
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    words = [sys.executable, "-c", WATCH + code]
    done = subprocess.run(words, cwd=folder, env=kept | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


SWITCHED = """
import os
import huggingface_hub.constants as constants
print(json.dumps([constants.HF_HUB_DISABLE_TELEMETRY, {name: os.environ.get(name) for name in %r}]))
"""


def test_importing_the_package_switches_telemetry_off(tmp_path: Path) -> None:
    switched = SWITCHED % sorted(SWITCHES)
    assert run(f"import relax_rl{switched}", tmp_path) == [True, SWITCHES]
    assert run(f"import huggingface_hub.constants, relax_rl{switched}", tmp_path) == [True, SWITCHES]
    asked_for = {"DO_NOT_TRACK": "0", "HF_HUB_DISABLE_TELEMETRY": "0"}
    assert run(f"import relax_rl{switched}", tmp_path, **asked_for) == [False, SWITCHES | asked_for]


PROGRAM = """
from relax_rl.cli.main import main
small = ["--trainer.max_steps=1", "--trainer.num_generations=4", "--trainer.per_device_train_batch_size=8",
    "--trainer.gradient_accumulation_steps=1", "--trainer.max_completion_length=24", "--dictionary.num_observables=4",
    "--evaluation.num_problems=2", "--evaluation.num_samples=2", "--trainer.save_steps=1"]
codes = [
    main(["train", "countdown", *small, "--output", "run"]),
    main(["eval", "run", "-k", "2", "-n", "2"]),
    main(["spectrum", "tiny", "-n", "2", "--max-completion-length", "24", "--fit-steps", "2", "-o", "spectra"]),
    main(["report", "run"]),
    main(["env"]),
]
import time
time.sleep(1)  # for what is sent by a thread
print()
print(json.dumps([codes, asked]))
"""


@pytest.mark.slow  # a process of its own, which trains
def test_training_evaluation_and_spectra_ask_the_network_for_nothing(tmp_path: Path) -> None:
    assert run(PROGRAM, tmp_path) == [[0] * 5, []]
