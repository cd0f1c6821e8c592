"""The user that a pod names, seen from inside a sandbox of the emulator, which starts as whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from modalflow.launch import exit_codes
from modalflow.worker import bootstrap_source
from tests.contract.in_sandbox import CANARY, plan_of, run, seen, task_log

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes of the emulator start as root only where the tests do")

POD = """
spec:
  securityContext: {%s}
  containers:
    - name: base
      volumeMounts:
        - {name: scratch, mountPath: /scratch}
        - {name: memory, mountPath: /cache}
        - {name: shared, mountPath: /one, subPath: x}
        - {name: tls, mountPath: /tls}
  volumes:
    - {name: scratch, emptyDir: {}}
    - {name: memory, emptyDir: {medium: Memory}}
    - {name: shared, emptyDir: {}}
    - {name: tls, secret: {secretName: t, items: [{key: K, path: key}]}}
"""
LOOK_AT = {"env": ["HOME", "USER"], "files": ["/tls/key"], "write": {"/scratch/a": "1", "/cache/a": "1", "/one/a": "1"}}


@as_root
def test_a_task_is_the_user_that_its_pod_names(modal_emulator: EmulatorThread) -> None:
    pod = POD % "runAsUser: 50000, supplementalGroups: [1001, 1002], runAsNonRoot: true"
    found = seen(plan_of(pod, {}, LOOK_AT), secrets={"t": {"K": CANARY}})
    # It wrote into every folder, and reads a Secret's file that nobody else does.
    assert found["user"] == [50000, 0, [0, 1001, 1002]]
    assert found["files"] == {"/tls/key": ["0o400", CANARY]}
    assert found["env"]["USER"] == "default"  # nobody of that number is in /etc/passwd
    # The log folder, on a Volume, was handed over.
    assert task_log() == ["info: the task ran"]


@as_root
def test_a_group_for_what_is_set_up(modal_emulator: EmulatorThread) -> None:
    found = seen(plan_of(POD % "runAsUser: 50000, runAsGroup: 7, fsGroup: 2000", {}, LOOK_AT), secrets={"t": {"K": CANARY}})
    assert found["user"] == [50000, 7, [7, 2000]]
    assert found["files"] == {"/tls/key": ["0o440", CANARY]}


@as_root
@pytest.mark.parametrize("context", ["runAsUser: 0", "fsGroup: 2000, supplementalGroups: [5]"])
def test_root_stays_root_unless_another_is_named(modal_emulator: EmulatorThread, context: str) -> None:
    user, group, groups = seen(plan_of(POD % context, {}, LOOK_AT), secrets={"t": {"K": CANARY}})["user"]
    assert (user, group) == (0, 0)
    assert ({5, 2000} <= set(groups)) == ("fsGroup" in context)


@as_root
def test_run_as_non_root_is_kept(modal_emulator: EmulatorThread) -> None:
    plan = plan_of("spec: {securityContext: {runAsNonRoot: true}, containers: [{name: base}]}", {}, LOOK_AT)
    code, _, stderr = run(plan, program=bootstrap_source())
    assert code == exit_codes.EXIT_ROOT == 70
    text = "runAsNonRoot: the image's user is root; set USER in the image or runAsUser"
    assert stderr == f"modalflow: {text}\n"
    assert task_log() == [f"error: {text}"]


SOMEBODY = """
import os, pwd
from modalflow.worker.user import User
if os.geteuid() == 0:
    os.setgroups([65534]); os.setgid(65534); os.setuid(65534)
plan = {"uid": os.geteuid() + %d, "gid": os.getegid() + %d, "groups": %s}
user = User(plan)
user.check()
user.become({}, lambda level, text: print(level, text.replace(str(os.geteuid()), "ME").replace(str(os.getegid()), "MINE")))
"""


def test_who_is_not_root_cannot_change_and_says_so() -> None:
    done = subprocess.run([sys.executable, "-c", SOMEBODY % (0, 0, [5])], capture_output=True, text=True, check=True)
    assert done.stdout.replace("MINE", "ME") == (
        "warning the groups 5 cannot be given: this image's user is ME, and only root can change that; the task runs as ME:ME\n"
    )


def test_what_holds_anyway_is_not_told() -> None:
    done = subprocess.run([sys.executable, "-c", SOMEBODY % (0, 0, [])], capture_output=True, text=True, check=True)
    assert done.stdout == ""


def test_another_user_and_group_that_cannot_be_had_are_named() -> None:
    done = subprocess.run([sys.executable, "-c", SOMEBODY % (1, 1, [])], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("warning runAsUser ")
    assert " and runAsGroup " in done.stdout
