"""The secrets of Airflow itself, which no sandbox is given: one rule, whoever writes them and however.

Flows in: names of variables, of pods as they are read (``pods.env``) and of all layers once they are folded (``resolve``). Flows
out: a warning with the reason, and no variable. ``[modal_executor] allow_env`` names those that tasks may have after all.
``executor.worker_environment`` refuses the same names in ``worker_env``. The names are those of Airflow 2.0 to 3.3.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from modalflow.translation.report import Place, shown

_DATABASE = "with it a task could read and change Airflow's database, and a task of Airflow 3 has no use for it"
_KEY = "who has it can act as any task or user"

REASONS: Mapping[str, str] = {
    "AIRFLOW__DATABASE__": _DATABASE,
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN": _DATABASE,
    "AIRFLOW_CONN_AIRFLOW_DB": _DATABASE,
    "AIRFLOW__CORE__FERNET_KEY": "it decrypts every connection and variable, which the API server does for tasks",
    "AIRFLOW__API_AUTH__": _KEY,
    "AIRFLOW__API__SECRET_KEY": _KEY,
    "AIRFLOW__WEBSERVER__SECRET_KEY": _KEY,
    "AIRFLOW__CORE__INTERNAL_API_SECRET_KEY": _KEY,
    "AIRFLOW__CELERY__": "it leads to the broker and the results of other workers",
}
"""Beginnings of names, so that ``_CMD`` and ``_SECRET`` are meant too, and why a task may not have them."""
SECRETS = tuple(REASONS)


def withholds(name: str, place: Place, allowed: Collection[str]) -> bool:
    """Tell whether tasks are not given the variable, and report it."""
    if not name.startswith(SECRETS) or name in allowed:
        return False
    reason = next(why for beginning, why in REASONS.items() if name.startswith(beginning))
    place.warn(
        "withheld-env",
        f"{name} is not given to tasks: {reason}",
        f"remove it, or add {shown(name)} to [modal_executor] allow_env",
    )
    return True


def without_secrets(env: Mapping[str, Any], places: Mapping[str, Place], allowed: Collection[str]) -> Mapping[str, Any]:
    """Return the variables that tasks may have; ``places`` says where ``env.NAME`` was written."""
    if not any(name.startswith(SECRETS) for name in env):
        return env
    return dict(_given(env, places, allowed))


def _given(env: Mapping[str, Any], places: Mapping[str, Place], allowed: Collection[str]) -> Iterator[tuple[str, Any]]:
    for name, value in env.items():
        if not withholds(name, places[f"env.{name}"], allowed):
            yield name, value
