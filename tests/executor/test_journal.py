"""The executor's lines on the scheduler's host: where they go and where they cannot."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from modalflow.executor.journal import Journal

LOG = "dag_id=d/run_id=r/task_id=t/attempt=1.log"


def test_lines_are_appended_beside_the_task_s_log(tmp_path: Path) -> None:
    journal = Journal(folder=tmp_path)
    journal(LOG, '{"event": "one"}')
    journal(LOG, '{"event": "two"}\n')
    assert (tmp_path / f"{LOG}.modalflow.log").read_text() == '{"event": "one"}\n{"event": "two"}\n'


def test_a_path_that_already_names_the_journal_is_taken_as_it_is(tmp_path: Path) -> None:
    assert Journal(folder=tmp_path).path(f"{LOG}.modalflow.log") == tmp_path / f"{LOG}.modalflow.log"


def test_modes_are_airflow_s_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Journal(folder=tmp_path / "logs", folder_mode=0o775, file_mode=0o600)(LOG, "x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "logs" / "dag_id=d").stat().st_mode) == 0o775
    assert stat.S_IMODE((tmp_path / "logs" / f"{LOG}.modalflow.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("log_path", ["../outside.log", "/etc/passwd", "a/../../b.log", "", "."])
def test_a_path_out_of_the_folder_is_not_written(tmp_path: Path, log_path: str, caplog: pytest.LogCaptureFixture) -> None:
    logs = tmp_path / "logs"
    Journal(folder=logs)(log_path, "x")
    assert list(tmp_path.rglob("*")) == []
    assert f"could not write to the journal of {log_path!r}: expected a log path relative to {logs} without '..'" in caplog.text


def test_a_symbolic_link_does_not_lead_out(tmp_path: Path) -> None:
    logs, outside = tmp_path / "logs", tmp_path / "outside"
    logs.mkdir()
    outside.mkdir()
    (logs / "dag_id=d").symlink_to(outside)
    Journal(folder=logs)("dag_id=d/attempt=1.log", "x")
    assert list(outside.iterdir()) == []


def test_a_folder_that_cannot_be_written_costs_no_launch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file where the folder should be")
    Journal(folder=tmp_path / "logs")(LOG, "x")
    assert "could not write to the journal" in caplog.text
