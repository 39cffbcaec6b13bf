"""The checker of the documentation finds what is wrong: a sound page passes, and every injected fault is named."""

from __future__ import annotations

import dataclasses
import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import torch

from objectives.batches import random_batch
from relax_rl.objectives import METHODS, build_objective, method_options
from relax_rl.objectives.inputs import HIDDEN_STATES

ROOT = Path(__file__).parent.parent


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


check_docs = _load(ROOT / "scripts" / "check_docs.py")

SOUND = """\
# A page

See [there](docs/other.md#two-words), [here](#a-page), `[not a link](nowhere.md)` and [the web](https://example.org/x).

<!-- [commented out](nowhere.md)
```python
not python
```
-->

```python file=own_reward.py
def longest(completions, answers):
    return [float(len(completion)) for completion in completions]
```

```bash
make test  # a comment
OMP_NUM_THREADS=1 relax eval tiny --task countdown \\
    -k 16 > result.txt && relax report runs/one -o page.html
relax tasks show countdown --task.num_numbers 4
relax --help
```

```python test
number = 2
print(number + 1)
```

```text output
3
```

```python test
assert number == 2
```
"""


def _failures(tmp_path: Path, page: str) -> list[tuple[int, str]]:
    """What the checker says of this README, next to a Makefile and one other page."""
    (tmp_path / "README.md").write_text(page, "utf-8")
    (tmp_path / "Makefile").write_text(".PHONY: test\nVARIABLE := 1\ntest demo: .venv\n\ttrue\n", "utf-8")
    (tmp_path / "docs").mkdir(exist_ok=True)
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## `Two` words\n", "utf-8")
    return [(failure.line, failure.message) for failure in check_docs.check(tmp_path)]


def test_a_sound_page_passes(tmp_path):
    assert _failures(tmp_path, SOUND) == []


@pytest.mark.parametrize(
    ("before", "after", "line", "words"),
    [
        ("docs/other.md#two-words", "docs/others.md", 3, "leads to nothing: there is no docs/others.md"),
        ("#two-words", "#three-words", 3, "names a heading that other.md does not have"),
        ("(#a-page)", "(#another-page)", 3, "names a heading that README.md does not have"),
        ("docs/other.md#two-words", "/etc/hosts", 3, "out of the repository"),
        ("docs/other.md#two-words", "../outside.md", 3, "out of the repository"),
        ("make test", "make tests", 17, "no target 'tests'"),
        ("-k 16", "-k none", 18, "argument -k/--num-samples"),
        ("-k 16", "--kays 16", 18, "unknown option '--kays'"),
        ("relax report", "relax reports", 18, "invalid choice: 'reports'"),
        ("-o page.html", "-o page.html --objective.alpha 1", 18, "takes no setting"),
        ("--task.num_numbers", "--task.numbers", 20, "has no option 'numbers'"),
        ("relax --help", "python scripts/missing.py", 21, "there is no scripts/missing.py"),
        ("relax --help", "relax eval 'tiny", 21, "the shell cannot read this"),
        ("number = 2", "number = = 2", 25, "does not compile"),
        ("number = 2", "number = 1 / 0", 25, "ZeroDivisionError"),
        ("print(number + 1)", "print(number + 2)", 30, "prints this instead: 4"),
        ("assert number == 2", "assert number == 3", 34, "AssertionError"),
    ],
)
def test_an_injected_fault_is_found(tmp_path, before, after, line, words):
    assert SOUND.count(before) == 1
    (failure,) = _failures(tmp_path, SOUND.replace(before, after))
    assert failure[0] == line
    assert words in failure[1]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("relax train countdown --objective.alpha 0 --dry-run", None),
        ("relax train --config.toml true", "unknown key"),
        ("relax train countdown --trainer.max_stepz 3", "did you mean 'trainer.max_steps'"),
        ("relax train countdown --trainer.loss_type dapo", "'trainer.loss_type' has no effect here"),
        ("relax train countdown --objective.alpah 0.1", "did you mean 'alpha'"),
        ("relax train countdowns", "there is no config file or shipped config"),
        ("relax train countdown --verifier own_reward:longest", None),
        ("relax train countdown --verifier own_reward:shortest", "cannot be loaded"),
        ("relax train --resume --output runs/one", None),
        ("torchrun --nproc_per_node 2 -m relax_rl.cli.main train countdown --sede 1", "unknown option '--sede'"),
        ("relax demo --steps many", "argument --steps"),
    ],
)
def test_settings_are_tried_by_the_code_that_would_run_them(tmp_path, command, words):
    found = _failures(tmp_path, SOUND.replace("relax --help", command))
    assert [line for line, _ in found] == ([] if words is None else [21])
    assert words is None or words in found[0][1]


