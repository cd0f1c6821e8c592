"""Repositories that a sandbox of the emulator clones, and variables that it reads from files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from modalflow.launch import exit_codes
from modalflow.worker import bootstrap_source
from modalflow.worker.env_files import value_in
from tests.contract.in_sandbox import plan_of, run, seen, task_log

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated


@pytest.fixture
def repository(tmp_path: Path) -> str:
    """A repository of two commits, the first of them tagged v1."""
    folder = tmp_path / "models.git"

    def git(*words: str) -> None:
        who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b"}
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", **who})

    folder.mkdir()
    git("init", "--quiet")
    for number in (1, 2):
        (folder / "weights").write_text(f"version {number}")
        git("add", ".")
        git("commit", "--quiet", "-m", f"{number}")
        if number == 1:
            git("tag", "v1")
    return f"file://{folder}"


def pod(source: str, path: str = "/code") -> str:
    return f"""
    spec:
      containers: [{{name: base, volumeMounts: [{{name: code, mountPath: {path}}}]}}]
      volumes: [{{name: code, gitRepo: {{{source}}}}}]
    """


def test_a_repository_as_a_volume(modal_emulator: EmulatorThread, repository: str) -> None:
    found = seen(plan_of(pod(f"repository: '{repository}'"), {}, {"env": [], "files": ["/code", "/code/models/weights"]}))
    assert found["files"] == {"/code": ["models"], "/code/models/weights": ["0o644", "version 2"]}


def test_a_revision_in_the_volume_itself(modal_emulator: EmulatorThread, repository: str) -> None:
    source = f"repository: '{repository}', revision: v1, directory: ."
    found = seen(plan_of(pod(source), {}, {"env": [], "files": ["/code/weights"]}))
    assert found["files"] == {"/code/weights": ["0o644", "version 1"]}


@pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of the emulator start as root only where the tests do")
def test_a_link_in_a_repository_gives_nothing_away(modal_emulator: EmulatorThread, repository: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("root's own")
    outside.chmod(0o600)
    folder = repository.removeprefix("file://")
    (Path(folder) / "link").symlink_to(outside)
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for words in (("add", "."), (*who, "commit", "--quiet", "-m", "3")):
        subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True)
    source = pod(f"repository: '{repository}'").replace(
        "spec:", "spec:\n      securityContext: {runAsUser: 50000, fsGroup: 7}", 1
    )
    found = seen(plan_of(source, {}, {"env": [], "files": [], "owners": ["/code/models/weights"]}))
    assert found["owners"] == {"/code/models/weights": [50000, 7]}
    assert (outside.stat().st_uid, outside.stat().st_mode & 0o777) == (0, 0o600)


@pytest.mark.parametrize("source", ["repository: '%s-not'", "repository: '%s', revision: v9"])
def test_what_cannot_be_cloned_fails_the_task(modal_emulator: EmulatorThread, repository: str, source: str) -> None:
    code, _, stderr = run(plan_of(pod(source % repository), {}, {}), program=bootstrap_source())
    assert code == exit_codes.EXIT_NOT_CLONED == 72
    address = repository + ("-not" if "-not" in source else "")
    assert stderr.startswith(f"modalflow: the repository {address} ended with exit code ")
    assert len(task_log()) > 1, "git's own words"


def test_an_image_without_git_says_so(modal_emulator: EmulatorThread, repository: str) -> None:
    plan = plan_of(pod(f"repository: '{repository}'"), {}, {})
    program = bootstrap_source().replace("shutil.which(", "str and (lambda *_, **__: None)(")
    code, _, stderr = run(plan, program=program)
    assert code == 72
    assert stderr == f"modalflow: the repository {repository} cannot be cloned: this image has no git; install it there\n"


def test_what_git_sync_would_bring_beside_dags(modal_emulator: EmulatorThread, repository: str) -> None:
    text = f"""
    spec:
      initContainers:
        - name: git-sync
          image: registry.k8s.io/git-sync/git-sync:v4.4.0
          args: ["--repo={repository}", --ref=v1, --root=/git, --link=repo]
          volumeMounts: [{{name: models, mountPath: /git}}]
      containers: [{{name: base, volumeMounts: [{{name: models, mountPath: /models}}]}}]
      volumes: [{{name: models, emptyDir: {{}}}}]
    """
    found = seen(plan_of(text, {}, {"env": [], "files": ["/models/repo/weights"]}))
    assert found["files"] == {"/models/repo/weights": ["0o644", "version 1"]}


FILES = """
spec:
  initContainers:
    - name: ask
      command: [sh, -c, 'echo "$LINE" > "$MODAL_EMULATOR_ROOT/answers/db.env"']
      env: [{name: LINE, value: "DB_HOST='db.example.com'"}]
      volumeMounts: [{name: v, mountPath: /answers}]
  containers:
    - name: base
      env:
        - {name: HOST, valueFrom: {fileKeyRef: {volumeName: v, path: db.env, key: %s}}}
        - {name: PORT, valueFrom: {fileKeyRef: {volumeName: v, path: db.env, key: DB_PORT, optional: true}}}
        - {name: URL, value: "db://$(HOST)"}
  volumes: [{name: v, emptyDir: {}}]
"""


def test_a_variable_from_a_file_that_an_init_container_wrote(modal_emulator: EmulatorThread) -> None:
    found = seen(plan_of(FILES % "DB_HOST", {}, {"env": ["HOST", "PORT", "URL"], "files": []}))
    assert found["env"] == {"HOST": "db.example.com", "PORT": None, "URL": "db://db.example.com"}


def test_a_variable_that_its_file_lacks_is_named(modal_emulator: EmulatorThread) -> None:
    code, _, stderr = run(plan_of(FILES % "DB_NAME", {}, {}), program=bootstrap_source())
    assert code == exit_codes.EXIT_NOT_SET_UP
    assert stderr == (
        "modalflow: the pod's set-up failed: the variable HOST needs DB_NAME of /answers/db.env, which is not there\n"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A='x y'", "x y"),
        ("# A='no'\n\nA='1'\nA='2'\n", "2"),
        ("A='one\ntwo'\nB='3'", "one\ntwo"),
        ('A="$B"', "$B"),
        ("A=plain # kept", "plain # kept"),
        ("A=''", ""),
        ("AB='1'", None),
        ("", None),
    ],
)
def test_files_of_variables(text: str, value: str | None) -> None:
    assert value_in(text, "A") == value
