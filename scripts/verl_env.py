"""verl, Ray and vLLM on a CPU in an environment of its own: python scripts/verl_env.py FOLDER, or make verl-env.

Some 3 GB and eight minutes. A folder that is complete for these requirements is left as it is, so it may be kept from
one machine to the next.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FILES = (ROOT / "requirements-verl.txt", ROOT / "requirements-verl-vllm.txt")
TORCH = "torch==2.13.0"
VLLM = "0.30.0+cpu"


def main(argv: Sequence[str] | None = None) -> int:
    """Build the environment; 0 when it is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args(argv).folder
    mark, digest = folder / ".installed", hashlib.sha256(b"".join(file.read_bytes() for file in FILES)).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return 0
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    python = str(folder / "bin/python")
    pip = [python, "-m", "pip", "install", "--quiet"]
    # torch first: verl's own requirements would bring the newest, for CUDA.
    subprocess.run([*pip, TORCH], check=True)
    subprocess.run([*pip, TORCH, "verl==0.9.1", "-r", str(FILES[0])], check=True)
    subprocess.run([*pip, "--no-deps", "-r", str(FILES[1])], check=True)
    _name_vllm(python)
    if not _starts(python):
        print("verl's environment is built, but Ray or vLLM does not start on this machine.", file=sys.stderr)
        return 1
    mark.write_text(digest)
    return 0


def _starts(python: str) -> bool:
    """Whether Ray starts a process here, and vLLM can be imported: both ask much of a machine."""
    probe = (
        "import ray; ray.init(num_cpus=1, include_dashboard=False); "
        "assert ray.get(ray.remote(lambda: 1).remote()) == 1; ray.shutdown(); import vllm.config"
    )
    try:
        return subprocess.run([python, "-c", probe], timeout=300, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _name_vllm(python: str) -> None:
    """verl asks for the version of a distribution called vllm, which that of a third party for CPUs is not."""
    command = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    folder = Path(site) / f"vllm-{VLLM}.dist-info"
    folder.mkdir(exist_ok=True)
    # "+cpu" is how vLLM finds its platform.
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VLLM}\n")


if __name__ == "__main__":
    sys.exit(main())
