"""The control endpoint and its commands, from outside of the process's objects: HTTP, and the ``modalflow`` command."""

from __future__ import annotations

import http.client
import json
import urllib.parse
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import modal
import modal.exception
import pytest
import yaml

from modalflow.cli.main import main
from modalflow.emulator import EmulatorThread
from modalflow.emulator.control import VARIABLE
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator

Command = Callable[..., object]


@pytest.fixture
def emulator(start_emulator: StartEmulator) -> EmulatorThread:
    return start_emulator(control=True, isolation="process")


@pytest.fixture
def command(emulator: EmulatorThread, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``modalflow emulator ...``; the answer as data, or the error."""

    def run(*arguments: str) -> object:
        capsys.readouterr()
        code = main(["emulator", *arguments])
        out, err = capsys.readouterr()
        return yaml.safe_load(out) if code == 0 else err

    return run


# -- who is let in


class Endpoint:
    def __init__(self, emulator: EmulatorThread) -> None:
        address = urllib.parse.urlsplit(emulator.environment()[VARIABLE])
        assert address.hostname == "127.0.0.1"
        self.host = f"{address.hostname}:{address.port}"
        self.token = address.username or ""
        self.connection = http.client.HTTPConnection(self.host, timeout=10)

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> tuple[int, object]:
        sent = {"Authorization": f"Bearer {self.token}", **{name.capitalize(): value for name, value in headers.items()}}
        self.connection.request(method, path, body, {name: value for name, value in sent.items() if value})
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content.startswith((b"{", b"[")) else content.decode()


@pytest.fixture
def endpoint(emulator: EmulatorThread) -> Iterator[Endpoint]:
    endpoint = Endpoint(emulator)
    yield endpoint
    endpoint.connection.close()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"authorization": ""}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer ü"}, 401),
        ({"host": "evil.example"}, 403),
        ({"host": "localhost"}, 403),
        ({"origin": "http://127.0.0.1"}, 403),
    ],
)
def test_only_who_has_the_token_and_asks_for_this_host_is_answered(
    endpoint: Endpoint, headers: dict[str, str], status: int
) -> None:
    assert endpoint.ask("GET", "/status", **headers)[0] == status


def test_modals_own_token_does_not_open_it(endpoint: Endpoint, emulator: EmulatorThread) -> None:
    secret = emulator.environment()["MODAL_TOKEN_SECRET"]
    assert endpoint.ask("POST", "/restart", authorization=f"Bearer {secret}") == (
        401,
        {"error": "the token is wrong or missing; it is in MODALFLOW_EMULATOR_CONTROL"},
    )
    assert endpoint.token not in {*emulator.environment().values()} - {emulator.environment()[VARIABLE]}


def test_it_is_not_there_unless_asked_for(start_emulator: StartEmulator) -> None:
    assert VARIABLE not in start_emulator(isolation="process").environment()


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/faults", "[]", "the body: expected a mapping, got []"),
        ("/faults", "{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("/faults", '{"method": "AppLst"}', "fault: no RPC is called 'AppLst'; did you mean 'AppList'?"),
        ("/capacity", '{"cpu": 1}', "capacity.cpu: unknown key; did you mean 'cpus'?"),
        ("/clock", '{"do": "stop"}', "do: expected advance, freeze or resume, got 'stop'"),
        (
            "/clock",
            '{"do": "advance", "seconds": -1}',
            "advance: expected seconds of at least 0, got -1.0",
        ),
        ("/clock", '{"do": "advance"}', "seconds: expected a number, got None"),
        ("/clock", '{"do": "advance", "seconds": NaN}', "seconds: expected a number, got nan"),
        ("/sandboxes/sb-1/preempt", '{"grace": -1}', "grace: expected seconds of at least 0, got -1.0"),
        ("/connections", '{"do": "cut"}', "do: expected close, refuse, accept, freeze or thaw, got 'cut'"),
        ("/sandboxes/sb-1/end", '{"status": "EVICTED"}', "no status of a sandbox is called 'EVICTED'"),
        ("/restart", '{"keep": 1}', "keep: unknown key; known: keep_state"),
    ],
)
def test_what_cannot_be_is_told(endpoint: Endpoint, path: str, body: str, error: str) -> None:
    status, answer = endpoint.ask("POST", path, body)
    assert status == 400
    assert isinstance(answer, dict)
    assert str(answer["error"]).startswith(error)


# -- the commands


def test_faults_are_added_listed_and_cleared(command: Command, sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    settings = ("status=INVALID_ARGUMENT", "message=not now", "where={definition.name: x}", "times=always")
    added = command("faults", "add", "SandboxCreate*", *settings)
    rule = {
        "number": 1,
        "method": "SandboxCreate*",
        "where": {"definition.name": "x"},
        "status": "INVALID_ARGUMENT",
        "message": "not now",
        "times": "always",
    }
    assert added == {**rule, "seen": 0, "hits": 0}
    command("faults", "add", "AppList", "delay=[0.1, 0.2]")
    sandboxes.create("true")
    with pytest.raises(modal.exception.InvalidError, match="not now"):
        sandboxes.create("true", name="x")
    assert command("faults", "list") == [
        {**rule, "seen": 1, "hits": 1},
        {"number": 2, "method": "AppList", "delay": [0.1, 0.2], "times": 1, "seen": 0, "hits": 0},
    ]
    assert isinstance(left := command("faults", "clear", "2"), list)
    assert len(left) == 1
    for number in ("2", "0"):  # 0 is not "all"
        assert command("faults", "clear", number) == f"modalflow emulator: there is no fault number {number}\n"
    assert len(emulator.faults.rules()) == 1
    assert command("faults", "clear") is None
    assert emulator.faults.rules() == []
    for entry, error in (
        (["AppLst"], "fault: no RPC is called 'AppLst'; did you mean 'AppList'?"),
        (["AppList", "times"], "expected NAME=VALUE such as times=2, got 'times'"),
        (["AppList"], "fault: what happens to these calls? write status, cut, delay or after_handler"),
        (["AppList", "message=2024-13-45"], "message: '2024-13-45' is not YAML: month must be in 1..12"),
    ):
        assert command("faults", "add", *entry) == f"modalflow emulator: {error}\n"


def test_capacity_clock_and_status(command: Command, sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    capacity = {"gpus": {"T4": 1}, "cpus": 1.0, "scheduling_delay": [1.0, 2.0]}
    assert command("capacity", "set", "cpus=1", "gpus={t4: 1}", "scheduling_delay=[1, 2]") == capacity
    assert isinstance(command("clock", "freeze"), dict)
    before = emulator.clock.time()
    assert command("clock", "advance", "3600") == {"time": before + 3600, "runs": False}
    held = sandboxes.create("cat", cpu=1.0)
    emulator.clock.advance(2)
    queued = sandboxes.create("cat", cpu=0.5)
    command("connections", "freeze")
    status = command("status")
    assert isinstance(status, dict)
    (workspace,) = status["workspaces"].values()
    assert workspace == {
        "used": {"CPU": 1000, "memory": 128},
        "queued": [queued.object_id],
        "running": [held.object_id],
    }
    assert status["isolation"]["name"] == "process"
    assert status["network"]["name"] == "host"
    assert status["url"] == emulator.url
    assert status["capacity"] == capacity
    assert status["sandboxes"] == {"alive": 2, "remembered": 2}
    assert (status["frozen"], status["faults"], status["latency"]) == (True, [], {})
    assert status["recorded_calls"] == len(emulator._emulator.core.recorder.calls)
    command("connections", "thaw")
    assert command("clock", "resume") is not None
    assert emulator.clock.runs


def test_sandboxes_are_preempted_and_ended(command: Command, sandboxes: Sandboxes, eventually: Eventually) -> None:
    preempted, evicted = sandboxes.create("cat"), sandboxes.create("cat")
    command("preempt", preempted.object_id, "--grace", "0")
    command("end", evicted.object_id, "MEMORY_MANAGER_EVICTION", "--exitcode", "9")
    eventually(lambda: preempted.poll() is not None and evicted.poll() is not None)
    assert (preempted.returncode, evicted.returncode) == (137, 9)
    assert command("preempt", "sb-1") == "modalflow emulator: there is no sandbox 'sb-1'\n"
    assert command("end", "../status", "TIMEOUT") == "modalflow emulator: there is no sandbox '../status'\n"


def test_connections_and_restarts(command: Command, sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    running = sandboxes.create("cat")
    command("connections", "close")
    assert running.poll() is None
    command("connections", "refuse")
    command("connections", "accept")
    assert running.poll() is None
    assert command("restart") == {"url": emulator.url}
    assert running.poll() == 137
    assert command("restart", "--without-state") == {"url": emulator.url}
    with pytest.raises(modal.exception.NotFoundError):
        running.poll()


def test_commands_in_the_middle_of_a_restart_come_after_it(emulator: EmulatorThread) -> None:
    url = emulator.url
    asked = [("POST", "/restart"), ("POST", "/restart"), ("GET", "/status"), ("POST", "/restart")]
    with ThreadPoolExecutor(len(asked)) as pool:
        endpoints = [Endpoint(emulator) for _ in asked]
        answers = list(pool.map(lambda endpoint, one: endpoint.ask(*one), endpoints, asked))
    for endpoint in endpoints:
        endpoint.connection.close()
    assert [status for status, _ in answers] == [200] * len(asked)
    assert [answer["url"] for _, answer in answers if isinstance(answer, dict)] == [url] * len(asked)


def test_an_emulator_that_is_not_there(emulator: EmulatorThread, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    emulator.stop()
    error = str(command("status"))
    assert error.startswith("modalflow emulator: no emulator answers at http://127.0.0.1:")
    for value in ("", "nonsense", "http://127.0.0.1:1", "https://token@127.0.0.1:1", "http://token@127.0.0.1:one"):
        monkeypatch.setenv(VARIABLE, value)
        assert command("status") == (
            "modalflow emulator: MODALFLOW_EMULATOR_CONTROL does not say where an emulator is; "
            "`modalflow emulator start` prints it, `run` sets it for its command\n"
        )
