"""How a task ends that Airflow takes back, on the emulator: preStop, the signal, the time, and who sees to it."""

from __future__ import annotations

import asyncio
import http.server
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import modal
import pytest

from modalflow.launch import exit_codes
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.events import AdoptRequest, LaunchStarted
from modalflow.launch.gateway import EndKind, SandboxEnd
from modalflow.modal_gateway import ModalGateway
from modalflow.translation.plan import SandboxPlan
from modalflow.worker import bootstrap_source, stop_source
from tests.contract.conftest import SETTINGS
from tests.contract.in_sandbox import CANARY, plan_of, run, seen, task_log
from tests.launch.plans import LAUNCH, request
from tests.launch.scripted_gateway import until

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

WAITS = """
def work():
    import signal
    set_up(SetUp(os.environ, log.say), os.environ.get(LOG_PATH))
    def told(number, _frame):
        place = os.environ["TMPDIR"] + "/hook"
        after = " after preStop " + open(place).read() if os.path.exists(place) else ""
        log.say("info", f"got {signal.Signals(number).name}{after}".rstrip())
        if os.environ.get("STUBBORN") != "yes":
            leave(0)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, told)
    log.say("info", "waits")
    print("waits", flush=True)
    while True:
        time.sleep(0.01)
"""
PROGRAM = bootstrap_source().replace("\ndef main() -> None:", WAITS + "\n\ndef main() -> None:")
STOP = ["python", "-c", stop_source()]
POD = """
spec:
  terminationGracePeriodSeconds: %d
  containers:
    - name: base
      env: [{name: STUBBORN, value: "%s"}]
      lifecycle: {%s}
"""


def plan(seconds: int, lifecycle: str = "", *, stubborn: bool = False) -> SandboxPlan:
    return plan_of(POD % (seconds, "yes" if stubborn else "no", lifecycle), {}, {})


def stopped(kind: SandboxPlan, **secret_env: str) -> SandboxEnd:
    """Run it, ask it to stop as soon as it waits, and return how it ended by itself."""

    async def scene() -> SandboxEnd:
        async with await modal.Client.from_env.aio() as client, ModalGateway(SETTINGS, client=client) as gateway:
            argv = ["python", "-c", PROGRAM]
            sandbox_id = await gateway.create(kind, name=str(uuid.uuid4()), gpu=None, argv=argv, secret_env=secret_env)
            sandbox = await modal.Sandbox.from_id.aio(sandbox_id, client=client)
            async for line in sandbox.stdout:
                if "waits" in line:
                    break
            await gateway.start_in(sandbox_id, STOP)
            return await gateway.wait(sandbox_id)

    return asyncio.run(scene())


def said() -> list[str]:
    return [line.removeprefix("info: ") for line in task_log()]


def test_the_workload_is_signalled_and_ends_by_itself(modal_emulator: EmulatorThread) -> None:
    assert stopped(plan(30)) == SandboxEnd(kind=EndKind.SUCCESS, exit_code=0)
    assert said() == ["waits", "got SIGTERM"]


def test_pre_stop_comes_first_and_the_pod_chooses_the_signal(modal_emulator: EmulatorThread) -> None:
    hook = "preStop: {exec: {command: [sh, -c, 'touch \"$TMPDIR/hook\"']}}, stopSignal: SIGINT"
    assert stopped(plan(30, hook)).exit_code == 0
    assert said() == ["waits", "got SIGINT after preStop"]


def test_pre_stop_sees_the_tasks_variables_and_never_the_workload(modal_emulator: EmulatorThread) -> None:
    pod = """
    spec:
      containers:
        - name: base
          env:
            - {name: MODE, value: fast}
            - {name: WHO, valueFrom: {fieldRef: {fieldPath: "metadata.labels['dag_id']"}}}
            - {name: URL, value: "db://$(WHO):$(MODE)"}
          lifecycle:
            preStop: {exec: {command: [sh, -c, 'echo "$URL" > "$TMPDIR/hook"; env | grep ^MODALFLOW >> "$TMPDIR/hook"']}}
    """
    assert stopped(plan_of(pod, {}, {}), MODALFLOW_WORKLOAD=CANARY).exit_code == 0
    assert said() == ["waits", "got SIGTERM after preStop db://etl:fast"]


def test_what_does_not_stop_in_its_time_is_killed_by_the_sandbox_itself(modal_emulator: EmulatorThread) -> None:
    # Nobody terminates it here: the executor may be gone.
    end = stopped(plan(1, stubborn=True))
    assert (end.kind, end.exit_code) == (EndKind.FAILURE, 137)
    assert said() == ["waits", "got SIGTERM"]