def test_python_that_is_not_marked_is_not_run(tmp_path):
    marker = tmp_path / "ran"
    code = f"```python\nopen({str(marker)!r}, 'w')\n```\n"
    assert _failures(tmp_path, code) == []
    assert not marker.exists()
    assert _failures(tmp_path, code.replace("```python", "```python test")) == []
    assert marker.exists()


def test_fences_and_data(tmp_path):
    assert _failures(tmp_path, "# A\n\n```bash\nmake test\n") == [(3, "this fence is never closed")]
    ((line, message),) = _failures(tmp_path, "# A\n\n```toml\na =\n```\n")
    assert (line, "not valid TOML" in message) == (4, True)
    ((_, message),) = _failures(tmp_path, "```sh\nmake test\n```\n")
    assert "mark this block ```bash" in message
    ((_, message),) = _failures(tmp_path, "```text output\n3\n```\n")
    assert "follows no ```python test block" in message


def test_nothing_is_left_behind(tmp_path):
    before = (Path.cwd(), list(sys.path))
    page = "```python file=own_reward.py\nx = 1\n```\n\n```python test\nimport own_reward\n```\n"
    assert _failures(tmp_path, page) == []
    assert (Path.cwd(), list(sys.path)) == before
    assert "own_reward" not in sys.modules


def test_the_exit_code_and_the_lines_that_people_read(tmp_path, capsys):
    _failures(tmp_path, "# A\n\n[dead](gone.md)\n")
    assert check_docs.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "README.md:3: the link gone.md leads to nothing: there is no gone.md",
        "2 pages, 1 failures",
    ]
    (tmp_path / "README.md").write_text("# A\n", "utf-8")
    assert check_docs.main([str(tmp_path)]) == 0
    (tmp_path / "empty").mkdir()
    assert check_docs.main([str(tmp_path / "empty")]) == 1


def test_every_metric_of_every_objective_is_in_the_table():
    table = (ROOT / "docs" / "reference" / "metrics.md").read_text("utf-8")
    batch = random_batch(prompts=2, group=4, tokens=40)
    batch = dataclasses.replace(batch, mask=torch.ones(2, 4, 40, dtype=torch.bool))
    states, mask = batch.required(HIDDEN_STATES), batch.mask
    dictionary = {"num_observables": 2, "steps": 1, "fit_objective": "relative_residual"}
    for method in METHODS:
        known = method_options(method)
        wanted = {"beta": 0.1, "dictionary": dictionary, "xi": 0.0, "max_completion_length": 40}
        options = {name: value for name, value in wanted.items() if name in known}
        objective = build_objective(method, **options).calibrated(states.flatten(0, 1), mask.flatten(0, 1))
        metrics = objective(batch).metrics
        assert metrics
        assert [name for name in metrics if f"`{name}`" not in table] == []


def test_every_extra_is_on_the_page_that_installs_them():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    named = re.findall(r"^\| `\[(\w+)\]` \|", (ROOT / "docs/start/install.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(extras)


def test_the_readme_stays_short():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert (len(lines) <= 120, [line for line in lines if len(line) > 120]) == (True, [])
