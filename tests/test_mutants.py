"""The tool that breaks the code: what it changes, and that it tells what a test notices from what none does."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.append(str(SCRIPTS))

from mutants.blocks import MODULE, block_places  # noqa: E402
from mutants.coverage import Coverage  # noqa: E402
from mutants.operators import Mutant, mutants_of  # noqa: E402
from mutants.shadow import Shadow  # noqa: E402

TOY = b'''"""Words, 0 and 1."""
LIMIT = 1


def clipped(value: int, high: int = 9) -> int:
    """Of a number."""
    if value > high and high >= 0:
        return high
    return value + LIMIT


def endless(n: int) -> int:
    while n > 0:
        n -= 1
    return abs(n)


def untested(n: int) -> int:
    return n * 2
'''

TESTS = """
from relax_rl.toy import clipped, endless

def test_clipped():
    assert [clipped(value) for value in (3, 9, 12)] == [4, 10, 9]

def test_endless():
    assert endless(2) == 0
"""

DRIVER = """
import json, sys
from pathlib import Path
sys.path.insert(0, {scripts!r})
from mutants.coverage import Coverage, collect, test_files
from mutants.operators import mutants_of
from mutants.runner import Limits, run

class Short(Limits):
    def cpu_seconds(self, expected):
        return 2

