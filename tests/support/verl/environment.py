"""Where verl's environment is, and a process in it."""

import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


def verl_python() -> Path | None:
    """The Python of `make verl-env`; VERL_ENV names the folder, as there."""
    kept = Path(os.environ.get("RELAX_ENVIRONMENTS") or ROOT / ".environments")
    folder = Path(os.environ.get("VERL_ENV") or kept / "verl")
    return folder / "bin/python" if (folder / ".installed").exists() else None


ABSENT = "verl has an environment of its own, which is not there; run `make verl-env`, or name it by VERL_ENV"


def variables(**more: str) -> dict[str, str]:
    """The environment of a process of verl on a CPU."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    own = {
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": "support.verl.cpu",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    return {**os.environ, **own, **more}


def in_verl(arguments: list[str], timeout: float, **more: str) -> subprocess.CompletedProcess[str]:
    """Run verl's Python; the output of both streams is in ``stdout``."""
    command = [str(verl_python()), *arguments]
    return subprocess.run(
        command, env=variables(**more), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout
    )
