"""Airflow's logging with modalflow's task logs.

What ``[logging] logging_config_class = modalflow.provider.logging_config.LOGGING_CONFIG`` names. Airflow imports this module in
each of its processes (3.3.2: the dictionary, then ``REMOTE_TASK_LOG`` and ``DEFAULT_REMOTE_CONN_ID`` beside it), never in a
sandbox. It changes nothing else: the dictionary, and a remote log such as S3, are those of ``[modal_executor]
base_logging_config_class``, or Airflow's own. Next: ``remote_task_log``.
"""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

from airflow.configuration import conf
from airflow.exceptions import AirflowConfigException

from modalflow.option_table import SECTION
from modalflow.provider.remote_task_log import ModalTaskLog

OPTION = "base_logging_config_class"
AIRFLOWS_OWN = "airflow.config_templates.airflow_local_settings.DEFAULT_LOGGING_CONFIG"


def load_base(dotted: str) -> tuple[dict[str, Any], Any, str | None]:
    """Return the dictionary at ``dotted``, and the remote log and its connection id that its module exports.

    Raises ``AirflowConfigException`` naming the option.
    """
    module_name, _, attribute = dotted.rpartition(".")
    if module_name == __name__ or not module_name:
        raise AirflowConfigException(
            f"[{SECTION}] {OPTION}: expected the dotted path of another logging configuration, "
            f"e.g. my_company.logging.LOGGING_CONFIG; got {dotted!r}"
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise AirflowConfigException(f"[{SECTION}] {OPTION}: cannot import {module_name} ({error})") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, dict):
        raise AirflowConfigException(f"[{SECTION}] {OPTION}: expected {dotted} to be a dictionary, got {type(found).__name__}")
    return deepcopy(found), getattr(module, "REMOTE_TASK_LOG", None), getattr(module, "DEFAULT_REMOTE_CONN_ID", None)


LOGGING_CONFIG, _BESIDE, DEFAULT_REMOTE_CONN_ID = load_base(conf.get(SECTION, OPTION, fallback="") or AIRFLOWS_OWN)
REMOTE_TASK_LOG = ModalTaskLog(_BESIDE)
