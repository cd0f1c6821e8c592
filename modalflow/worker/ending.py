"""How a task ends that is to stop: what the program of ``stopping`` is told, and what Airflow's own supervisor does.

Part of the sandbox's program, see ``bootstrap``. Flows in: the pod's grace period and preStop, else the site's ``stop_grace``.
Two come here. The executor runs ``stopping`` beside the task, which reads the file that ``tell_how_it_ends`` leaves. Airflow's
supervisor ends a task itself whose heartbeat is answered with 404, 409 or 410 (cleared, marked, removed), or not at all.
"""

# Imports stand where they are used: most tasks end by themselves.

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from modalflow.worker.hooks import HookError, run_hook

STOP_GRACE = "MODALFLOW_STOP_GRACE"
STOP_PLACE = "/tmp/modalflow-stop.json"  # noqa: S108 - written by whoever starts the sandbox


def how_it_ends(plan: Any, environ: Any) -> Any:
    """Return seconds, signal and hook of the end: the pod's, else the site's seconds, which are taken out of ``environ``."""
    seconds = environ.pop(STOP_GRACE, "")
    return plan.get("grace") or {"seconds": int(seconds) if seconds.isdecimal() else 0, "signal": "SIGTERM"}


def tell_how_it_ends(place: str, ending: Any, user: Any, say: Callable[[str, str], None]) -> None:
    """Leave at ``place`` what ``stopping`` needs to know, written by whoever starts the sandbox and by nobody else."""
    if not ending["seconds"]:
        return
    told = {"pid": os.getpid(), **ending}
    if user:
        told["user"] = user
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        if os.path.lexists(place):
            os.unlink(place)
        with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="utf-8") as file:
            json.dump(told, file)
    except OSError as error:
        text = f"cannot write {place} ({error.strerror}): if Airflow takes the task back, it ends without a grace period"
        say("warning", text)


def let_stop(supervisor: Any, ending: Any, say: Callable[[str, str], None]) -> bool:
    """Give a task that Airflow's supervisor ends the same hook and time that it has when the executor ends it.

    Tell whether that could be done. The supervisor (Airflow 3.3.2) gives 5 s between SIGTERM, upon which ``on_kill`` runs, and
    SIGKILL, and knows no hook.
    """
    import inspect
    import signal

    watched = getattr(supervisor, "WatchedSubprocess", None)
    original = getattr(watched, "kill", None)
    names = set(inspect.signature(original).parameters) if original is not None else set()
    if watched is None or original is None or not {"signal_to_send", "escalation_delay", "force"} <= names:
        say("info", "this Airflow's supervisor is not the one that modalflow can teach a grace period; it has its own")
        return False

    def kill(self: Any, signal_to_send: Any = signal.SIGINT, escalation_delay: float = 5.0, force: bool = False) -> None:  # noqa: FBT001, FBT002
        # A task whose end is told already is only made to leave: that is not what the time is for.
        if force and signal_to_send == signal.SIGTERM and ending["seconds"] and not getattr(self, "_terminal_state", None):
            escalation_delay = _after_hook(self, ending, say)
        original(self, signal_to_send, escalation_delay=escalation_delay, force=force)

    watched.kill = kill
    return True


def _after_hook(watched: Any, ending: Any, say: Callable[[str, str], None]) -> float:
    """Run preStop, if there is one, while the task goes on; return the seconds that are left."""
    import threading
    import time

    over: float = time.monotonic() + ending["seconds"]
    if "hook" in ending:
        hook = threading.Thread(target=_run, args=(ending, say), daemon=True)
        hook.start()
        while hook.is_alive() and watched._exit_code is None:
            watched._service_subprocess(max_wait_time=0.1)
    return max(0.0, over - time.monotonic())


def _run(ending: Any, say: Callable[[str, str], None]) -> None:
    try:
        run_hook(ending["hook"], seconds=ending["seconds"], environ=dict(os.environ))
    except HookError as error:
        say("warning", f"preStop: {error}")
