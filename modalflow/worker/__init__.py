"""What runs inside the sandbox.

Flows out: ``bootstrap_source()``, the text that the executor gives to ``python -c`` in every sandbox, and ``stop_source()``,
that of the small program that asks a sandbox to stop, and ``telling_source()``, of the one that tells it where relays are. Each
is one file with those that it imports from here in the places of their imports; nothing of them is imported here, in the
scheduler.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_JOINED = re.compile(r"^from modalflow\.worker\.(\w+) import (?:\([^)]*\)|.*)\n", re.MULTILINE)
"""A line that the text of that file stands in for: a sandbox has no modalflow."""
_FUTURE = "from __future__ import annotations\n"


@cache
def bootstrap_source() -> str:
    """Return the source of the program that a sandbox runs: one text, standard library only, without a secret."""
    return _lean(_joined(_read("bootstrap"), set()))


@cache
def stop_source() -> str:
    """Return the source of the program that asks the workload of a sandbox to stop."""
    return _lean(_joined(_read("stopping"), set()))


@cache
def telling_source() -> str:
    """Return the source of the program that tells a running sandbox where relays are; addresses are its arguments."""
    return _lean(_joined(_read("telling"), set()))


def _read(name: str) -> str:
    return files(__name__).joinpath(f"{name}.py").read_text(encoding="utf-8")


def _joined(text: str, there: set[str]) -> str:
    """Put each file in the place of its first import, and nothing in the place of a further one."""

    def part(line: re.Match[str]) -> str:
        if line[1] in there:
            return ""
        there.add(line[1])
        return _joined(_read(line[1]).split(_FUTURE, 1)[1].strip(), there) + "\n\n"

    return _JOINED.sub(part, text)


def _lean(source: str) -> str:
    """Leave out comments, docstrings and most space: a command has a largest size, and nobody reads this one."""
    tree = _parsed(source)
    spoken, quoted = set(_docstring_lines(tree)), set(_lines_within_strings(tree))
    kept = [(number, line) for number, line in enumerate(source.splitlines(keepends=True), 1) if number not in spoken]
    return "".join(
        line if number in quoted else _INDENT.sub(lambda indent: " " * (len(indent[0]) // 4), line)
        for number, line in kept
        if number in quoted or (line.strip() and not line.lstrip().startswith("#"))
    )


_INDENT = re.compile(r"^(?: {4})+")


def _lines_within_strings(tree: ast.Module) -> Iterator[int]:
    """Lines that begin inside a string, or between parts of one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            yield from range(node.lineno + 1, (node.end_lineno or node.lineno) + 1)


def _parsed(source: str) -> ast.Module:
    """Parse; once more if CPython lost count.

    Its AST counts its depth per process, not per call (python/cpython#106905, 3.11.7): where the garbage collector runs amid a
    parse and what it ends writes a traceback, which is parsed as well, the outer parse is a ``SystemError``.
    """
    try:
        return ast.parse(source)
    except SystemError:
        return ast.parse(source)


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for one in body if isinstance(body, list) and len(body) > 1 else ():
            if isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                yield from range(one.lineno, (one.end_lineno or one.lineno) + 1)
