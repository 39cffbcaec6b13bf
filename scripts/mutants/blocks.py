"""Which blocks of a file a test runs: the bodies of functions, branches and loops, each known by its first line."""

from __future__ import annotations

import ast

__all__ = ["HITS_MODULE", "MODULE", "block_places", "instrumented"]

MODULE = 0
"""The block of what runs on import."""
HITS_MODULE = "relax_mutants_hits"

HITS_SOURCE = """
import os

seen = set()
_path, _owner = os.environ.get("MUTANTS_HITS"), int(os.environ.get("MUTANTS_OWNER", "0"))


def hit(file, block):
    if (file, block) not in seen:
        seen.add((file, block))
        if os.getpid() != _owner and _path:
            # A process of a test's own: killed or not, what it ran is on the disk.
            with open(_path, "a") as log:
                log.write(f"{file} {block}\\n")
"""
"""A module beside the package, which instrumented files call."""


def block_places(tree: ast.AST) -> list[tuple[int, int]]:
    """First and last line of each block that does not run on import."""
    return [(body[0].lineno, max(part.end_lineno or part.lineno for part in body)) for body in _bodies(tree)]


def instrumented(path: str, source: bytes) -> bytes:
    """The file with a call at the head of each block that says so."""
    tree = ast.parse(source)
    for body in _bodies(tree):
        call = ast.parse(f"_mutants_hit({path!r}, {body[0].lineno})").body
        body[1 if _is_docstring(body[0]) else 0 : 1 if _is_docstring(body[0]) else 0] = call
    head = 0
    while head < len(tree.body) and (_is_docstring(tree.body[head]) or _is_future(tree.body[head])):
        head += 1
    tree.body[head:head] = ast.parse(f"from {HITS_MODULE} import hit as _mutants_hit").body
    return ast.unparse(tree).encode()


def _bodies(tree: ast.AST) -> list[list[ast.stmt]]:
    found: list[list[ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node.body)
        elif isinstance(node, ast.If | ast.For | ast.While):
            found += [body for body in (node.body, node.orelse) if body]
        elif isinstance(node, ast.ExceptHandler | ast.match_case):
            found.append(node.body)
    return found


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _is_future(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"
