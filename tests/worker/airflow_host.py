"""One process that is Airflow's side of a task: a real database, and the real execution API over HTTP.

Run as ``python airflow_host.py HOME`` in an environment with ``AIRFLOW__*`` set. It writes one DAG per example, starts the
execution API on a free port of 127.0.0.1 and prints ``{"port": …}``; then it answers one JSON line per line on stdin:
``{"mint": {"dag_id": d, "task_id": t, "count": n}}`` with workloads of queued task instances, ``{"state": ti_id}`` with
what the database says of one. It ends with its stdin.

``real_airflow.py`` starts it.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4


def main(home: Path) -> None:
    """Migrate, write the DAGs, serve, answer."""
    from airflow.utils.db import initdb

    initdb()
    _write_dags(home / "dags")
    port = _serve()
    _say({"port": port})
    for line in sys.stdin:
        request = json.loads(line)
        if "mint" in request:
            _say(_mint(**request["mint"]))
        elif "change" in request:
            _say(_change(**request["change"]))
        else:
            _say(_state(request["state"]))


def _say(answer: object) -> None:
    sys.__stdout__.write(json.dumps(answer) + "\n")  # type: ignore[union-attr]
    sys.__stdout__.flush()  # type: ignore[union-attr]


def _serve() -> int:
    import uvicorn
    from airflow.api_fastapi.app import create_app

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(create_app(apps="execution"), log_level="error", lifespan="on"))
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True, name="execution-api").start()
    return int(listener.getsockname()[1])


def _write_dags(folder: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    manager: Any = DagBundlesManager  # has no annotations
    manager().sync_bundles_to_db()
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    if bag.import_errors:
        raise SystemExit(str(bag.import_errors))
    sync_bag_to_db(bag, "dags-folder", bundle_version=None)


def _mint(dag_id: str, task_id: str, count: int) -> list[dict[str, Any]]:
    """Make ``count`` DAG runs, queue the task of each, and return its workload as JSON would carry it."""
    from airflow._shared.timezones import timezone
    from airflow.api_fastapi.auth.tokens import JWTGenerator, get_signing_args
    from airflow.configuration import conf
    from airflow.executors.workloads import ExecuteTask
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    generator = JWTGenerator(
        valid_for=600,
        audience=conf.get_mandatory_list_value("execution_api", "jwt_audience")[0],
        issuer=conf.get("api_auth", "jwt_issuer", fallback=None),
        **get_signing_args(make_secret_key_if_needed=False),
    )
    made = []
    with create_session() as session:
        dag = SerializedDagModel.get_dag(dag_id, session=session)
        if dag is None:
            raise SystemExit(f"{dag_id} is not in the database")
        for _ in range(count):
            now = timezone.utcnow()
            run = dag.create_dagrun(
                run_id=f"run-{uuid4()}",
                logical_date=None,
                run_after=now,
                run_type=DagRunType.MANUAL,
                triggered_by=DagRunTriggeredByType.TEST,
                state=DagRunState.RUNNING,
                session=session,
            )
            session.flush()
            ti = run.get_task_instance(task_id, session=session)
            if ti is None:
                raise SystemExit(f"{dag_id} has no task {task_id}")
            ti.state = TaskInstanceState.QUEUED
            ti.queued_dttm = now
            ti.try_number = 1
            session.flush()
            made.append(json.loads(ExecuteTask.make(ti, generator=generator).model_dump_json()))
    return made


def _change(ti_id: str, state: str | None) -> dict[str, Any]:
    """Set the state of a task instance, as somebody does who marks it; ``None`` removes it."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.get(TaskInstance, UUID(ti_id))
        if ti is not None and state is None:
            session.delete(ti)
        elif ti is not None:
            ti.set_state(state, session=session)
    return _state(ti_id)


def _state(ti_id: str) -> dict[str, Any]:
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        ti = session.get(TaskInstance, UUID(ti_id))
        return {"state": str(ti.state), "hostname": ti.hostname, "pid": ti.pid} if ti else {"state": None}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
