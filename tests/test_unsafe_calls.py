"""Nothing that is read is run: no pickle, eval, exec, shell or import by name in the code, but where it is meant.

This test reads the code. `cli/test_trust.py`, `cli/test_remote_code.py`, `cli/test_hostile_files.py` try hostile files.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path for folder in ("src", "evidence", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)

MODULES = {
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "jsonpickle", "joblib"),
    *("runpy", "code", "codeop", "imp", "pty", "commands", "tarfile", "zipfile", "multiprocessing", "ctypes"),
}
BUILTINS = {"eval", "exec", "compile", "__import__", "input", "breakpoint"}
ATTRIBUTES = {
    *("os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("importlib.import_module", "importlib.reload", "importlib.util.spec_from_file_location"),
    *("yaml.unsafe_load", "yaml.full_load", "yaml.load", "pd.read_pickle", "pandas.read_pickle", "torch.jit.load"),
    *(
        "torch.load",
        "torch.hub.load",
        "torch.package.PackageImporter",
        "np.load",
        "numpy.load",
        "shutil.unpack_archive",
    ),
}
PREFIXES = ("os.exec", "os.spawn", "os.posix_spawn", "subprocess.")
FLAGS = {"shell": True, "allow_pickle": True, "trust_remote_code": True, "weights_only": False}

MEANT = {
    ("src/relax_rl/import_path.py", "importlib.import_module"): "what the user names, see tests/cli/test_trust.py",
    ("src/relax_rl/lazy_names.py", "import_module"): "a table of the package's own modules",
    ("src/relax_rl/cli/main.py", "import_module"): "a table of the package's own modules",
    ("src/relax_rl/config/loading.py", "yaml.load"): "with a SafeLoader of its own",
    ("src/relax_rl/rewards/workers/process.py", "subprocess.Popen"): "a Python process, by a list of words",
    ("src/relax_rl/rewards/workers/worker.py", "import ctypes"): "prctl: the worker ends with its parent",
    (
        "src/relax_rl/evaluation/samplers/processes.py",
        "from multiprocessing import get_context",
    ): "forks of itself, which answer through a pipe",
    (
        "src/relax_rl/evaluation/samplers/processes.py",
        "from multiprocessing.connection import Connection, wait",
    ): "the same",
    ("src/relax_rl/workflows/compare/jobs.py", "subprocess.Popen"): "a Python process, by a list of words",
    ("src/relax_rl/latent/contract/files.py", "from pickle import UnpicklingError"): "an error, to be caught",
    ("src/relax_rl/latent/contract/contract.py", "from pickle import UnpicklingError"): "an error, to be caught",
    ("src/relax_rl/latent/recording_files.py", "import pickle"): "an error, to be caught",
    ("src/relax_rl/latent/recording_files.py", "np.load"): "with allow_pickle=False",
    ("src/relax_rl/latent/recording_files.py", "torch.load"): "with weights_only=True",
    ("src/relax_rl/latent/contract/packages.py", "importlib.import_module"): "torchvision, by its name",
    ("src/relax_rl/training/trl/tracked.py", "importlib.import_module"): "trackers and pandas, by their names",
    (
        "src/relax_rl/training/verl/exchange.py",
        "import pickle",
    ): "rows between the processes of a run, as torch sends objects",
    ("src/relax_rl/training/models.py", "from pickle import UnpicklingError"): "an error, to be caught",
    ("evidence/studies.py", "subprocess.run"): "our own modules, by a list of words",
    ("evidence/exploration/starts.py", "subprocess.run"): "our own scripts, by a list of words",
    ("src/relax_rl/training/trl/strategy.py", "importlib.import_module"): "DeepSpeed and vLLM, by their names",
    ("benchmarks/demo.py", "subprocess.run"): "Python, by a list of words",
    ("benchmarks/suite.py", "importlib.import_module"): "a table of the folder's own modules",
    ("benchmarks/startup.py", "subprocess.run"): "Python, by a list of words",
    ("benchmarks/frame/timing.py", "import multiprocessing"): "processes of its own, which answer through a pipe",
    ("benchmarks/frame/timing.py", "from multiprocessing.connection import Connection"): "the same",
    ("benchmarks/frame/history.py", "subprocess.run"): "git, by a list of words",
    ("benchmarks/runs.py", "subprocess.run"): "itself and git, by a list of words",
}


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def name_of(called: ast.expr) -> str:
    """``a.b.c`` as `ast.unparse` writes it, which is slower; ``.c`` of a value without a name."""
    parts = list[str]()
    while isinstance(called, ast.Attribute):
        parts.append(called.attr)
        called = called.value
    return ".".join([called.id if isinstance(called, ast.Name) else "", *reversed(parts)])


def unsafe(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (f"import {name.name}" for name in node.names if name.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield f"from {node.module} import {', '.join(name.name for name in node.names)}"
        elif isinstance(node, ast.Call):
            called = name_of(node.func)
            if called in BUILTINS | ATTRIBUTES or called == "import_module" or called.startswith(PREFIXES):
                yield called
            for word in node.keywords:
                if word.arg in FLAGS and isinstance(word.value, ast.Constant) and word.value.value == FLAGS[word.arg]:
                    yield f"{word.arg}={word.value.value}"


def test_every_use_is_one_that_is_meant() -> None:
    found = {
        (str(path.relative_to(ROOT)), use)
        for path in FILES
        for use in unsafe(tree_of(path))
        if not use.startswith(("subprocess.TimeoutExpired", "subprocess.CalledProcessError"))
    }
    assert found - MEANT.keys() == set()
    assert MEANT.keys() - found == set()  # what is gone is meant no more


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("import pickle", "import pickle"),
        ("from dill import loads", "from dill import loads"),
        ("eval(text)", "eval"),
        ("os.system('x')", "os.system"),
        ("os.execvp('x', [])", "os.execvp"),
        ("subprocess.run('x', shell=True)", "shell=True"),
        ("yaml.load(text)", "yaml.load"),
        ("torch.load(path)", "torch.load"),
        ("read(path, weights_only=False)", "weights_only=False"),
        ("np.load(path, allow_pickle=True)", "allow_pickle=True"),
        ("importlib.import_module(name)", "importlib.import_module"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code=True"),
    ],
)
def test_the_search_finds(code: str, use: str) -> None:
    assert use in set(unsafe(ast.parse(code)))


def test_every_model_and_tokenizer_is_told_whether_code_may_run() -> None:
    """transformers asks on the terminal where it is not told; the package's calls all carry ``**remote_code()``."""
    for path in FILES:
        if "src" not in path.parts:
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and name_of(node.func).endswith((".from_pretrained", ".from_config")):
                told = any(word.arg is None and ast.unparse(word.value) == "remote_code()" for word in node.keywords)
                assert told or name_of(node.func).startswith("PeftModel."), f"{path}:{node.lineno}"


def test_only_the_doors_read_settings_without_asking_for_their_code() -> None:
    """`read_settings` skips the check; whoever builds from what it returns would run code that nobody allowed."""
    users = {
        str(path.relative_to(ROOT / "src/relax_rl"))
        for path in FILES
        if "src" in path.parts and re.search(r"import .*\bread_settings\b", path.read_text("utf-8"))
    }
    assert len(users) == 1
    assert next(iter(users)).startswith("runs")
