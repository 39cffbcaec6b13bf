"""Check README.md, CONTRIBUTING.md, CHANGELOG.md and docs/**/*.md: what they link to is there, what they show works.

    python scripts/check_docs.py [ROOT]

- Every relative link, and every anchor into a Markdown page, resolves. Links to the web are not followed.
- In ```bash blocks, `make` targets and `python` scripts exist, and a `relax` command is taken by the command line's own
  parser and, for its settings, by the code that would run it: config, task, verifier, objective, TRL's options.
- ```python blocks compile. Those marked ```python test run, in order, sharing names within a page; a ```text output
  block after one holds exactly what it prints. ```toml and ```json blocks parse.
- A block marked file=NAME is that file, in the folder where the page's commands and code are tried.

Prints file:line for each failure and exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shlex
import sys
import tempfile
import textwrap
import tomllib
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote

__all__ = ["Failure", "Page", "check", "main"]

_FENCE = re.compile(r"^(\s*)(`{3,}|~{3,})\s*(.*?)\s*$")
_HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*$")
_LINK = re.compile(r"""\]\(\s*<?([^)\s>]+)|^\s*\[[^\]]+\]:\s+(\S+)|\b(?:src|href)="([^"]+)\"""")
_ANCHOR = re.compile(r"""<a\s+(?:id|name)="([^"]+)\"""")
_CODE = re.compile(r"(`+).+?\1")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_TARGET = re.compile(r"^([A-Za-z0-9_. -]+?)\s*:(?!=)", re.MULTILINE)
_PRINTING = {"recipes"}
"""Verbs that only print what is in the package: they run as they are."""
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")


@dataclass(frozen=True)
class Failure:
    """Something in a page that is not so."""

    path: Path
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Block:
    """A fenced block: the words after the fence, the text, and the line that the text starts on."""

    words: tuple[str, ...]
    text: str
    line: int

    @property
    def language(self) -> str:
        return self.words[0].lower() if self.words else ""

    @property
    def file_name(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)


@dataclass
class Page:
    """A Markdown page, parted into fenced blocks and prose; what stands in HTML comments is in neither."""

    path: Path
    blocks: list[Block] = field(default_factory=list)
    prose: list[tuple[int, str]] = field(default_factory=list)
    unclosed: int | None = None
    """Line of a fence without an end."""

    @classmethod
    def read(cls, path: Path) -> Page:
        page = cls(path)
        rest = iter(enumerate(path.read_text("utf-8").splitlines(), start=1))
        is_comment = False
        for number, line in rest:
            line, is_comment = _without_comments(line, is_comment)
            fence = None if is_comment else _FENCE.match(line)
            if fence is None:
                page.prose.append((number, line))
            elif not page._take_block(rest, number, fence):
                page.unclosed = number
        return page

    def _take_block(self, rest: Iterator[tuple[int, str]], number: int, fence: re.Match[str]) -> bool:
        _, mark, info = fence.groups()
        lines = []
        for _, line in rest:
            if re.fullmatch(rf"\s*{re.escape(mark[0])}{{{len(mark)},}}\s*", line):
                text = textwrap.dedent("\n".join(lines)) + "\n"
                self.blocks.append(Block(tuple(info.split()), text, number + 1))
                return True
            lines.append(line)
        return False

    @property
    def anchors(self) -> set[str]:
        """What can stand after ``#`` in a link to this page, by GitHub's rule for headings."""
        found: set[str] = set()
        for _, line in self.prose:
            found.update(_ANCHOR.findall(line))
            heading = _HEADING.match(line)
            if heading is None:
                continue
            words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number = 0
            while (name := f"{slug}-{number}" if number else slug) in found:
                number += 1
            found.add(name)
        return found


def _without_comments(line: str, is_comment: bool) -> tuple[str, bool]:
    kept = ""
    while line:
        before, mark, line = line.partition("-->" if is_comment else "<!--")
        kept += "" if is_comment else before
        is_comment = is_comment != bool(mark)
    return kept, is_comment


