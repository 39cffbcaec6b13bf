"""The English in Python files: docstrings, help texts, error sentences, comments and identifiers.

Nothing is imported: files are parsed. An f-string's values are shown as ``{...}``.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ERRORS", "Words", "attribute_docstrings", "identifiers", "words_of"]

ERRORS = ("ConfigError", "DataError", "DependencyError", "ModelError", "NumericalError", "RelaxError", "RunError")
"""The errors whose sentences users read."""
_HELP = ("help", "description", "epilog")


@dataclass(frozen=True)
class Words:
    """One text in a file.

    Attributes:
        kind: "docstring", "help", "error" or "comment".
        text: the words, without the program around them.
        line: line that the text starts on.
        error: class of the error; "" for the other kinds.
    """

    kind: str
    text: str
    line: int
    error: str = ""


def words_of(path: Path) -> list[Words]:
    """All texts of a file, in the order of its lines."""
    source = path.read_text("utf-8")
    tree = ast.parse(source)
    found = [*_docstrings(tree), *_help_texts(tree), *_errors(tree), *_comments(source)]
    return sorted(found, key=lambda words: words.line)


def attribute_docstrings(path: Path) -> dict[tuple[str, str], str]:
    """The string below each annotated attribute of a file's classes, by (class, attribute)."""
    found: dict[tuple[str, str], str] = {}
    for kind in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(kind, ast.ClassDef):
            for statement, below in zip(kind.body, kind.body[1:], strict=False):
                match statement, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        found[kind.name, name] = text
                    case _:
                        pass
    return found


def identifiers(path: Path) -> list[tuple[str, int]]:
    """Each name that a file defines (functions, classes, parameters, variables, attributes), with its line."""
    found: list[tuple[str, int]] = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.append((node.name, node.lineno))
            case ast.arg():
                found.append((node.arg, node.lineno))
            case ast.Name(ctx=ast.Store()):
                found.append((node.id, node.lineno))
            case ast.Attribute(ctx=ast.Store()):
                found.append((node.attr, node.lineno))
            case _:
                pass
    return found


def _docstrings(tree: ast.Module) -> Iterator[Words]:
    for node in ast.walk(tree):
        match node:
            case ast.Module(body=body) | ast.ClassDef(body=body) | ast.FunctionDef(body=body):
                for statement in body:
                    match statement:
                        case ast.Expr(value=ast.Constant(value=str(text))):
                            yield Words("docstring", text, statement.lineno)
                        case _:
                            pass
            case _:
                pass


def _help_texts(tree: ast.Module) -> Iterator[Words]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(keywords=keywords):
                for keyword in keywords:
                    if keyword.arg in _HELP and (text := _text(keyword.value)):
                        yield Words("help", text, keyword.value.lineno)
            case ast.Assign(targets=[ast.Name(id=("CORE" | "ADVANCED"))], value=ast.Dict(values=values)):
                yield from (Words("help", text, value.lineno) for value in values if (text := _text(value)))
            case _:
                pass


def _errors(tree: ast.Module) -> Iterator[Words]:
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name), args=[first, *_]) if name in ERRORS:
                if text := _text(first):
                    yield Words("error", text, node.lineno, name)
            case _:
                pass


def _text(node: ast.expr) -> str:
    """A string as a reader would see it; "" where it is made elsewhere."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=values):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "{...}" for part in values)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left) + _text(right)
        case _:
            return ""


def _comments(source: str) -> Iterator[Words]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith(("#!", "# noqa", "# type", "# pyright")):
            yield Words("comment", token.string.lstrip("# "), token.start[0])
