"""``image = auto``: which distributions a worker gets."""

from __future__ import annotations

import sys
from importlib.metadata import version

from modalflow.executor.auto_image import describe_auto_image, worker_packages


def test_core_sdk_and_providers_with_exact_versions() -> None:
    installed = [
        ("apache-airflow", "3.3.2"),
        ("apache-airflow-core", "3.3.2"),
        ("apache_airflow_task_sdk", "1.3.2"),
        ("apache-airflow-providers-standard", "1.21.0"),
        ("Apache-Airflow-Providers-Common.SQL", "2.4.0"),
        ("apache-airflow-providers-celery", "4.0.0"),
        ("apache-airflow-providers-fab", "3.0.0"),
        ("modalflow", "0.4.0"),
        ("pandas", "2.2.0"),
    ]
    assert worker_packages(installed) == (
        "apache-airflow-core==3.3.2",
        "apache-airflow-providers-common-sql==2.4.0",
        "apache-airflow-providers-standard==1.21.0",
        "apache-airflow-task-sdk==1.3.2",
    )


def test_the_order_of_installation_does_not_change_the_image() -> None:
    installed = [("apache-airflow-core", "3.3.2"), ("apache-airflow-task-sdk", "1.3.2")]
    assert worker_packages(installed) == worker_packages(reversed(installed))


def test_the_image_is_this_scheduler_s() -> None:
    plan = describe_auto_image()
    assert plan.reference is None
    assert plan.python_version == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apache-airflow-core=={version('apache-airflow-core')}" in plan.packages
    assert f"apache-airflow-providers-cncf-kubernetes=={version('apache-airflow-providers-cncf-kubernetes')}" in plan.packages
