"""The log of a task whose sandbox runs on is committed by syncing the Volume's folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modalflow.worker.task_log import LOG_FOLDER, Log


def test_the_log_folder_is_synced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    synced: list[str] = []
    monkeypatch.setenv(LOG_FOLDER, str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(str(Path(f"/proc/self/fd/{fd}").readlink())))
    Log().commit()
    assert synced == [str(tmp_path)]


def test_without_a_folder_nothing_is_raised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(LOG_FOLDER, str(tmp_path / "gone"))
    Log().commit()
