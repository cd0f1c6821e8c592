"""What ``image = auto`` means: Modal's ``debian_slim`` with the Airflow distributions that this scheduler has.

In: the metadata of the installed distributions. Out: an ``ImagePlan``; ``modal_gateway`` builds it. A worker must speak the
scheduler's version of the execution API and parse the same DAG files, hence exact versions.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterable

from modalflow.translation.plan import ImagePlan

CORE = ("apache-airflow-core", "apache-airflow-task-sdk")
PROVIDERS = "apache-airflow-providers-"
NOT_IN_A_WORKER = frozenset(
    {
        "apache-airflow-providers-celery",  # an executor and its broker client
        "apache-airflow-providers-edge3",  # an executor
        "apache-airflow-providers-fab",  # the API server's logins
        "apache-airflow-providers-keycloak",  # likewise
    }
)
"""Providers that serve the scheduler or the API server only. cncf-kubernetes stays: a DAG file that builds a V1Pod for
``pod_override`` imports ``kubernetes`` wherever it is parsed."""


def describe_auto_image() -> ImagePlan:
    """Return the image for tasks that name none. Reads every distribution's metadata: call once, at start."""
    installed = ((found.name, found.version) for found in importlib.metadata.distributions() if found.name)
    return ImagePlan(
        reference=None,
        python_version=f"{sys.version_info.major}.{sys.version_info.minor}",
        packages=worker_packages(installed),
    )


def worker_packages(installed: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """``name==version`` of the distributions that a worker needs, sorted, so that equal schedulers share an image."""
    named = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in installed}
    wanted = (name for name in named if name in CORE or (name.startswith(PROVIDERS) and name not in NOT_IN_A_WORKER))
    return tuple(f"{name}=={named[name]}" for name in sorted(wanted))
