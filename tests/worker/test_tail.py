"""The supervisor's last wait: which way it takes, not how long."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from pathlib import Path
from typing import Any

import attrs
import pytest

from modalflow.worker import bootstrap
from modalflow.worker.task_log import Log


class StillRunning(Exception):
    pass


class Gone(Exception):
    pass


class Child:
    TimeoutExpired = StillRunning
    ProcessNotFound = Gone

    def __init__(self, end: type[Exception] | None = None) -> None:
        self.waits: list[float] = []
        self.end = end

    def wait(self, timeout: float) -> int:
        self.waits.append(timeout)
        if self.end is not None:
            raise self.end
        return 0


def supervisor() -> Any:
    """A stand-in with the fields and the method that Airflow's supervisor has."""

    @attrs.define
    class WatchedSubprocess:
        _process: Child
        _open_sockets: list[str]
        _exit_code: int | None = None
        selects: list[float] = attrs.field(factory=list)

        def _service_subprocess(self, max_wait_time: float, raise_on_timeout: bool = False) -> str:
            self.selects.append(max_wait_time)
            return f"serviced {raise_on_timeout}"

    return types.SimpleNamespace(WatchedSubprocess=WatchedSubprocess)


@pytest.mark.parametrize("end", [None, StillRunning, Gone])
def test_with_all_pipes_closed_it_waits_for_the_process(end: type[Exception] | None) -> None:
    module = supervisor()
    served: list[str] = []
    assert bootstrap.skip_tail(module, lambda: served.append("after"))
    watched = module.WatchedSubprocess(Child(end), [])
    assert watched._service_subprocess(5.0, raise_on_timeout=True) == "serviced True"
    assert (watched._process.waits, watched.selects) == ([5.0], [0])
    assert served == ["after"]


@pytest.mark.parametrize(
    ("open_sockets", "exit_code"),
    [pytest.param(["stdout"], None, id="a pipe is open"), pytest.param([], 0, id="the child was reaped")],
)
def test_otherwise_it_waits_as_airflow_does(open_sockets: list[str], exit_code: int | None) -> None:
    module = supervisor()
    served: list[str] = []
    assert bootstrap.skip_tail(module, lambda: served.append("after"))
    watched = module.WatchedSubprocess(Child(), open_sockets, exit_code)
    assert watched._service_subprocess(5.0) == "serviced False"
    assert (watched._process.waits, watched.selects) == ([], [5.0])
    assert served == ["after"]


def test_another_supervisor_is_left_alone_and_it_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "log", Log())

    class WatchedSubprocess:
        def _service_subprocess(self) -> None: ...

    original = WatchedSubprocess._service_subprocess
    assert not bootstrap.skip_tail(types.SimpleNamespace(WatchedSubprocess=WatchedSubprocess), lambda: None)
    assert WatchedSubprocess._service_subprocess is original
    assert capsys.readouterr().err == (
        "modalflow: this Airflow's supervisor is not the one whose last wait modalflow can shorten; it runs as it is\n"
    )


def test_a_closed_stdout_does_not_reach_the_supervisor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "w") as stdout:  # noqa: PTH123 - a descriptor
        monkeypatch.setattr(sys, "stdout", stdout)
        log = Log()
        log.goes_to(str(tmp_path / "attempt=1.log"))
        log.copy()  # there is no file yet
        (tmp_path / "attempt=1.log").write_text("a line\n")
        log.copy()
        assert not log.copied
        assert capsys.readouterr().err == "modalflow: the log is no longer copied to stdout ([Errno 32] Broken pipe)\n"
        log.copy()
        assert "no longer copied" in (tmp_path / "attempt=1.log").read_text()
        with contextlib.suppress(BrokenPipeError):
            stdout.close()
