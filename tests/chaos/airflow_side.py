"""One process that is Airflow's side of a light run: the database, the real execution API, and the firing of triggers.

Run as ``python -m tests.chaos.airflow_side FOLDER serve`` with ``AIRFLOW__*`` set. It migrates, stores the DAG of
``FOLDER/dags``, serves the execution API on the port of ``AIRFLOW__API__PORT``, resumes deferred tasks itself
(``Trigger.submit_event``) and says ``{"ready": true}``. In full runs (``watch``) Airflow's own commands do all that but the
migration. Then it answers a JSON line for each on stdin: ``"run"`` starts the run (null as long as the DAG is not stored),
``"states"`` counts task instances by state, ``"tries"`` and ``"log"`` tell all rows. It ends with its stdin.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

DAG_ID = "chaos"
RUN_ID = "chaos-run"
TRIGGERS_EVERY = 0.5
WARM_UP = 120.0


_ANSWERS = os.fdopen(os.dup(1), "w")
"""What the answers go to; Airflow writes to stdout too."""


def main(folder: Path, side: str) -> None:
    """Prepare, serve if that is wanted, answer."""
    os.dup2(2, 1)
    from airflow.configuration import conf
    from airflow.utils.db import initdb

    initdb()
    if side == "serve":
        _store_dags(folder / "dags")
        _serve(conf.getint("api", "port"))
        threading.Thread(target=_fire_triggers, daemon=True, name="triggers").start()
    answers = {"run": _start_run, "states": _states, "tries": _tries, "log": _log}
    _say({"ready": True})
    for line in sys.stdin:
        _say(answers[json.loads(line)]())


def _say(answer: object) -> None:
    _ANSWERS.write(json.dumps(answer) + "\n")
    _ANSWERS.flush()


def _serve(port: int) -> None:
    import httpx
    import uvicorn
    from airflow.api_fastapi.app import create_app

    listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    server = uvicorn.Server(uvicorn.Config(create_app(apps="execution"), log_level="error", lifespan="on"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="execution-api").start()
    # The first call builds the versions of the API, for seconds where the machine is busy; no task shall wait for it.
    httpx.get(f"http://127.0.0.1:{port}/execution/health", timeout=WARM_UP, trust_env=False).raise_for_status()


def _store_dags(folder: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    manager: Any = DagBundlesManager  # has no annotations
    manager().sync_bundles_to_db()
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(str(bag.import_errors))
    sync_bag_to_db(bag, "dags-folder", bundle_version=None)


def _start_run() -> str | None:
    from airflow._shared.timezones import timezone
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    with create_session() as session:
        dag = SerializedDagModel.get_dag(DAG_ID, session=session)
        if dag is None:
            return None
        dag.create_dagrun(
            run_id=RUN_ID,
            logical_date=None,
            run_after=timezone.utcnow(),
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.TEST,
            state=DagRunState.QUEUED,
            session=session,
        )
    return RUN_ID


def _fire_triggers() -> None:
    """Resume every task that is deferred, again and again: the database may be busy."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import OperationalError

    fired: Any = TriggerEvent  # has no annotations
    event = fired("fired")
    while True:
        time.sleep(TRIGGERS_EVERY)
        try:
            with create_session() as session:
                for trigger_id in session.scalars(select(TaskInstance.trigger_id).where(TaskInstance.state == "deferred")).all():
                    Trigger.submit_event(trigger_id, event, session=session)
        except OperationalError as error:
            print(f"triggers wait: {error}", file=sys.stderr)


def _states() -> dict[str, int]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    with create_session() as session:
        rows = session.execute(select(TaskInstance.state, func.count()).group_by(TaskInstance.state))
        return {str(state): count for state, count in rows}


def _tries() -> list[dict[str, Any]]:
    """Every try, the ended ones that the history keeps and the last of each task instance."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.taskinstancehistory import TaskInstanceHistory
    from airflow.utils.session import create_session
    from sqlalchemy import select

    found = []
    with create_session() as session:
        models: tuple[tuple[Any, bool], ...] = ((TaskInstanceHistory, True), (TaskInstance, False))
        for model, past in models:
            key = model.task_instance_id if past else model.id
            columns = (key, model.task_id, model.try_number, model.state, model.external_executor_id)
            for ti_id, task_id, number, state, external in session.execute(select(*columns)):
                found.append(
                    {
                        "ti": str(ti_id),
                        "task": task_id,
                        "try": number,
                        "state": state and str(state),
                        "external": external,
                        "past": past,
                    }
                )
    return found


def _log() -> list[dict[str, Any]]:
    """Airflow's events of the tasks, as the "Events" tab shows them."""
    from airflow.models import Log
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        rows = session.execute(select(Log.dttm, Log.task_id, Log.try_number, Log.event, Log.extra).order_by(Log.id))
        return [
            {"at": at and at.timestamp(), "task": task, "try": number, "event": event, "extra": extra}
            for at, task, number, event, extra in rows
        ]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
