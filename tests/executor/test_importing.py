"""Importing and constructing ModalExecutor: every Airflow process does the first, the API server the second."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROBE = """
import socket, sys, threading
import airflow.executors.base_executor
before = set(sys.modules)
threads = set(threading.enumerate())
opened = []
real = socket.socket.__init__
def record(self, *args, **kwargs):
    opened.append(args)
    real(self, *args, **kwargs)
socket.socket.__init__ = record
{import_it}
executor = ModalExecutor()
assert executor.get_task_log.__name__ == "get_task_log"
new = set(sys.modules) - before
print([name for name in ("modal", "kubernetes", "grpclib", "modal_proto", "yaml", "rich") if name in new])
print(len(set(threading.enumerate()) - threads), len(opened))
print(sorted(name for name in new if name.startswith("modalflow.launch") or name.startswith("modalflow.provider")))
"""


@pytest.mark.parametrize(
    "import_it",
    ["from modalflow.executor import ModalExecutor", "from modalflow.executor.modal_executor import ModalExecutor"],
)
def test_nothing_heavy_no_thread_no_socket(import_it: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(import_it=import_it)], capture_output=True, text=True, env=os.environ, check=True
    )
    assert done.stdout.splitlines()[-3:] == [
        "[]",
        "0 0",
        (
            "['modalflow.launch', 'modalflow.launch.events', 'modalflow.launch.exit_codes', 'modalflow.launch.failures', "
            "'modalflow.launch.gateway', 'modalflow.launch.identity']"
        ),
    ]


def test_airflow_loads_it_by_its_path() -> None:
    from airflow.executors.executor_loader import ExecutorLoader

    executor = ExecutorLoader.load_executor("modalflow.executor.ModalExecutor")
    assert type(executor).__module__ == "modalflow.executor.modal_executor"


def test_a_name_that_is_not_there() -> None:
    import modalflow.executor

    with pytest.raises(AttributeError, match=r"^module 'modalflow\.executor' has no attribute 'Executor'$"):
        modalflow.executor.Executor  # noqa: B018
