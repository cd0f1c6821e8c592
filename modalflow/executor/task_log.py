"""The seam through which Airflow asks the executor for the log of a running task.

Reading logs belongs to ``provider`` (which lies above this package and knows Volumes and streams); Airflow asks the
executor. So the reader is named by its dotted path, as Airflow names pluggable things, and looked up on the first call,
in the API server only.
"""

from __future__ import annotations

import logging
import pkgutil
from typing import Any

log = logging.getLogger(__name__)

READER = "modalflow.provider.task_logs:running_task_log"
"""``(ti, try_number) -> (messages, logs)``."""


def running_task_log(ti: Any, try_number: int, *, reader: str = READER) -> tuple[list[str], list[str]]:
    """Return messages (at least one) and log texts of a running try. Never raises.

    Without any message Airflow would add its own, that a log server on port 8793 refused the connection (3.3.2).
    """
    try:
        messages, logs = pkgutil.resolve_name(reader)(ti, try_number)
    except Exception as error:  # an unreadable log must not break the page that shows it
        log.exception("modalflow: reading the log of %s failed", ti)
        return [f"modalflow could not read this task's log: {type(error).__name__}: {error}"], []
    return list(messages) or [f"modalflow: no live output of try {try_number} yet."], list(logs)
