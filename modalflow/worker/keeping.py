"""Keeps the sandbox of a task that failed for a while, for somebody to look into it.

Part of the sandbox's program, see ``bootstrap``. Flows in: ``MODALFLOW_KEEP``, which ``translation/keeping.py`` writes, and how
Airflow's supervisor says that the task ended. By then the supervisor has told Airflow, and remote logs are written: all that is
done here is to say in the task's log how to enter, and to wait. Whoever was told to stop is not kept.
"""

# Imports stand where they are used: most sandboxes are not kept.

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

KEEP = "MODALFLOW_KEEP"
FAILED = ("failed", "up_for_retry")
"""Ends of a try that Airflow calls a failure (3.3.2)."""


class Stopped(Exception):
    """A signal came that ends the wait."""


class Keeping:
    """What ``environ`` says of keeping (taken out of there), and what is seen of the task's end."""

    def __init__(self, environ: Any) -> None:
        text = environ.pop(KEEP, "")
        self._told = json.loads(text) if text else {}
        self._task: Any = None
        self._stopped = False

    def watch(self, supervisor: Any, say: Callable[[str, str], None]) -> bool:
        """Have the supervisor (Airflow 3.3.2) show which task it ran, and whether a signal told that to stop.

        Tell whether a task that fails can be kept.
        """
        activity = getattr(supervisor, "ActivitySubprocess", None)
        original = getattr(activity, "_monitor_subprocess", None)
        if not self._told:
            return False
        if activity is None or original is None or not hasattr(activity, "final_state"):
            say("warning", "keep_on_failure: this Airflow's supervisor does not say how a task ended; the sandbox is not kept")
            return False

        def _monitor_subprocess(task: Any) -> Any:
            self._task = task
            self._mark_signals()
            return original(task)

        activity._monitor_subprocess = _monitor_subprocess
        return True

    def stay(self, ti: Any, say: Callable[[str, str], None], flush: Callable[[], None]) -> None:
        """Wait, if the task failed by itself, until the time is over or a signal comes. ``ti``: the workload's task instance."""
        import signal

        if (
            self._task is None
            or self._stopped
            or str(getattr(self._task.final_state, "value", self._task.final_state)) not in FAILED
        ):
            return
        why = "its time is over"
        try:
            # Before it says that it is kept: whoever reads that may end it at once.
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, _raise_stopped)
            say("warning", f"the task failed; {self._words(ti)}")
            flush()
            time.sleep(self._told["seconds"])
        except Stopped:
            why = "it is told to stop"
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        say("info", f"the sandbox is kept no longer: {why}")

    def _mark_signals(self) -> None:
        """Remember that the task was told to stop; Airflow's own handlers, which pass the signal on, are set by now."""
        import signal

        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def seen(number: int, frame: Any, before: Any = before) -> None:
                self._stopped = True
                if callable(before):
                    before(number, frame)

            signal.signal(number, seen)

    def _words(self, ti: Any) -> str:
        import shlex

        seconds, price = self._told["seconds"], self._told["usd_hour"]
        end = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(time.time() + seconds))
        words = ["airflow", "modal", "shell", ti["dag_id"], ti["task_id"], "--run-id", ti["run_id"]]
        words += ["--try-number", str(ti["try_number"])]
        if ti.get("map_index", -1) >= 0:
            words += ["--map-index", str(ti["map_index"])]
        sandbox = os.environ.get("MODAL_SANDBOX_ID", "")
        sooner = f"; end it sooner: modal sandbox terminate {sandbox}" if sandbox else ""
        cost = f"up to {price * seconds / 3600:.4f} USD by list price ({price:.4f} an hour)"
        return (
            f"its sandbox is kept for {seconds} s, until {end} (keep_on_failure), which costs {cost}; "
            f"look into it: {shlex.join(words)}{sooner}"
        )


def _raise_stopped(_number: int, _frame: Any) -> None:
    raise Stopped
