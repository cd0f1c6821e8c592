"""The table of diagnostic codes is what the source uses, and each page's example gives what the page shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modalflow.cli import codes_pages
from modalflow.cli.main import main
from modalflow.executor.refusal import INVALID_CONFIG, internal_error, not_a_sandbox, refused_config
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.codes.table import CODES, GROUPS
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.functions.plan import FunctionPlan
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import KubernetesDefaults, TaskContext
from modalflow.translation.plan import ImagePlan
from modalflow.translation.serialisable import check_serialisable
from modalflow.translation.translate import translate

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "diagnostics"
METHODS = {"error": "error", "warn": "warning", "notice": "notice"}
CODE = re.compile(r"[a-z]+(?:-[a-z]+)*")
POSITION = {"_refuse": 0, "_refusal": 0, "_broken": 1, "report_malformed": 1}
"""Functions that make a diagnostic, and which argument is its code."""


def used() -> Iterator[tuple[str, str, str]]:
    """Yield every code in the source, the method that reports it (or nothing), and where."""
    for path in sorted((ROOT / "modalflow").rglob("*.py")):
        if path.is_relative_to(ROOT / "modalflow" / "emulator"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for code, method in _codes_of(node):
                yield code, method, f"{path.relative_to(ROOT)}:{node.lineno}"  # type: ignore[attr-defined]


def _codes_of(node: ast.AST) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name in METHODS and len(node.args) > 1:
            for value in _texts(node.args[0]):
                if CODE.fullmatch(value):
                    yield value, METHODS[name]
        position = POSITION.get(name)
        if position is not None and len(node.args) > position + 1:
            yield from ((value, "error") for value in _texts(node.args[position]))
        for keyword in node.keywords:
            if keyword.arg == "code":
                yield from ((value, "") for value in _texts(keyword.value))
    elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in {"code", "OUTSIDE"}:
        yield from ((value, "") for value in _texts(node.value))


def _texts(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        raise TypeError(f"line {node.lineno}: a code that is put together cannot be found")


def test_every_code_of_the_source_has_a_row() -> None:
    assert {code: where for code, _, where in used() if code not in CODES} == {}


def test_every_row_is_used() -> None:
    assert set(CODES) - {code for code, _, _ in used()} == set()


def test_no_code_comes_with_another_severity() -> None:
    wrong = {
        where: f"{code} as {severity}"
        for code, severity, where in used()
        if severity and CODES[code].severity != "any" and severity not in CODES[code].severity
    }
    assert wrong == {}


def test_no_code_is_there_twice() -> None:
    assert len(CODES) == sum(len(rows) for rows in GROUPS.values())


@pytest.mark.parametrize("code", [code for code, row in CODES.items() if not row.example.told])
def test_the_example_gives_the_code(code: str) -> None:
    row = CODES[code]
    found = {finding.severity for finding in codes_pages.findings(row.example) if finding.code == code}
    assert found
    assert row.severity == "any" or all(severity in row.severity for severity in found)


class _Explosive(dict[str, object]):
    def items(self) -> Any:
        raise RuntimeError("no")


def _deep() -> dict[str, object]:
    value: object = 1
    for _ in range(40):
        value = [value]
    return {"modal": {"env": {"A": value}}}


def _endless(folder: Path) -> tuple[Diagnostic, ...]:
    for number in range(40):
        text = f"apiVersion: modalflow/v1\nkind: ModalTask\nextends: t{number + 1}\n"
        (folder / f"t{number}.yaml").write_text(text, encoding="utf-8")
    options = read_settings({}).translation
    config = {"modal": {"template": "t0"}}
    return translate(config, context=TaskContext(), options=options, templates=TemplateFolders([folder])).diagnostics


def _translated(config: object) -> tuple[Diagnostic, ...]:
    options = read_settings({}).translation
    return translate(config, context=TaskContext(), options=options, templates=TemplateFolders([])).diagnostics


def _unreadable(_: Path) -> tuple[Diagnostic, ...]:
    class Forbidden(TemplateFolders):
        def _find(self, name: str, asked_by: object) -> Path:
            raise PermissionError(13, "Permission denied", name)

    options = read_settings({}).translation
    config = {"modal": {"template": "mine"}}
    return translate(config, context=TaskContext(), options=options, templates=Forbidden([])).diagnostics


def _hooked(config: object, **hooks: Any) -> tuple[Diagnostic, ...]:
    options = replace(read_settings({}).translation, **hooks)
    context = TaskContext(task=TaskFacts(dag_id="etl", task_id="load"))
    return translate(config, context=context, options=options, templates=TemplateFolders([])).diagnostics


def _no_budget(spec: object, task: object) -> None:
    raise ValueError("no budget")


def _refused(_: Path) -> tuple[Diagnostic, ...]:
    found = refused_config({"modal": {INVALID_CONFIG: "[1]"}})
    assert found is not None
    return found.diagnostics


def _of_kubernetes_options(folder: Path) -> tuple[Diagnostic, ...]:
    (folder / "pod.yaml").write_text(
        "kind: Pod\nspec:\n  containers:\n    - name: base\n      # another one\n      image: me/other:1\n", encoding="utf-8"
    )
    options = replace(
        read_settings({"pod_template_file": "pod"}).translation,
        task_keys={},
        kubernetes=KubernetesDefaults(image="me/airflow:3.3.2"),
    )
    return translate({}, context=TaskContext(), options=options, templates=TemplateFolders([folder])).diagnostics


TOLD: dict[str, Callable[[Path], tuple[Diagnostic, ...]]] = {
    "untranslatable": lambda _: _translated({"modal": {"env": _Explosive(A="1")}}),
    "too-deep": lambda _: tuple(check_serialisable(_deep())),
    "too-many-templates": _endless,
    "kubernetes-option": lambda folder: _of_kubernetes_options(folder)[:1],
    "overruled-image": lambda folder: _of_kubernetes_options(folder)[1:],
    "too-large": lambda _: _translated({"modal": {"env": ["x"] * 6000}}),
    "template-unreadable": _unreadable,
    "executor-config-type": _refused,
    "function-not-callable": lambda _: (
        not_a_sandbox(FunctionPlan(app="", function="", image=ImagePlan(reference=None))).diagnostics
    ),
    "hook-failed": lambda _: _hooked({}, task_hook=_no_budget),
    "bad-hook-result": lambda _: _hooked({}, task_hook=lambda spec, task: {}),
    "removed-by-hook": lambda _: _hooked(
        {"pod_override": {"spec": {"hostNetwork": True}}},
        pod_hook=lambda pod: (pod, {"spec": {"containers": pod["spec"]["containers"]}}),
    ),
    "internal-error": lambda _: internal_error(KeyError("x")).diagnostics,
}
"""How to get the texts that an example cannot give."""


@pytest.mark.parametrize("code", [code for code, row in CODES.items() if row.example.told])
def test_a_text_told_is_the_text_given(code: str, tmp_path: Path) -> None:
    found = "\n".join(f"{finding.severity}: {finding}" for finding in TOLD[code](tmp_path)).replace(f"{tmp_path}/", "")
    # Where a value lies as deep as here, its path says so at length.
    assert re.sub(r"(\[0\]){2,}", "", found) == CODES[code].example.told


def test_the_pages_are_up_to_date() -> None:
    assert {path.name: path.read_text(encoding="utf-8") for path in PAGES.iterdir()} == codes_pages.pages(), "run: make docs"


def test_the_command_prints_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codes", "[unknown-gpu]"]) == 0
    assert capsys.readouterr().out == (PAGES / "unknown-gpu.md").read_text(encoding="utf-8")


def test_the_command_lists_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codes"]) == 0
    out = capsys.readouterr().out
    assert [code for code in CODES if code not in out] == []


def test_the_command_names_the_code_that_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codes", "unknwn-gpu"]) == 1
    assert capsys.readouterr().err == 'no diagnostic has the code "unknwn-gpu"; did you mean "unknown-gpu"?\n'