def pages_of(root: Path) -> list[Path]:
    """The pages that are checked, those that are there of README.md, CONTRIBUTING.md, CHANGELOG.md, docs/**/*.md."""
    top = [root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    return [path for path in top if path.is_file()] + sorted((root / "docs").rglob("*.md"))


def check(root: Path) -> list[Failure]:
    """Everything that is wrong in the pages under a repository's root, page by page."""
    failures: list[Failure] = []
    makefile = root / "Makefile"
    rules = _TARGET.findall(makefile.read_text("utf-8")) if makefile.is_file() else []
    targets = {name for names in rules for name in names.split() if not name.startswith(".")}
    for path in pages_of(root):
        page = Page.read(path)
        found = [*_check_links(page, root)]
        if page.unclosed is not None:
            found.append(Failure(path, page.unclosed, "this fence is never closed"))
        with _workplace(page, root):
            found += [*_check_commands(page, root, targets), *_check_data(page), *_check_code(page)]
        failures += sorted(found, key=lambda failure: failure.line)
    return failures


# Links ----------------------------------------------------------------------------------------------------------------


def _check_links(page: Page, root: Path) -> Iterator[Failure]:
    for number, line in page.prose:
        for match in _LINK.finditer(_CODE.sub("", line)):
            message = _link_fault(next(filter(None, match.groups())), page, root)
            if message:
                yield Failure(page.path, number, message)


def _link_fault(link: str, page: Page, root: Path) -> str | None:
    if _SCHEME.match(link):
        return None
    name, _, anchor = unquote(link).partition("#")
    target = (page.path.parent / name).resolve() if name else page.path.resolve()
    if name.startswith("/") or not target.is_relative_to(root.resolve()):
        return f"the link {link} leads out of the repository"
    if not target.exists():
        return f"the link {link} leads to nothing: there is no {target.relative_to(root.resolve())}"
    if anchor and target.suffix == ".md" and anchor not in Page.read(target).anchors:
        return f"the link {link} names a heading that {target.name} does not have"
    return None


# Commands -------------------------------------------------------------------------------------------------------------


def _check_commands(page: Page, root: Path, targets: set[str]) -> Iterator[Failure]:
    for block in page.blocks:
        if block.language not in ("bash", "sh", "shell", "console"):
            continue
        if block.language != "bash":
            yield Failure(page.path, block.line - 1, f"mark this block ```bash, not ```{block.language}")
        for number, line in _logical_lines(block):
            try:
                commands = list(_simple_commands(line))
            except ValueError as error:
                yield Failure(page.path, number, f"the shell cannot read this: {error}")
                continue
            for words in commands:
                message = _command_fault(words, root, targets)
                if message:
                    yield Failure(page.path, number, f"{shlex.join(words)}: {message}")


def _logical_lines(block: Block) -> Iterator[tuple[int, str]]:
    """The block's lines, those that end in a backslash joined with the next."""
    pending, start = "", block.line
    for number, line in enumerate(block.text.splitlines(), start=block.line):
        start = start if pending else number
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
        else:
            yield start, pending
            pending = ""
    if pending:
        yield start, pending


def _simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without redirections and what is put into the environment.

    Raises:
        ValueError: A quotation without an end.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    tokens = iter([*lexer, ";"])
    for token in tokens:
        if set(token) <= set("<>"):
            next(tokens)
        elif set(token) <= set("();&|"):
            if words:
                yield words
            words = []
        elif words or not _ASSIGNMENT.match(token):
            words.append(token)


def _command_fault(words: Sequence[str], root: Path, targets: set[str]) -> str | None:
    program = Path(words[0]).name
    if program == "relax" or "relax_rl.cli.main" in words:  # torchrun -m relax_rl.cli.main train ...
        return _relax_fault(words[1 if program == "relax" else words.index("relax_rl.cli.main") + 1 :])
    if program == "make":
        asked = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        unknown = [word for word in asked if word not in targets]
        return f"the Makefile has no target '{unknown[0]}'" if unknown else None
    if program.startswith("python") and len(words) > 1 and words[1].endswith(".py"):
        is_there = (root / words[1]).is_file() or Path(words[1]).is_file()
        return None if is_there else f"there is no {words[1]}"
    return None


def _relax_fault(words: Sequence[str]) -> str | None:
    """What the command line says against these words, with verbs that check their settings and do no work."""
    from relax_rl.cli.main import VERBS, main

    quiet = contextlib.redirect_stdout(io.StringIO())
    with contextlib.ExitStack() as rehearsed, quiet, contextlib.redirect_stderr(io.StringIO()) as said:
        for name in set(VERBS) - _PRINTING:
            rehearsed.enter_context(patch(f"relax_rl.cli.{name.replace('-', '_')}.run", _rehearsal(name)))
        try:
            code = main(list(words))
        except SystemExit as done:  # --help and --version
            code = int(done.code or 0)
    return None if code == 0 else said.getvalue().strip()


def _rehearsal(name: str) -> Any:
    def run(arguments: argparse.Namespace, settings: Sequence[str]) -> int:
        if name == "train":
            words = [*arguments.settings, *settings]
            _rehearse_training(arguments.config, words, arguments.allow_code, elsewhere=arguments.hardware is not None)
        elif name == "demo":
            _rehearse_training("countdown", list(settings))
        elif name == "compare":
            _rehearse_comparison(arguments, settings)
        elif name == "methods":
            _rehearse_method(arguments.name)
        else:
            shown = getattr(arguments, "images", None)
            of_images = None if shown is None or Path(shown).suffix else shown
            named = getattr(arguments, "task", getattr(arguments, "name", None))
            _rehearse_task(of_images if named is None else named, settings)
        return 0

    return run


def _rehearse_training(source: Any, words: list[str], allow_code: Sequence[str] = (), elsewhere: bool = False) -> None:
    """Everything of a run that needs neither its data nor its model; raises what the run would.

    What is asked about hardware ``elsewhere`` needs no package of that hardware here.
    """
    from relax_rl.config import load_config
    from relax_rl.workflows.recipe import build_recipe
    from relax_rl.workflows.train import task_and_rewards

    config = load_config(source, words, allow_code=allow_code)
    task_and_rewards(config)
    if not elsewhere:
        build_recipe(config, Path("checkpoints"), on_cpu=True)


def _rehearse_method(name: str | None) -> None:
    from relax_rl.workflows.methods import method_entries, method_entry

    method_entries() if name is None else method_entry(name)


def _rehearse_comparison(arguments: argparse.Namespace, settings: Sequence[str]) -> None:
    from relax_rl.workflows.compare.plan import parse_methods, parse_seeds, plan_runs

    allowed, words = arguments.allow_code, [*arguments.settings, *settings]
    methods, seeds = parse_methods(arguments.methods, allowed), parse_seeds(arguments.seeds)[:1]
    for planned in plan_runs(arguments.config, words, methods, seeds, Path("runs"), allowed):
        _rehearse_training(planned.config, [])


def _rehearse_task(name: str | None, settings: Sequence[str]) -> None:
    from relax_rl.cli.arguments import refuse_settings
    from relax_rl.config import task_options
    from relax_rl.tasks.registry import build_task

    if name is None:
        # A run that is evaluated brings its own task, whose options may be changed; none is known here.
        refuse_settings([word for word in settings if not word.startswith("--task.")], "this command")
    else:
        build_task(name, **task_options(settings))


# Code -----------------------------------------------------------------------------------------------------------------


def _check_code(page: Page) -> Iterator[Failure]:
    names: dict[str, Any] = {"__name__": "__main__"}
    printed: str | None = None
    for block in page.blocks:
        if block.words[:2] == ("text", "output"):
            if printed is None:
                yield Failure(page.path, block.line, "this output follows no ```python test block")
            elif printed.split() != block.text.split():
                yield Failure(page.path, block.line, f"the code before it prints this instead: {printed.strip()}")
        printed = None
        if block.language == "python":
            with contextlib.redirect_stdout(io.StringIO()) as said:
                failure = _python_fault(page, block, names)
            # One fault, one failure: of code that stopped, the output is not looked at.
            printed = said.getvalue() if "test" in block.words else None
            if failure is not None:
                yield failure
                return


def _python_fault(page: Page, block: Block, names: dict[str, Any]) -> Failure | None:
    """Compile, and run if it is marked so, with the names of the blocks before it."""
    try:
        code = compile("\n" * (block.line - 1) + block.text, str(page.path), "exec", dont_inherit=True)
        if "test" in block.words:
            exec(code, names)
    except SyntaxError as error:
        return Failure(page.path, error.lineno or block.line, f"this Python does not compile: {error.msg}")
    except Exception as error:
        return Failure(page.path, _line_in(page, error, block), f"{type(error).__name__}: {error}")
    return None


def _line_in(page: Page, error: Exception, block: Block) -> int:
    """The last line of the page that the error passed through."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(page.path)]
    return (lines[-1] if lines else None) or block.line


def _check_data(page: Page) -> Iterator[Failure]:
    parsers = {"toml": tomllib.loads, "json": json.loads}
    for block in page.blocks:
        if block.language in parsers:
            try:
                parsers[block.language](block.text)
            except ValueError as error:
                yield Failure(page.path, block.line, f"this is not valid {block.language.upper()}: {error}")


@contextlib.contextmanager
def _workplace(page: Page, root: Path) -> Iterator[None]:
    """Inside, the current folder is a fresh one with the examples of the repository and the files of the page.

    Modules imported from it are forgotten.
    """
    before, path = Path.cwd(), list(sys.path)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        if (root / "examples").is_dir():
            os.symlink(root / "examples", folder / "examples")
        for block in page.blocks:
            if block.file_name:
                (folder / block.file_name).write_text(block.text, "utf-8")
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            os.chdir(before)
            sys.path[:] = path
            for key, module in list(sys.modules.items()):
                if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
                    del sys.modules[key]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 if every page is sound, 1 otherwise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(__file__).parent.parent, help="default: this one")
    root: Path = parser.parse_args(argv).root.resolve()
    sys.path.append(str(root))  # as for a reader at the root of the repository, where `evidence` is a package
    pages = pages_of(root)
    failures = check(root)
    for failure in failures:
        print(Failure(failure.path.relative_to(root), failure.line, failure.message))
    print(f"{len(pages)} pages, {len(failures)} failures")
    return 1 if failures or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