root, work = Path({root!r}), Path({root!r}) / "work"
work.mkdir()
source = (root / "src/relax_rl/toy.py").read_bytes()
wanted = {{(2, "0"), (7, "(value >= high)"), (7, "(high > 0)"), (14, "pass"), (19, "(n / 2)")}}
chosen = [mutant for mutant in mutants_of("toy.py", source) if (mutant.line, mutant.after) in wanted]
coverage = Coverage(collect(root, work, test_files(root, ["tests"]), 2, fresh=False))
rows = []
run(root, work, chosen, coverage, 2, rows.append, Short())
(root / "rows.json").write_text(json.dumps(rows))
"""


def changes(source: bytes) -> set[tuple[int, str, str]]:
    return {(mutant.line, mutant.before, mutant.after) for mutant in mutants_of("toy.py", source)}


def test_boundaries_arithmetic_logic_and_constants_are_changed_and_words_are_not() -> None:
    found = changes(TOY)
    assert {
        (2, "1", "0"),
        (7, "value > high", "(value >= high)"),
        (7, "high >= 0", "(high > 0)"),
        (7, "value > high and high >= 0", "(value > high or high >= 0)"),
        (9, "value + LIMIT", "(value - LIMIT)"),
        (9, "value + LIMIT", "0"),
        (14, "n -= 1", "pass"),
    } <= found
    assert not [change for change in found if change[0] in (1, 5, 6)]


def test_calls_lose_a_keyword_a_clamp_or_a_branch() -> None:
    found = changes(
        b"y = x.var(0, unbiased=False).clamp(min=0)\nz = torch.where(a, b, c)\nwarnings.warn('0', stacklevel=1)\n"
        b"u = zip(a, b, strict=True)\n"
    )
    assert (1, "x.var(0, unbiased=False)", "x.var(0)") in found
    assert (1, "x.var(0, unbiased=False).clamp(min=0)", "(x.var(0, unbiased=False))") in found
    assert {(2, "torch.where(a, b, c)", "(b)"), (2, "torch.where(a, b, c)", "(c)")} <= found
    assert not [change for change in found if change[0] >= 3]


def test_a_mutant_knows_its_block_and_what_is_no_change() -> None:
    blocks = {(mutant.line, mutant.before): mutant.block for mutant in mutants_of("toy.py", TOY)}
    assert block_places(ast.parse(TOY))[0] == (6, 9)
    assert (blocks[9, "value + LIMIT"], blocks[14, "n -= 1"], blocks[2, "1"]) == (6, 14, MODULE)
    same = Mutant("toy.py", 1, "sign", "x", "(x)", 0, 1, MODULE)
    assert not same.is_change(b"x = 1\n")
    assert not Mutant("toy.py", 1, "sign", "x", "0", 0, 1, MODULE).is_change(b"x = 1\n")


def test_a_shadow_is_changed_and_restored(tmp_path: Path) -> None:
    (tmp_path / "src/relax_rl").mkdir(parents=True)
    file = tmp_path / "src/relax_rl/toy.py"
    file.write_bytes(b"answer = 1\n")
    (tmp_path / "src/relax_rl/__init__.py").touch()
    shadow = Shadow(tmp_path / "shadow", tmp_path / "src")

    def answer() -> str:
        code = "from relax_rl.toy import answer; print(answer)"
        environment = {"PYTHONPATH": str(shadow.path)}
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout

    for text in (b"answer = 2\n", b"answer = 3\n"):  # of one size, within a second
        before = shadow.write("toy.py", text)
        assert answer().encode() == text[9:]
        shadow.restore("toy.py", before)
        assert answer() == "1\n"
    assert file.read_bytes() == b"answer = 1\n"


@pytest.mark.slow
def test_what_a_test_notices_is_killed_and_the_rest_survives(tmp_path: Path) -> None:
    (tmp_path / "src/relax_rl").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").touch()
    (tmp_path / "src/relax_rl/toy.py").write_bytes(TOY)
    (tmp_path / "src/relax_rl/__init__.py").touch()
    (tmp_path / "tests/test_toy.py").write_text(TESTS)
    driver = DRIVER.format(scripts=str(SCRIPTS), root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", driver], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    outcomes = {(row["line"], row["after"]): (row["outcome"], row["by"]) for row in rows}
    assert outcomes[2, "0"] == ("killed", "tests/test_toy.py::test_clipped")
    assert outcomes[7, "(value >= high)"][0] == "killed"
    assert outcomes[14, "pass"] == ("timed out", "")
    assert outcomes[7, "(high > 0)"][0] == "survived"
    assert outcomes[19, "(n / 2)"] == ("survived", "no test runs it")


@pytest.mark.slow
def test_a_sample_is_the_same_every_time_and_of_every_kind() -> None:
    spec = importlib.util.spec_from_file_location("mutants_script", SCRIPTS / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    first, again, other = (script.chosen("statistics", 20, seed) for seed in (3, 3, 4))
    assert first == again != other
    assert len({mutant.key for mutant in first}) == 20
    assert len({mutant.kind for mutant in first}) == 10
    killed = {mutant.key: {"outcome": "killed"} for mutant in first}
    assert script.summary({"statistics": first}, killed) == 0
    survived = {mutant.key: {"outcome": "survived", "by": "", **vars(mutant)} for mutant in first[:2]}
    assert script.summary({"statistics": first}, killed | survived) == 1
    inner = script.chosen("rewards", 20, 3, ("rewards/mathematics/", "rewards/base.py"))
    assert not [mutant for mutant in inner if mutant.path.startswith(("rewards/mathematics", "rewards/base"))]
    assert {mutant.path.rpartition("/")[0] for mutant in script.chosen("rewards/workers", 9, 0)} == {"rewards/workers"}


def test_a_third_of_the_time_goes_to_the_cheap_tests_and_the_rest_to_each_file_in_turn() -> None:
    def record(seconds: float, *blocks: int) -> dict[str, object]:
        return {"seconds": seconds, "blocks": [["toy.py", block] for block in blocks]}

    tests = {
        "a::cheap": record(1, 6),
        "a::cheaper": record(0.5, 6),
        "a::thorough": record(2, 6, 7, 8),
        "b::dear": record(9, 6, 7),
        "b::other": record(4, 6),
    }
    coverage = Coverage([{"by_processes": [["toy.py", 9]], "tests": tests}])

    def chosen(block: int, budget: float) -> set[str]:
        return {test.node for test in coverage.tests("toy.py", block, budget)}

    assert chosen(6, 1.6) == {"a::cheaper", "a::cheap"}
    assert chosen(6, 4.5) == {"a::cheaper", "a::cheap", "a::thorough"}
    assert chosen(6, 13) == {"a::cheaper", "a::cheap", "a::thorough", "b::other"}
    assert chosen(6, 17) == {"a::cheaper", "a::cheap", "a::thorough", "b::other", "b::dear"}
    assert chosen(7, 1) == {"a::thorough"}
    assert len(chosen(9, 100)) == len(chosen(MODULE, 100)) == 5
    assert chosen(5, 100) == set()
    assert coverage.tests("toy.py", 6, 100)[0].node == "a::cheaper"
