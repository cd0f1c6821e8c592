"""The program of a sandbox in light runs: a small client of the execution API in the place of Airflow's supervisor.

It plays the image's ``python``: it is called as ``python -c SOURCE`` with the program that modalflow brings, which it does not
run; it takes the workload in the same two ways, tells the execution API the same things, and ends with the same exit codes.
The program that asks a sandbox to stop is run as it is. Standard library only, and little of it: hundreds start in a minute.

Flows in: the workload, ``CHAOS_FOLDER`` with ``scripts.json``. Flows out: lines of ``ledger.jsonl``, states to the API.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOLDER = os.environ.get("CHAOS_FOLDER", "")
STARTED = time.monotonic()
TRIES = 12
SERVER_ERROR = 500


class End(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def note(kind: str, ti: Any, **more: object) -> None:
    """Append one line to the ledger; a short write with O_APPEND is whole."""
    line = {"kind": kind, "ti": ti["id"], "task": ti["task_id"], "try": ti["try_number"], "at": time.time()}
    line |= {"launch": os.environ.get("MODALFLOW_LAUNCH_ID"), "sandbox": os.environ.get("MODAL_SANDBOX_ID")}
    line |= {"pid": os.getpid(), **more}
    fd = os.open(f"{FOLDER}/ledger.jsonl", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(fd, json.dumps(line).encode() + b"\n")
    os.close(fd)


def workload() -> dict[str, Any]:
    """Take the workload: from the environment, or on stdin within the hand-over timeout."""
    text = os.environ.pop("MODALFLOW_WORKLOAD", None)
    if text is None:
        timeout = float(os.environ.get("MODALFLOW_HANDOVER_TIMEOUT", "60"))
        received = b""
        while True:
            if not select.select([0], [], [], max(0.0, STARTED + timeout - time.monotonic()))[0]:
                raise End(65, f"no workload on stdin within {timeout:g} s")
            part = os.read(0, 65536)
            if not part:
                break
            received += part
        if not received:
            raise End(65, "stdin was closed without a workload")
        text = received.decode()
    found: dict[str, Any] = json.loads(text)
    return found


class Api:
    """The execution API, one connection a call; repeats what failed, as Airflow's client does."""

    def __init__(self, url: str, token: str) -> None:
        rest = url.partition("://")[2]
        host, _, self.path = rest.partition("/")
        self.host, _, port = host.partition(":")
        self.port = int(port)
        self.token = token

    def call(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        last = ""
        for attempt in range(TRIES):
            try:
                status, found = self._once(method, path, body)
            except OSError as error:
                last = str(error)
            else:
                if status < SERVER_ERROR:
                    return status, found
                last = f"{status} {found}"
            time.sleep(min(2.0, 0.1 * 2**attempt))
        raise End(68, f"the execution API failed: {last}")

    def _once(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        data = json.dumps(body).encode()
        head = f"{method} /{self.path}{path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nAuthorization: Bearer {self.token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
        with socket.create_connection((self.host, self.port), timeout=30) as connection:
            connection.sendall(head.encode() + data)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        if not answer:
            raise OSError("the connection was closed without an answer")
        header, _, content = answer.partition(b"\r\n\r\n")
        lines = header.decode("latin-1").split("\r\n")
        for line in lines[1:]:
            name, _, value = line.partition(":")
            if name.lower() == "refreshed-api-token":
                self.token = value.strip()
        try:
            found = json.loads(content)
        except ValueError:
            found = {}
        return int(lines[0].split()[1]), found


def now(later: float = 0.0) -> str:
    """A stamp as the API reads it."""
    at = time.time() + later
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1e6):06d}Z"


def run() -> None:
    found = workload()
    ti = found["ti"]
    note("born", ti)
    api = Api(os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"], found["token"])
    host = f"{os.environ['MODALFLOW_LAUNCH_ID']}/{os.environ['MODAL_SANDBOX_ID']}"  # as the bootstrap names it
    who = {"hostname": host, "pid": os.getpid()}
    start = {"state": "running", "unixname": "chaos", "start_date": now(), **who}
    status, context = api.call("PATCH", f"task-instances/{ti['id']}/run", start)
    if status != 200:
        note("refused", ti, status=status, said=str(context)[:200])
        raise End(67, f"Airflow did not let the task start ({status}: {context})")
    with open(f"{FOLDER}/scripts.json", encoding="utf-8") as file:  # noqa: PTH123 - pathlib would be half of the imports
        script = json.load(file)[ti["task_id"]]
    leg = 1 if context.get("next_method") else int(context.get("task_reschedule_count") or 0)
    note("enter", ti, leg=leg)
    work(ti["task_id"], script["seconds"])
    state = report_of(script["kind"], leg, ti)
    note("leave", ti, leg=leg, state=state["state"])
    status, said = api.call("PATCH", f"task-instances/{ti['id']}/state", state)
    note("told", ti, leg=leg, status=status, **({} if status < 300 else {"said": str(said)[:200]}))
    if status >= 300:
        raise End(1, f"the execution API refused a report about the task ({status}: {said})")


def work(task: str, seconds: float) -> None:
    """Take the time that user code takes, or less: a file ``go-TASK`` in the folder ends it."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and not os.path.exists(f"{FOLDER}/go-{task}"):  # noqa: PTH110  light
        time.sleep(min(left, 0.2))


def report_of(kind: str, leg: int, ti: dict[str, Any]) -> dict[str, Any]:
    """What the script says is told now."""
    if kind == "fail":
        return {"state": "failed", "end_date": now()}
    if kind == "fail-once" and ti["try_number"] == 1:
        return {"state": "up_for_retry", "end_date": now()}
    if kind == "defer" and leg == 0:
        return {
            "state": "deferred",
            "classpath": "airflow.providers.standard.triggers.temporal.TimeDeltaTrigger",
            "trigger_kwargs": {},
            "next_method": "resume",
            "next_kwargs": {},
        }
    if kind == "reschedule" and leg == 0:
        return {"state": "up_for_reschedule", "reschedule_date": now(0.5), "end_date": now()}
    return {"state": "success", "end_date": now(), "task_outlets": [], "outlet_events": []}


def main() -> None:
    source = sys.argv[2] if len(sys.argv) > 2 else ""
    if "modalflow-stop.json" in source and "class Api" not in source and "supervisor" not in source:
        os.execv(sys.executable, [sys.executable, "-IS", "-c", source])
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    try:
        run()
    except End as end:
        print(f"chaos: {end}", file=sys.stderr, flush=True)
        os._exit(end.code)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
