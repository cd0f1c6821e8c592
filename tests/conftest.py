"""What every test starts from: an Airflow and a Modal client that know nothing of the machine they run on.

The variables are set when this file is imported, before any test module imports Airflow, which reads them once.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

settings.register_profile("repeatable", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
# Every run draws the same examples, so that a red run is the change's own. HYPOTHESIS_PROFILE=default draws new ones, and so
# does tests/property/fuzz.py.

HOME = Path(tempfile.mkdtemp(prefix="modalflow-tests-"))
"""AIRFLOW_HOME of this process; each worker of pytest-xdist has its own."""

JWT_SECRET = "a secret of the tests that is long enough for HS512, which wants sixty-four bytes"


def _isolate() -> None:
    for name in [name for name in os.environ if name.startswith(("AIRFLOW", "MODAL"))]:
        if not name.startswith("MODALFLOW_TEST_"):  # of `make matrix`: which worker environment the tests are to use
            del os.environ[name]
    (HOME / "dags").mkdir()
    os.environ |= {
        "AIRFLOW_HOME": str(HOME),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(HOME / "dags"),
        "AIRFLOW__CORE__EXECUTOR": "modalflow.executor.ModalExecutor,LocalExecutor",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__API_AUTH__JWT_SECRET": JWT_SECRET,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(HOME / "logs"),
        "MODAL_CONFIG_PATH": str(HOME / "modal.toml"),
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


_isolate()


@pytest.fixture(autouse=True)
def _client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway sets this for its process, as modal has no setting a client; no later test may see it."""
    monkeypatch.delenv("MODAL_MAX_THROTTLE_WAIT", raising=False)


@pytest.fixture(scope="session")
def airflow_database() -> Iterator[None]:
    """Airflow's SQLite database, migrated once for the session (about 6 s)."""
    from airflow.utils.db import initdb

    initdb()
    yield
    from airflow import settings

    if settings.engine is not None:
        settings.engine.dispose()


def pytest_unconfigure() -> None:
    """Remove the folder of this run."""
    shutil.rmtree(HOME, ignore_errors=True)


@pytest.fixture
def modal_emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorThread]:
    """An emulator of its own for this test, which looks into it and restarts it. The plugin's is one per session."""
    from modalflow.emulator import EmulatorConfig, EmulatorThread

    with EmulatorThread(EmulatorConfig(record_calls=True, isolation="process", image_builds="record")) as emulator:
        for name, value in emulator.environment().items():
            monkeypatch.setenv(name, value)
        yield emulator
