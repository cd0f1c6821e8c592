"""Committing the log Volume while the task runs: when, how often, and what a failure says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from modalflow.worker.syncing import SYNC_EVERY, Syncing
from tests.worker.conftest import RunSandbox
from tests.worker.real_airflow import RealAirflow

FAILED = "the log may be on its Volume only after the sandbox's end (`sync {mount}` ended with exit code 3)"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``sync`` first on the PATH; the file has a line for each time that it ran. It fails where ``sync-fails`` exists."""
    return put_sync_on_path(tmp_path, monkeypatch)


def put_sync_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    script = folder / "bin" / "sync"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/commits\n[ ! -e {folder}/sync-fails ] || exit 3\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    (folder / "commits").touch()
    return folder / "commits"


class Scene:
    def __init__(self, folder: Path, clock: Clock) -> None:
        self.said: list[str] = []
        self.clock = clock
        self.mount = folder / "logs"
        self.mount.mkdir()
        self.log = self.mount / "attempt=1.log"
        self.environ = {SYNC_EVERY: "10", "HOME": "/"}
        self.syncing = Syncing(lambda _, text: self.said.append(text), clock)
        self.syncing.take(self.environ)
        self.syncing.mount = str(self.mount)

    def writes(self) -> None:
        with self.log.open("a") as file:
            file.write("line\n")

    def looks(self, *, after: float = 0.0, ended: bool = True) -> None:
        self.clock.now += after
        self.syncing.look(str(self.log))
        process: Any = self.syncing._process
        if process is not None and ended:
            process.wait(60)


@pytest.fixture
def scene(tmp_path: Path, clock: Clock, commits: Path) -> Scene:
    return Scene(tmp_path, clock)


def test_it_commits_what_was_logged_and_no_more_often_than_asked(scene: Scene, commits: Path) -> None:
    scene.writes()
    scene.looks(after=9)
    assert commits.read_text() == ""
    scene.looks(after=1)
    scene.writes()
    scene.looks(after=9)
    assert commits.read_text() == f"{scene.mount}\n"
    scene.looks(after=1)
    scene.looks(after=60)  # nothing was logged since
    assert commits.read_text() == f"{scene.mount}\n" * 2
    assert (scene.said, scene.environ) == ([], {"HOME": "/"})


def test_the_end_commits_the_last_lines_once(scene: Scene, commits: Path) -> None:
    scene.writes()
    scene.looks(after=10, ended=False)
    scene.writes()
    scene.syncing.finish(str(scene.log))
    scene.syncing.finish(str(scene.log))
    assert commits.read_text() == f"{scene.mount}\n" * 2


def test_a_commit_that_fails_is_tried_again_and_told_once(scene: Scene, commits: Path, tmp_path: Path) -> None:
    (tmp_path / "sync-fails").touch()
    scene.writes()
    for _ in range(3):
        scene.looks(after=10)
    scene.syncing.finish(str(scene.log))
    assert commits.read_text().count("\n") >= 3
    assert scene.said == [FAILED.format(mount=scene.mount)]


def test_an_image_without_sync_says_so(scene: Scene, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    scene.writes()
    scene.looks(after=10)
    scene.looks(after=10)
    text = "the log may be on its Volume only after the sandbox's end (`sync` cannot be run: No such file or directory)"
    assert scene.said == [text]


@pytest.mark.parametrize("of", ["no variable", "no mount", "another folder"])
def test_otherwise_nothing_is_committed(scene: Scene, commits: Path, of: str) -> None:
    if of == "no variable":
        scene.syncing.take({})
    else:
        scene.syncing.mount = "" if of == "no mount" else f"{scene.mount}-of-another"
    scene.writes()
    scene.looks(after=60)
    scene.syncing.finish(str(scene.log))
    assert commits.read_text() == ""


def test_a_real_task_commits_while_it_runs_and_at_its_end(
    airflow: RealAirflow, run_sandbox: RunSandbox, sandbox_home: Path, commits: Path
) -> None:
    (workload,) = airflow.mint("prints")
    env = airflow.worker_env(sandbox_home) | {"MODAL_SANDBOX_ID": "sb-1", SYNC_EVERY: "0.001"}
    ended = run_sandbox({**env, "MODALFLOW_WORKLOAD": json.dumps(workload)})
    assert (ended.code, ended.stderr) == (0, "")
    asked = commits.read_text().splitlines()
    assert set(asked) == {str(sandbox_home / "logs")}
    assert len(asked) >= 2
