"""The time that a task has which Airflow's supervisor ends: which way it takes, not how long."""

from __future__ import annotations

import signal
import types
from typing import Any

import pytest

from modalflow.worker import ending, stopping


def supervisor(log: list[Any]) -> Any:
    """A stand-in with the method that Airflow's supervisor has."""

    class WatchedSubprocess:
        _exit_code: int | None = None
        _terminal_state: str | None = None

        def kill(
            self, signal_to_send: signal.Signals = signal.SIGINT, escalation_delay: float = 5.0, force: bool = False
        ) -> None:
            log.append((signal_to_send.name, round(escalation_delay), force))

        def _service_subprocess(self, max_wait_time: float) -> None:
            pass

    return types.SimpleNamespace(WatchedSubprocess=WatchedSubprocess)


def nobody(level: str, text: str) -> None:
    raise AssertionError((level, text))


@pytest.mark.parametrize(
    ("seconds", "terminal", "arguments", "expected"),
    [
        (30, None, {"signal_to_send": signal.SIGTERM, "force": True}, ("SIGTERM", 30, True)),
        (0, None, {"signal_to_send": signal.SIGTERM, "force": True}, ("SIGTERM", 5, True)),
        (30, "success", {"signal_to_send": signal.SIGTERM, "force": True}, ("SIGTERM", 5, True)),
        (30, None, {"signal_to_send": signal.SIGKILL}, ("SIGKILL", 5, False)),
        (30, None, {}, ("SIGINT", 5, False)),
    ],
    ids=["to be stopped", "no time", "only made to leave", "killed", "interrupted"],
)
def test_only_a_task_that_is_to_be_stopped_has_its_time(
    seconds: int, terminal: str | None, arguments: dict[str, Any], expected: tuple[str, int, bool]
) -> None:
    log: list[Any] = []
    watched = supervisor(log)
    assert ending.let_stop(watched, {"seconds": seconds, "signal": "SIGTERM"}, nobody) is True
    task = watched.WatchedSubprocess()
    task._terminal_state = terminal
    task.kill(**arguments)
    assert log == [expected]


def test_a_hook_that_fails_is_told_and_the_task_is_stopped() -> None:
    log: list[Any] = []
    watched = supervisor(log)
    hook = {"argv": ["sh", "-c", "exit 3"]}
    ending.let_stop(watched, {"seconds": 30, "hook": hook}, lambda level, text: log.append(f"{level}: {text}"))
    watched.WatchedSubprocess().kill(signal.SIGTERM, force=True)
    assert log[0] == "warning: preStop: sh ended with exit code 3"
    assert log[1][0] == "SIGTERM"


def test_a_supervisor_of_another_airflow_is_left_as_it_is() -> None:
    class WatchedSubprocess:
        def kill(self) -> None:
            raise AssertionError

    said: list[str] = []
    strange = types.SimpleNamespace(WatchedSubprocess=WatchedSubprocess)
    assert ending.let_stop(strange, {"seconds": 30}, lambda _level, text: said.append(text)) is False
    assert said == ["this Airflow's supervisor is not the one that modalflow can teach a grace period; it has its own"]


@pytest.mark.parametrize(
    ("plan", "given", "expected"),
    [
        ({}, {}, {"seconds": 0, "signal": "SIGTERM"}),
        ({}, {"MODALFLOW_STOP_GRACE": "30"}, {"seconds": 30, "signal": "SIGTERM"}),
        ({"grace": {"seconds": 0, "signal": "SIGINT"}}, {"MODALFLOW_STOP_GRACE": "30"}, {"seconds": 0, "signal": "SIGINT"}),
    ],
)
def test_the_pod_goes_before_the_site(plan: dict[str, Any], given: dict[str, str], expected: dict[str, Any]) -> None:
    assert ending.how_it_ends(plan, given) == expected
    assert given == {}


def test_the_first_process_of_a_container_is_ended_by_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    stopping.kill(1, signal.SIGKILL)
    assert sent == [(-1, signal.SIGKILL)]
