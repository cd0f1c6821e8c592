"""The options' layer is read once for all tasks, and again when the options change."""

from __future__ import annotations

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.layers import OPTIONS, Layer
from modalflow.translation.merge import read_options


def read(content: dict[str, object]) -> tuple[dict[str, object], list[Diagnostic], list[list[Diagnostic]]]:
    findings: list[Diagnostic] = []
    settings = read_options(Layer(root=OPTIONS, content=content), 1, findings)
    return {s.key: s.value for s in settings}, findings, [s.place.findings for s in settings]


def test_another_dict_is_read_anew_and_the_first_again() -> None:
    first: dict[str, object] = {"memory": 512}
    other: dict[str, object] = {"memory": 1024}
    assert [read(content)[0] for content in (first, other, first, first)] == [
        {"memory": 512}, {"memory": 1024}, {"memory": 512}, {"memory": 512},
    ]  # fmt: skip


def test_each_task_reports_into_its_own_findings() -> None:
    content: dict[str, object] = {"memory": 512, "cpu": 1}
    for _ in range(2):
        _, findings, places = read(content)
        assert all(into is findings for into in places)


def test_a_fault_is_told_to_every_task() -> None:
    content: dict[str, object] = {"memory": "lots", "cpu": 1}
    told = [[str(d) for d in read(content)[1]] for _ in range(2)]
    assert told[0] == told[1]
    assert len(told[0]) == 1
