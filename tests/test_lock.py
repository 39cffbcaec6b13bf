"""The lock that CI installs from: the versions of constraints.txt, all with digests, from no index in particular."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ["requirements.lock", "requirements-smollm2.lock"]
IN_FOLDERS = ["requirements-trl-previous.lock"]
BUILT = ["requirements-deepspeed.lock"]
"""Published as source only, and built against the packages of the first lock."""
# Needed to build the package, or on other systems than Linux.
BESIDE_CONSTRAINTS = {
    "setuptools",
    "hatchling",
    "editables",
    "trove-classifiers",
    "tomlkit",
    "colorama",
    "httpx2-jsfetch",
}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> list[str]:
    text = re.sub(r"^#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize("lock", LOCKS + IN_FOLDERS + BUILT)
def test_every_package_has_a_version_and_digests_and_no_place(lock: str) -> None:
    for entry in entries(lock):
        assert re.match(r"^[A-Za-z0-9._-]+==[A-Za-z0-9.+]+( ; [^#]+?)?( +--hash=sha256:[0-9a-f]{64})+$", entry), entry
    assert "://" not in (ROOT / lock).read_text()


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    locked = versions([re.split(r"[ ;]", entry)[0] for entry in entries(LOCKS[0])])
    pinned = versions((ROOT / "constraints.txt").read_text().split())
    assert pinned.pop("torch")  # of which every index has another build
    assert pinned == {name: version for name, version in locked.items() if name not in BESIDE_CONSTRAINTS}


def versions(lines: list[str]) -> dict[str, str]:
    pairs = [line.partition("==")[::2] for line in lines]
    return {canonical(name): version for name, version in pairs}


def test_the_install_checks_the_digests() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "--require-hashes --no-deps --only-binary :all:" in makefile
    assert all(f"$(LOCKED) -r {lock}" in makefile for lock in LOCKS)
    assert all(f"$(TRL_PREVIOUS) -r {lock}" in makefile for lock in IN_FOLDERS)
    assert all(
        f"--require-hashes --no-deps --no-build-isolation --target $(DEEPSPEED) -r {lock}" in makefile for lock in BUILT
    )
    unlocked = [line for line in makefile.splitlines() if "pip install" in line and "--require-hashes" not in line]
    assert [line.split("--quiet ")[1] for line in unlocked] == [
        "uv",
        # As for torch: which build an index offers depends on the machine.
        "--no-deps --target $(VISION) torchvision==0.28.0",
        # Third-party builds for a CPU, in an environment of tests that has no lock.
        "--no-deps --target $(VLLM_TRL) -r requirements-vllm-trl.txt",
        "-c constraints.txt torch==2.13.0",
        "--no-deps --no-build-isolation -e .",
        "uv",
    ]
