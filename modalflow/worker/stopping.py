"""Asks the workload of a sandbox to stop: a program of its own, run beside it when Airflow takes the task back.

modalflow runs it (``stop_source``) as ``python -c`` by an exec. Flows in: the file that ``set_up`` wrote, with the workload's
process id and what pod or site say of its end. Kubernetes' order: preStop, then the signal, then, when the grace period is over,
SIGKILL. The period counts from the start, and it ends here, inside the sandbox: should the executor be gone by then, the sandbox
still ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

from modalflow.worker.errors import SetUpError
from modalflow.worker.hooks import HookError, run_hook
from modalflow.worker.texts import variables_of_task
from modalflow.worker.user import User

PLACE = "/tmp/modalflow-stop.json"  # noqa: S108 - written by whoever started the sandbox, and only believed from there
WORKLOAD = "MODALFLOW_WORKLOAD"
LOOK_EVERY = 0.05


def main() -> None:
    """Stop the workload; returns when it has ended."""
    import signal

    if WORKLOAD in os.environ:
        forget_workload()
    plan = told()
    deadline = time.monotonic() + plan["seconds"]
    if "hook" in plan:
        try:
            pre_stop(plan)
        except (HookError, SetUpError) as error:
            print(f"modalflow: preStop: {error}", file=sys.stderr)
    number = getattr(signal, plan["signal"])
    while send(plan["pid"], number):
        number = 0
        if time.monotonic() >= deadline:
            kill(plan["pid"], signal.SIGKILL)
        time.sleep(LOOK_EVERY)


def forget_workload() -> None:
    """Start this program again without the workload, which Modal gives to every process of the sandbox.

    It holds a token, and ``/proc/<pid>/environ`` shows what a process was started with to others of its user: to the task.
    """
    environment = {name: text for name, text in os.environ.items() if name != WORKLOAD}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def pre_stop(plan: Any) -> None:
    """Run the hook with the task's variables, as the task's user. Raises ``HookError`` and ``SetUpError``."""
    environ = variables_of_task(os.environ)
    user = User(plan["user"]) if "user" in plan else None
    if user is not None and os.geteuid() == 0 and user.uid != 0:
        user.adapt(environ)
    run_hook(plan["hook"], seconds=plan["seconds"], environ=environ, user=user)


def told() -> Any:
    """Return what the sandbox's program wrote about its end. A file of somebody else is not believed."""
    with open((os.environ.get("MODAL_EMULATOR_ROOT") or "") + PLACE, encoding="utf-8") as file:
        if os.fstat(file.fileno()).st_uid not in (0, os.geteuid()):
            raise SystemExit(f"modalflow: {PLACE} is not of the sandbox's own program")
        return json.load(file)


def kill(pid: int, number: int) -> None:
    """Kill the workload. The first process of a container cannot be killed from within, but what it waits for can."""
    if pid == 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, number)  # all others but this one
    else:
        send(pid, number)


def send(pid: int, number: int) -> bool:
    """Send a signal (0: none); tell whether the process is still there."""
    try:
        os.kill(pid, number)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False


if __name__ == "__main__":
    main()
