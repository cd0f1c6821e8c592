"""A ModalExecutor whose loop is a recorder."""

from __future__ import annotations

import pytest

from modalflow.executor import ModalExecutor
from modalflow.executor.launching import Launching
from modalflow.executor.worker_environment import WorkerEnvironment
from tests.executor.recording import RecordingBackend, plan_of


@pytest.fixture
def backend() -> RecordingBackend:
    return RecordingBackend()


@pytest.fixture
def executor(backend: RecordingBackend) -> ModalExecutor:
    executor = ModalExecutor(parallelism=8)
    executor._launching = Launching(
        backend=backend,
        environment=WorkerEnvironment(env={}, deployment="airflow", logs_volume="modalflow-logs"),
        translate=plan_of,
        jwt_generator=None,
    )
    return executor
