"""Where a task is written in its DAG file: for errors of its configuration.

In: a DAG file and a ``task_id``. Out: a line, found by reading the file's syntax. Runs only when a task is about to be refused; a
DAG that makes its tasks in a loop has no such line.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

LARGEST_FILE = 2_000_000
"""Bytes of a DAG file that is read."""


def where(task: Any) -> str:
    """Return ``models.py:12`` for a task while its DAG is parsed, ``models.py`` without a line, or nothing. Never raises."""
    dag = getattr(task, "dag", None)
    path = getattr(dag, "fileloc", None)
    if not isinstance(path, str) or not path:
        return ""
    shown = getattr(dag, "relative_fileloc", None) or Path(path).name
    line = line_of_task(Path(path), task.task_id)
    return str(shown) if line is None else f"{shown}:{line}"


def line_of_task(path: Path, task_id: str) -> int | None:
    """Return the line where the operator with this ``task_id`` or the decorated function of this name begins, if there is one."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):  # no file of ours to judge: a zip, a notebook, another host's
        return None
    own = task_id.rpartition(".")[2]  # without the ids of the task groups around it
    lines = {node.lineno for node in ast.walk(tree) if isinstance(node, ast.expr | ast.stmt) and _names(node, own)}
    return lines.pop() if len(lines) == 1 else None


def _names(node: ast.AST, task_id: str) -> bool:
    if isinstance(node, ast.Call):
        given = next((keyword.value for keyword in node.keywords if keyword.arg == "task_id"), None)
        return isinstance(given, ast.Constant) and given.value == task_id
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name == task_id and any("task" in ast.unparse(decorator) for decorator in node.decorator_list)
    return False
