"""Rows of a real Airflow database for tests: a stored DAG, a session, runs and their task instances."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any


def store_dag(dag_id: str, text: str) -> str:
    """Have Airflow read ``text`` as a DAG file and keep it; return ``dag_id``. Needs ``airflow_database``."""
    from airflow import settings
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    file = Path(settings.DAGS_FOLDER) / f"{dag_id}.py"
    file.write_text(text)
    DagBundlesManager().sync_bundles_to_db()  # type: ignore[no-untyped-call]
    bag = BundleDagBag(dag_folder=file, bundle_path=file.parent, bundle_name="dags-folder")
    assert bag.import_errors == {}
    sync_bag_to_db(bag, "dags-folder", bundle_version=None)
    return dag_id


@contextmanager
def database_session() -> Iterator[Any]:
    """A session that is rolled back and closed at the end."""
    from airflow import settings

    assert settings.Session is not None
    session = settings.Session()
    try:
        yield session
    finally:
        session.rollback()
        session.close()


def new_run(session: Any, dag_id: str, *, run_after: datetime | None = None) -> Any:
    """A run of a stored DAG, committed, with its task instances; due now, or at ``run_after``."""
    from airflow._shared.timezones import timezone
    from airflow.models.serialized_dag import SerializedDagModel
    from airflow.utils.state import DagRunState
    from airflow.utils.types import DagRunTriggeredByType, DagRunType

    dag = SerializedDagModel.get_dag(dag_id, session=session)
    assert dag is not None
    run = dag.create_dagrun(
        run_id=f"run-{uuid.uuid4()}",
        logical_date=None,
        run_after=run_after or timezone.utcnow(),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )
    session.commit()
    return run


def new_instance(session: Any, dag_id: str, task_id: str, *, run_after: datetime | None = None, **values: Any) -> Any:
    """A task instance of a run of its own, in its first try, with these columns."""
    ti = new_run(session, dag_id, run_after=run_after).get_task_instance(task_id, session=session)
    assert ti is not None
    for name, value in {"try_number": 1, **values}.items():
        setattr(ti, name, value)
    session.commit()
    return ti
