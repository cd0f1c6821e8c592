"""The program as text: what the executor sends."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from modalflow import worker
from modalflow.launch import exit_codes
from modalflow.worker import bootstrap, bootstrap_source, errors, stop_source, telling_source

KIB = 1024


def test_it_is_small_enough_for_an_argument() -> None:
    # Modal refuses a command of more than 64 KiB in all, Linux one argument of more than 128 KiB.
    assert len(bootstrap_source().encode()) < 48 * KIB


@pytest.mark.parametrize(
    ("source", "name"), [(bootstrap_source, "bootstrap"), (stop_source, "stopping"), (telling_source, "telling")]
)
def test_what_is_left_out_is_no_code(source: Callable[[], str], name: str) -> None:
    assert _code(source()) == _code(worker._joined(worker._read(name), set()))


def _code(text: str) -> str:
    """A program without its docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and len(body) > 1:
            node.body = [one for one in body if not _says_only(one)]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def _says_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def test_it_imports_only_the_standard_library_at_its_top() -> None:
    imported = {
        name.split(".")[0]
        for node in ast.parse(bootstrap_source()).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names])
    }
    assert imported <= sys.stdlib_module_names, imported


def test_it_imports_nothing_of_ours() -> None:
    imports = [node for node in ast.walk(ast.parse(bootstrap_source())) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [ast.unparse(node) for node in imports if "modalflow" in ast.unparse(node)]


def test_it_is_python_3_10() -> None:
    ast.parse(bootstrap_source(), feature_version=(3, 10))


def test_it_is_its_files_and_no_more() -> None:
    # Nothing is filled in, so nothing of a deployment or a task can be in it.
    folder = Path(str(bootstrap.__file__)).parent
    known = {line.strip() for file in folder.glob("*.py") for line in file.read_text(encoding="utf-8").splitlines()}
    assert [line for line in bootstrap_source().splitlines() if line.strip() not in known] == []
    assert bootstrap_source().count("\nclass SetUpError(") == 1


def test_reading_it_does_not_load_it() -> None:
    code = "import sys, modalflow.worker as w; w.bootstrap_source(); print('modalflow.worker.bootstrap' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_its_exit_codes_are_those_that_launch_explains() -> None:
    ours = {
        name: value
        for name, value in {**vars(errors), **vars(bootstrap)}.items()
        if name.startswith("EXIT_") and name != "EXIT_SIGTERM"
    }
    theirs = {name: value for name, value in vars(exit_codes).items() if name in ours}
    assert ours == theirs
    assert sorted(ours.values()) == [0, 1, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73]


def test_a_parse_that_cpython_spoilt_is_done_again(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [SystemError("AST constructor recursion depth mismatch (before=150, after=201)")]
    parse = ast.parse

    def spoilt_once(source: str) -> ast.Module:
        if outcomes:
            raise outcomes.pop()
        return parse(source)

    whole = bootstrap_source()
    monkeypatch.setattr(ast, "parse", spoilt_once)
    assert bootstrap_source.__wrapped__() == whole
    assert outcomes == []
