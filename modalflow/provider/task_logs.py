"""The live log of a running task, for ``ModalExecutor.get_task_log`` in the API server.

Flows in: a task instance and the try being viewed. Flows out: messages (at least one) and the lines that its sandbox has printed
so far. What is already on the log Volume comes through ``remote_task_log``; Airflow merges both and drops what is equal.
"""

from __future__ import annotations

import logging
from typing import Any

from modalflow.provider.remote_task_log import read_airflow_settings

log = logging.getLogger(__name__)


def running_task_log(ti: Any, try_number: int) -> tuple[list[str], list[str]]:
    """Return messages and log texts for one try of a task instance that Airflow calls running. Never raises.

    ``ti.external_executor_id`` is ``<launch id>`` while the sandbox is being created, ``<launch id>/<sandbox id>`` after.
    """
    if try_number != ti.try_number:
        return [f"modalflow: try {try_number} has ended; its log is that on the log Volume"], []
    launch_id, _, sandbox_id = (ti.external_executor_id or "").partition("/")
    if not sandbox_id:
        return [f"modalflow: launch {launch_id or '(no id)'} has no sandbox yet"], []
    try:
        from modalflow.executor.modal_connections import log_access  # noqa: PLC0415 - Airflow imports this module while it configures itself

        lines = log_access(read_airflow_settings().launch).output(sandbox_id)
    except Exception as error:
        log.warning("modalflow: could not read the output of %s: %s", sandbox_id, error)
        return [f"modalflow: {error}"], []
    return [f"Modal sandbox {sandbox_id}: output so far"], ["\n".join(lines)] if lines else []