def test_a_pre_stop_that_takes_too_long_is_cut_off_with_the_time(modal_emulator: EmulatorThread) -> None:
    assert stopped(plan(1, "preStop: {sleep: {seconds: 1000}}")).exit_code in {0, 137}


@pytest.fixture
def server() -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    asked: list[tuple[str, str | None]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("X-Why")))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield listening.server_port, asked
        listening.shutdown()
        thread.join()


def test_pre_stop_asks_an_address(modal_emulator: EmulatorThread, server: tuple[int, list[tuple[str, str | None]]]) -> None:
    port, asked = server
    get = f"preStop: {{httpGet: {{port: {port}, path: '/drain?now=1', httpHeaders: [{{name: X-Why, value: stop}}]}}}}"
    assert stopped(plan(30, get)).exit_code == 0
    assert asked == [("/drain?now=1", "stop")]
    assert said() == ["waits", "got SIGTERM"]


def test_post_start_runs_before_the_task(modal_emulator: EmulatorThread) -> None:
    command = "[sh, -c, 'echo $MODE > \"$MODAL_EMULATOR_ROOT/tmp/started\"']"
    pod = f"""
    spec:
      containers:
        - name: base
          env: [{{name: MODE, value: fast}}]
          lifecycle: {{postStart: {{exec: {{command: {command}}}}}}}
    """
    found = seen(plan_of(pod, {}, {"env": [], "files": ["/tmp/started"]}))
    assert found["files"]["/tmp/started"][1] == "fast\n"


def test_a_post_start_that_fails_fails_the_task(modal_emulator: EmulatorThread) -> None:
    pod = "spec: {containers: [{name: base, lifecycle: {postStart: {exec: {command: [sh, -c, exit 4]}}}}]}"
    code, _, stderr = run(plan_of(pod, {}, {}), program=bootstrap_source())
    assert (code, stderr) == (exit_codes.EXIT_COMMAND_FAILED, "modalflow: postStart: sh ended with exit code 4\n")


# -- the whole: backend, gateway and sandbox


def backend() -> LaunchBackend:
    made = LaunchBackend(
        lambda: ModalGateway(SETTINGS), SETTINGS, ["python", "-c", PROGRAM], lambda _path, _line: None, stop_argv=STOP
    )
    made.start()
    return made


def waits_in(made: LaunchBackend, kind: SandboxPlan) -> str:
    """Launch it; return the sandbox's id once its program waits."""
    made.submit(request(plan=kind))
    events: list[object] = []

    def started() -> bool:
        events.extend(made.drain())
        return any(isinstance(event, LaunchStarted) for event in events)

    until(started, "the start")
    until(lambda: "waits" in output(), "its program")
    (event,) = (event for event in events if isinstance(event, LaunchStarted))
    return event.sandbox_id


def output() -> str:
    async def scene() -> str:
        async with await modal.Client.from_env.aio() as client:
            app = await modal.App.lookup.aio(SETTINGS.app_name, client=client)
            async for sandbox in modal.Sandbox.list.aio(app_id=app.app_id, client=client):
                async for line in sandbox.stdout:
                    return line
        return ""

    return asyncio.run(scene())


def ours(kind: SandboxPlan) -> SandboxPlan:
    return replace(kind, tags={**kind.tags, "deployment": SETTINGS.deployment, "launch": LAUNCH})


def test_a_task_that_airflow_takes_back_may_stop(modal_emulator: EmulatorThread) -> None:
    made = backend()
    waits_in(made, ours(plan(30)))
    made.revoke(LAUNCH, "taken back")
    until(lambda: "no launches" in made.describe(), "the launch forgotten")
    made.stop(10.0)
    assert said() == ["waits", "got SIGTERM"]
    assert modal_emulator.calls("SandboxTerminateV2") == []


def test_without_a_grace_period_it_is_ended_at_once(modal_emulator: EmulatorThread) -> None:
    made = backend()
    waits_in(made, ours(plan(0)))
    made.revoke(LAUNCH, "taken back")
    until(lambda: "no launches" in made.describe(), "the launch forgotten")
    made.stop(10.0)
    assert len(modal_emulator.calls("SandboxTerminateV2")) == 1


def test_one_of_an_earlier_scheduler_may_stop_too(modal_emulator: EmulatorThread) -> None:
    first = backend()
    sandbox_id = waits_in(first, ours(plan(30)))
    first.stop(10.0)
    second = backend()
    second.adopt([AdoptRequest(launch_id=LAUNCH, key="k", label="t", sandbox_id=sandbox_id, log_path=None, relaunch=None)])
    until(lambda: ": running" in second.describe(), "the adoption")
    second.revoke(LAUNCH, "taken back")
    until(lambda: "no launches" in second.describe(), "the launch forgotten")
    second.stop(10.0)
    assert said() == ["waits", "got SIGTERM"]
