"""Which small changes are made to a file: boundaries, arithmetic, logic, 0 and 1, and what is left out."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from mutants.blocks import MODULE, block_places

__all__ = ["Mutant", "mutants_of"]

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
UNWRAPPED = frozenset(
    {
        "clamp",
        "clamp_min",
        "clamp_max",
        "masked_fill",
        "detach",
        "abs",
        "square",
        "sqrt",
        "exp",
        "log",
        "sorted",
        "strip",
        "lower",
        "casefold",
        "rstrip",
        "removeprefix",
        "flip",
        "conj",
        "nan_to_num",
    }
)
"""Methods whose call is replaced by what they are called on."""
INERT_KEYWORDS = frozenset(
    {
        "stacklevel",
        "device",
        "encoding",
        "errors",
        "strict",
        "exist_ok",
        "parents",
        "indent",
        "sort_keys",
        "daemon",
        "thread_name_prefix",
        "driver",
        "check",
        "repr",
        "compare",
        "frozen",
        "chunk_size",
        "rel_tol",
        "title",
    }
)
"""Keywords that are neither dropped nor changed: what they say is words, speed, or a check of what cannot happen."""
SKIPPED_FUNCTIONS = frozenset({"__repr__", "__str__"})
SKIPPED_NAMES = frozenset({"__all__", "__slots__"})


@dataclass(frozen=True)
class Mutant:
    """One change of one file."""

    path: str
    """Of the file, below the package."""
    line: int
    kind: str
    before: str
    after: str
    start: int
    """Byte offsets of what is replaced."""
    end: int
    block: int
    """The block that it is in, as `blocks` numbers them."""
    occurrence: int = 0
    """How many of the same stand before it in the file."""

    @property
    def key(self) -> str:
        """The same wherever in its file it stands, so that an edit elsewhere leaves outcomes and samples alone."""
        text = f"{self.path} {self.kind} {self.before} {self.after} {self.occurrence}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def applied(self, source: bytes) -> bytes:
        """The file with the change in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]

    def is_change(self, source: bytes) -> bool:
        """Whether the changed file compiles, to something else."""
        try:
            return ast.dump(ast.parse(self.applied(source))) != ast.dump(ast.parse(source))
        except (SyntaxError, ValueError):
            return False


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """All changes of a file, in order of their place; whether one is a change at all, `Mutant.is_change` says."""
    visitor = _Visitor(path, source)
    visitor.visit(ast.parse(source))
    found = sorted(visitor.found, key=lambda mutant: (mutant.start, mutant.end, mutant.kind, mutant.after))
    seen = Counter[tuple[str, str, str]]()
    for place, mutant in enumerate(found):
        same = (mutant.kind, mutant.before, mutant.after)
        found[place] = replace(mutant, occurrence=seen[same])
        seen[same] += 1
    return found


class _Visitor(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.found: list[Mutant] = []
        self._lines = [0]
        for line in source.split(b"\n"):
            self._lines.append(self._lines[-1] + len(line) + 1)
        self._blocks = block_places(ast.parse(source))
        self._returns: list[str] = []

    def visit(self, node: ast.AST) -> None:
        if self._is_skipped(node):
            return
        for kind, after in _changes(node):
            self._add(node, kind, after)
        if isinstance(node, ast.Return) and node.value is not None and self._returns:
            for kind, after in _changed_returns(node.value, self._returns[-1]):
                self._add(node.value, kind, after)
        is_function = isinstance(node, ast.FunctionDef)
        if is_function:
            self._returns.append("" if node.returns is None else ast.unparse(node.returns))
        for child in _children(node):
            self.visit(child)
        if is_function:
            self._returns.pop()

    def _add(self, node: ast.AST, kind: str, after: str) -> None:
        line, end_line = node.lineno, node.end_lineno  # type: ignore[attr-defined]
        start, end = self._lines[line - 1] + node.col_offset, self._lines[end_line - 1] + node.end_col_offset  # type: ignore[attr-defined]
        before = self.source[start:end].decode()
        self.found.append(Mutant(self.path, line, kind, before, after, start, end, self._block(line)))

    def _block(self, line: int) -> int:
        inside = [(end - start, start) for start, end in self._blocks if start <= line <= end]
        return min(inside)[1] if inside else MODULE

    def _is_skipped(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Assign):
            return any(isinstance(target, ast.Name) and target.id in SKIPPED_NAMES for target in node.targets)
        if isinstance(node, ast.FunctionDef):
            return node.name in SKIPPED_FUNCTIONS
        # The places of what stands in a formatted string are not known before Python 3.12, and messages are words.
        if isinstance(node, ast.keyword):
            return node.arg in INERT_KEYWORDS
        return isinstance(node, ast.JoinedStr | ast.Raise | ast.Assert | ast.Import | ast.ImportFrom) or _is_words(node)


def _is_words(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in ("warn", "warn_once", "debug", "info")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "ctx", "ops", "op", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _changes(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Kinds and texts of what takes the place of a node."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        changed = ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]], node.comparators)
        yield "comparison", f"({ast.unparse(changed)})"
    elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC and not _is_text(node):
        changed = ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        yield "arithmetic", f"({ast.unparse(changed)})"
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield "logic", f"({ast.unparse(ast.BoolOp(other, node.values))})"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert | ast.USub):
        if not isinstance(node.operand, ast.Constant):
            yield "sign", f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Constant):
        yield from _changed_constant(node.value)
    elif isinstance(node, ast.Call):
        yield from _changed_call(node)
    elif isinstance(node, ast.IfExp):
        yield "branch", f"({ast.unparse(node.body)})"
        yield "branch", f"({ast.unparse(node.orelse)})"
    elif isinstance(node, ast.AugAssign | ast.Continue | ast.Break) or _is_call_statement(node):
        yield "removed statement", "pass"


def _changed_constant(value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, bool):
        yield "constant", str(not value)
    elif isinstance(value, int | float) and value in (0, 1):
        yield "constant", repr(type(value)(1 - value))


def _changed_call(node: ast.Call) -> Iterator[tuple[str, str]]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in INERT_KEYWORDS:
            rest = [*node.keywords[:place], *node.keywords[place + 1 :]]
            yield "dropped keyword", ast.unparse(ast.Call(node.func, node.args, rest))
    if isinstance(node.func, ast.Attribute) and called in UNWRAPPED:
        is_of_module = isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "math", "np")
        inner = node.args[0] if is_of_module and node.args else node.func.value
        yield "removed call", f"({ast.unparse(inner)})"
    if called == "where" and len(node.args) == 3:
        yield "branch", f"({ast.unparse(node.args[1])})"
        yield "branch", f"({ast.unparse(node.args[2])})"
    if isinstance(node.func, ast.Name) and called in ("min", "max") and len(node.args) > 1:
        other = ast.Name("max" if called == "min" else "min")
        yield "comparison", ast.unparse(ast.Call(other, node.args, node.keywords))


def _changed_returns(value: ast.expr, annotation: str) -> Iterator[tuple[str, str]]:
    if annotation == "bool":
        yield "return", f"(not ({ast.unparse(value)}))"
    elif annotation in ("int", "float"):
        yield "return", "0"
    elif "None" in annotation and not (isinstance(value, ast.Constant) and value.value is None):
        yield "return", "None"


def _is_text(node: ast.BinOp) -> bool:
    """Whether + joins strings, as far as can be seen."""
    texts = (ast.JoinedStr, ast.Constant)
    return any(
        isinstance(side, texts) and isinstance(getattr(side, "value", ""), str) for side in (node.left, node.right)
    )


def _is_call_statement(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and not _is_words(node.value)
