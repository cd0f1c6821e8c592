"""The button "Modal sandbox" of a task instance: to its sandbox on Modal's pages, whatever operator the task has.

A plugin with a global operator extra link (entry point ``airflow.plugins``: plugins that a provider's description names are
loaded only with ``[core] lazy_discover_providers`` off). Airflow's API server calls ``get_link`` when it shows a task instance
(3.3.2): one query for the id that the executor committed, and no call to Modal. A try of another executor has no such id; the
button is there and leads nowhere. ``[modal_executor] sandbox_url`` says where to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperatorLink

from modalflow.launch.identity import parse_external_id

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from sqlalchemy.orm import Session

PLACE = "{sandbox_id}"


class SandboxLink(BaseOperatorLink):
    """To the sandbox of one try."""

    name = "Modal sandbox"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the address, empty if this try has no sandbox of ours."""
        from airflow.configuration import conf  # noqa: PLC0415 - Airflow is imported where it is needed
        from airflow.utils.session import create_session  # noqa: PLC0415

        address = conf.get("modal_executor", "sandbox_url", fallback="")
        if not address:
            return ""
        with create_session() as session:
            external = parse_external_id(external_id_of(session, ti_key))
        return address.replace(PLACE, external.sandbox_id) if external and external.sandbox_id else ""


def external_id_of(session: Session, key: TaskInstanceKey) -> str | None:
    """Return what the executor committed for a try, the present one or an earlier one."""
    from airflow.models.taskinstance import TaskInstance  # noqa: PLC0415
    from airflow.models.taskinstancehistory import TaskInstanceHistory  # noqa: PLC0415
    from sqlalchemy import select  # noqa: PLC0415

    tables: tuple[Any, ...] = (TaskInstance, TaskInstanceHistory)
    for of in tables:
        found: str | None = session.scalar(
            select(of.external_executor_id).where(
                of.dag_id == key.dag_id,
                of.task_id == key.task_id,
                of.run_id == key.run_id,
                of.map_index == key.map_index,
                of.try_number == key.try_number,
            )
        )
        if found is not None:
            return found
    return None


class ModalflowPlugin(AirflowPlugin):
    """What modalflow adds to Airflow's pages."""

    name = "modalflow"
    global_operator_extra_links = [SandboxLink()]  # noqa: RUF012 - as Airflow declares it
