"""Where in a DAG file a task, or a value of its ``executor_config``, is written: found in the source, as well as it can be.

In: the text of the file, a task id, and the path of a finding (``executor_config["modal"]["gpu"]``). Out: a line, or ``None``.
A best effort: what a program computes (a loop, a helper function) has the line of the task, or none. Runs nothing of the file.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence

CONFIG = "executor_config"
MOST_NAMES = 20
"""Names followed from one value to the next, so that ``A = B; B = A`` ends."""
_STEP = re.compile(r'\.?(?P<name>[A-Za-z_]\w*)|\["(?P<key>(?:[^"\\]|\\.)*)"\]|\[(?P<index>\d+)\]')

Key = str | int


class DagSource:
    """One DAG file, parsed. A file that is no Python has no lines."""

    def __init__(self, text: str) -> None:
        try:
            nodes = list(ast.walk(ast.parse(text)))
        except (SyntaxError, ValueError, RecursionError):
            nodes = []
        self._calls = [node for node in nodes if isinstance(node, ast.Call)]
        self._functions = [node for node in nodes if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
        self._values: dict[str, ast.expr] = {}
        for node in nodes:
            if isinstance(node, ast.Assign):
                self._values.update({target.id: node.value for target in node.targets if isinstance(target, ast.Name)})
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                self._values[node.target.id] = node.value

    def line_of(self, task_id: str, path: str = "") -> int | None:
        """Return the line of the value at ``path``, else of what is nearest around it, else of the task, else ``None``."""
        found = self._task(task_id.rpartition(".")[2])
        if found is None:
            return None
        line, config = found
        if config is None:
            line, config = next(self._defaults(), (line, None))
        if config is None:
            return line
        keys = path_keys(path)
        return self._line(config, keys[1:] if keys[:1] == (CONFIG,) else keys, line)

    def _task(self, name: str) -> tuple[int, ast.expr | None] | None:
        """Return the line of a task's operator or function, and its ``executor_config`` if it is written there."""
        for call in self._calls:
            if _text(_keyword(call, "task_id")) == name:
                return call.lineno, _keyword(call, CONFIG)
        for function in self._functions:
            for decorator in function.decorator_list:
                call_or_name = decorator.func if isinstance(decorator, ast.Call) else decorator
                if "task" in ast.unparse(call_or_name).split(".") and function.name == name:
                    config = _keyword(decorator, CONFIG) if isinstance(decorator, ast.Call) else None
                    return function.lineno, config
        return None

    def _defaults(self) -> Iterator[tuple[int, ast.expr]]:
        """Yield the ``executor_config`` that a DAG's ``default_args`` give to every task."""
        for call in self._calls:
            given = _keyword(call, "default_args")
            if given is not None:
                yield from self._children(given, CONFIG)

    def _line(self, value: ast.expr, keys: Sequence[Key], line: int) -> int:
        """Follow ``keys`` into ``value`` as far as it is spelled out; ``line`` is where it stands."""
        for _ in range(MOST_NAMES):
            if not isinstance(value, ast.Name) or value.id not in self._values:
                break
            value = self._values[value.id]
            line = value.lineno
        if not keys:
            return line
        for at, child in self._children(value, keys[0]):
            return self._line(child, keys[1:], at)
        return value.lineno if isinstance(value, (ast.Dict, ast.List, ast.Call)) else line

    def _children(self, value: ast.expr, key: Key, depth: int = 0) -> Iterator[tuple[int, ast.expr]]:
        """Yield what ``key`` names in a literal or in the call of a constructor, the one that counts first."""
        if depth > MOST_NAMES:
            return
        if isinstance(value, ast.Name) and value.id in self._values:
            yield from self._children(self._values[value.id], key, depth + 1)
        elif isinstance(value, ast.BinOp):  # {**} and | : the later one counts
            yield from self._children(value.right, key, depth + 1)
            yield from self._children(value.left, key, depth + 1)
        elif isinstance(value, ast.Dict):
            yield from self._in_dict(value, key, depth)
        elif isinstance(value, ast.Call):
            yield from ((one.value.lineno, one.value) for one in value.keywords if one.arg in _spellings(key))
        elif isinstance(value, (ast.List, ast.Tuple)) and isinstance(key, int) and key < len(value.elts):
            yield value.elts[key].lineno, value.elts[key]

    def _in_dict(self, value: ast.Dict, key: Key, depth: int) -> Iterator[tuple[int, ast.expr]]:
        for name, child in reversed(list(zip(value.keys, value.values, strict=True))):
            if name is None:
                yield from self._children(child, key, depth + 1)
            elif isinstance(name, ast.Constant) and name.value in _spellings(key):
                yield name.lineno, child


def path_keys(path: str) -> tuple[Key, ...]:
    """Take apart a path as findings spell it: ``executor_config["modal"]["gpu"][0]``, ``pod_override.spec.containers[0]``."""
    return tuple(_keys(path))


def _keys(path: str) -> Iterator[Key]:
    for step in _STEP.finditer(path):
        if step["index"] is not None:
            yield int(step["index"])
        else:
            yield step["name"] or re.sub(r"\\(.)", r"\1", step["key"] or "")


def _spellings(key: Key) -> tuple[Key, ...]:
    """Kubernetes' ``nodeSelector`` is ``node_selector`` in its Python client."""
    return (key, re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", key).lower()) if isinstance(key, str) else (key,)


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _text(value: ast.expr | None) -> str | None:
    return value.value if isinstance(value, ast.Constant) and isinstance(value.value, str) else None
