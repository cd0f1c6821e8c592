"""Init containers that a sandbox of the emulator runs before its task.

The emulator has no private root: a command finds what the sandbox sees at ``/data`` below ``MODAL_EMULATOR_ROOT``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from modalflow.launch import exit_codes
from modalflow.worker import bootstrap_source
from tests.contract.in_sandbox import CANARY, plan_of, run, seen, task_log

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of the emulator start as root only where the tests do")

PREPARED = """
spec:
  initContainers:
    - name: first
      command: [sh, -c, 'echo "$FROM $TOKEN $MODE." > "$MODAL_EMULATOR_ROOT/out/x"; echo fetched']
      env:
        - {name: FROM, value: s3}
        - {name: TOKEN, valueFrom: {secretKeyRef: {name: hub, key: HUB_TOKEN}}}
      volumeMounts: [{name: data, mountPath: /out}]
    - name: second
      command: [sh, -c]
      args: ['cat "$MODAL_EMULATOR_ROOT/data/x"; pwd > here']
      workingDir: /data
      volumeMounts: [{name: data, mountPath: /data}]
  containers:
    - name: base
      env: [{name: MODE, value: fast}]
      volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
"""


def test_init_containers_prepare_what_the_task_finds(modal_emulator: EmulatorThread) -> None:
    look = {"env": ["MODE", "FROM", "TOKEN", "HUB_TOKEN"], "files": ["/data", "/data/x"]}
    found = seen(plan_of(PREPARED, {}, look), secrets={"hub": {"HUB_TOKEN": CANARY}})
    # They had their own variables and none of the task's, which has none of theirs.
    assert found["env"] == {"MODE": "fast", "FROM": None, "TOKEN": None, "HUB_TOKEN": None}
    assert found["files"] == {"/data": ["here", "x"], "/data/x": ["0o644", f"s3 {CANARY} .\n"]}
    assert task_log() == [
        'info: the init container "first" starts',
        'info: the init container "first": fetched',
        'info: the init container "second" starts',
        f'info: the init container "second": s3 {CANARY} .',
        "info: the task ran",
    ]


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("[sh, -c, 'echo no such table >&2; exit 3']", 'the init container "migrate" ended with exit code 3'),
        ("[sh, -c, 'kill -9 $$$$']", 'the init container "migrate" ended by signal 9'),
        ("[no-such-program]", 'the init container "migrate" cannot be started: no-such-program: No such file or directory'),
    ],
)
def test_an_init_container_that_fails_fails_the_task(modal_emulator: EmulatorThread, command: str, told: str) -> None:
    plan = plan_of(f"spec: {{initContainers: [{{name: migrate, command: {command}}}], containers: [{{name: base}}]}}", {}, {})
    code, _, stderr = run(plan, program=bootstrap_source())
    assert code == exit_codes.EXIT_COMMAND_FAILED == 71
    assert stderr == f"modalflow: {told}\n"
    assert task_log()[-1] == f"error: {told}"
    assert ('info: the init container "migrate": no such table' in task_log()) == ("table" in command)


def test_what_an_init_container_leaves_running_does_not_hold_the_task_up(modal_emulator: EmulatorThread) -> None:
    pod = "spec: {initContainers: [{name: daemon, command: [sh, -c, 'sleep 1000 &']}], containers: [{name: base}]}"
    assert seen(plan_of(pod, {}, {"env": [], "files": []}))["env"] == {}


@as_root
def test_each_container_is_its_own_user(modal_emulator: EmulatorThread) -> None:
    pod = """
    spec:
      securityContext: {runAsUser: 50000}
      initContainers:
        - {name: root, command: [id, -u], securityContext: {runAsUser: 0}}
        - {name: same, command: [id, -u]}
        - {name: kept, command: [id, -u], securityContext: {runAsUser: 0, runAsNonRoot: false}}
      containers: [{name: base}]
    """
    assert seen(plan_of(pod, {}, {"env": [], "files": []}))["user"][0] == 50000
    said = [line for line in task_log() if "starts" not in line]
    assert said[:3] == [f'info: the init container "{name}": {uid}' for name, uid in [("root", 0), ("same", 50000), ("kept", 0)]]


@as_root
def test_an_init_container_that_must_not_be_root(modal_emulator: EmulatorThread) -> None:
    pod = """
    spec:
      initContainers: [{name: a, command: ["true"], securityContext: {runAsNonRoot: true}}]
      containers: [{name: base}]
    """
    code, _, stderr = run(plan_of(pod, {}, {}), program=bootstrap_source())
    assert (code, stderr) == (70, "modalflow: runAsNonRoot: the image's user is root; set USER in the image or runAsUser\n")
