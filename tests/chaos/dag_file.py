"""The DAG file of a run, as text: in full runs its code is what sandboxes run, in light runs only its shape counts.

Flows in: a plan. Flows out: the file's text. The user code writes the same lines to the ledger as the light client does.
"""

from __future__ import annotations

from tests.chaos.plan import Plan

RETRIES = 30
"""More tries than faults can kill: what is lost is lost for another reason."""

TEXT = '''
"""The tasks of a chaos run. Made by tests/chaos/dag_file.py."""
import datetime
import json
import os
import time

from airflow.sdk import DAG, BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException

SCRIPTS = @SCRIPTS@


class Chaos(BaseOperator):
    def execute(self, context):
        script, ti = SCRIPTS[self.task_id], context["ti"]
        leg = ti._ti_context_from_server.task_reschedule_count or 0
        self.work(ti, script, leg)
        kind = script["kind"]
        if kind == "fail":
            self.note(ti, "leave", leg, "failed")
            raise AirflowFailException("as its script says")
        if kind == "fail-once" and ti.try_number == 1:
            self.note(ti, "leave", leg, "up_for_retry")
            raise RuntimeError("as its script says")
        if kind == "defer":
            from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
            self.note(ti, "leave", leg, "deferred")
            self.defer(trigger=TimeDeltaTrigger(datetime.timedelta(seconds=1)), method_name="resume")
        if kind == "reschedule" and leg == 0:
            self.note(ti, "leave", leg, "up_for_reschedule")
            later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
            raise AirflowRescheduleException(later)
        self.note(ti, "leave", leg, "success")

    def resume(self, context, event=None):
        self.work(context["ti"], SCRIPTS[self.task_id], 1)
        self.note(context["ti"], "leave", 1, "success")

    def work(self, ti, script, leg):
        self.note(ti, "enter", leg)
        time.sleep(script["seconds"])

    def note(self, ti, kind, leg, state=None):
        line = {"kind": kind, "ti": str(ti.id), "task": self.task_id, "try": ti.try_number, "leg": leg, "state": state}
        line |= {"at": time.time(), "launch": os.environ.get("MODALFLOW_LAUNCH_ID"), "pid": os.getpid()}
        line["sandbox"] = os.environ.get("MODAL_SANDBOX_ID")
        fd = os.open(os.environ["CHAOS_FOLDER"] + "/ledger.jsonl", os.O_WRONLY | os.O_APPEND)
        os.write(fd, json.dumps(line).encode() + b"\\n")
        os.close(fd)


with DAG("chaos", schedule=None, max_active_tasks=4096, catchup=False):
    tasks = {
        name: Chaos(task_id=name, retries=@RETRIES@, retry_delay=datetime.timedelta(seconds=0.2),
                    executor_config={"modal": {"gpu": ["A10G", "L4"]}} if one["gpu"] else {})
        for name, one in SCRIPTS.items()
    }
    for name, one in SCRIPTS.items():
        if one["after"]:
            tasks[one["after"]] >> tasks[name]
'''


def scripts_of(plan: Plan) -> dict[str, dict[str, object]]:
    """The scripts as plain data, by task id."""
    return {one.task_id: {"kind": one.kind, "seconds": one.seconds, "gpu": one.gpu, "after": one.after} for one in plan.scripts}


def text_of(plan: Plan) -> str:
    """The DAG file."""
    return TEXT.replace("@SCRIPTS@", repr(scripts_of(plan))).replace("@RETRIES@", str(RETRIES))
