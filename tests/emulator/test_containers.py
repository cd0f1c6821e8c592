"""Containers: each thing that a sandbox has for itself, each limit, nothing left behind. Skipped where there are none."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import modal
import modal.exception
import pytest
from modal_proto import api_pb2

from modalflow.emulator import EmulatorConfig, EmulatorConfigError, EmulatorThread
from modalflow.emulator.machines import cgroups
from modalflow.emulator.machines.leftovers import sweep
from tests.emulator.conftest import Eventually, Sandboxes

pytestmark = pytest.mark.usefixtures("container_emulator")


def core_folder(emulator: EmulatorThread) -> Path:
    return Path(emulator.environment()["MODAL_CONFIG_PATH"]).parent


def groups(name: str) -> list[Path]:
    """The folders of a control group, one per hierarchy."""
    found = (place / name for place in set(cgroups.hierarchies().values()))
    return [folder for folder in found if folder.exists()]


def test_it_says_what_is_in_force(container_emulator: EmulatorThread) -> None:
    assert container_emulator.isolation.name == "container"
    assert "its own mounts, processes, host name and IPC" in container_emulator.isolation.words


def test_processes_of_this_machine_are_not_seen(container_sandboxes: Sandboxes) -> None:
    text = container_sandboxes.output("sh", "-c", "cat /proc/*/cmdline | tr '\\0' ' '")
    assert "pytest" in Path("/proc/self/cmdline").read_text()
    assert "pytest" not in text


def test_the_host_name_is_the_task_id_and_resolves(container_sandboxes: Sandboxes) -> None:
    script = (
        "import os, socket; print(socket.gethostname(), os.environ['MODAL_TASK_ID'], socket.gethostbyname(socket.gethostname()))"
    )
    name, task, address = container_sandboxes.output("python", "-c", script).split()
    assert name == task
    assert address == "127.0.1.1"
    assert socket.gethostname() != name


def test_namespaces_are_its_own(container_sandboxes: Sandboxes) -> None:
    found = container_sandboxes.output("sh", "-c", "for n in mnt pid uts ipc; do readlink /proc/self/ns/$n; done").split()
    assert not set(found) & {str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("mnt", "pid", "uts", "ipc")}


def test_tmp_home_and_shared_memory_are_private_and_empty(container_sandboxes: Sandboxes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    assert not (Path("/dev/shm") / tmp_path.name).exists()
    text = container_sandboxes.output(
        "sh", "-c", f"ls -d {tmp_path}; ls /run; ls -A /dev/shm; touch /tmp/a /dev/shm/{tmp_path.name}; pwd"
    )
    assert text == "/root\n"
    assert not Path("/dev/shm", tmp_path.name).exists()


def test_what_it_writes_stays_in_its_overlay(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    sandbox = container_sandboxes.shell("echo mine > /etc/modalflow-was-here; rm /etc/passwd; echo done; cat")
    assert next(iter(sandbox.stdout)) == "done\n"
    assert not Path("/etc/modalflow-was-here").exists()
    assert Path("/etc/passwd").exists()
    other = container_sandboxes.output("sh", "-c", "ls /etc/modalflow-was-here; wc -l < /etc/passwd")
    assert int(other) > 0
    folder = core_folder(container_emulator)
    (upper,) = folder.glob("containers/*/upper/etc/modalflow-was-here")
    assert upper.read_text() == "mine\n"
    sandbox.terminate(wait=True)
    assert not upper.exists()


def test_neither_the_emulators_folder_nor_its_state_folder_is_seen(
    container_sandboxes: Sandboxes, container_emulator: EmulatorThread
) -> None:
    folder = core_folder(container_emulator)
    assert folder.is_dir()
    assert container_sandboxes.output("sh", "-c", f"[ -e {folder} ] || echo no") == "no\n"


def test_passwords_of_this_machine_are_not_seen(container_sandboxes: Sandboxes) -> None:
    text = container_sandboxes.output("sh", "-c", "cut -d: -f2 /etc/shadow | sort -u; ls /etc/ssh 2>&1 | head -1")
    assert text.splitlines()[0] == "*"
    assert "No such file" in text


def test_capabilities_are_those_of_a_container(container_sandboxes: Sandboxes) -> None:
    text = container_sandboxes.output(
        "sh", "-c", "grep Cap /proc/self/status; mount -t tmpfs none /mnt || mknod /tmp/sda b 8 0 || echo no"
    )
    fields = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Cap"))
    allowed = int(fields["CapBnd"], 16)
    assert int(fields["CapEff"], 16) == allowed
    cap_net_admin, cap_sys_admin, cap_mknod, cap_chown, cap_setuid = (1 << number for number in (12, 21, 27, 0, 7))
    assert not allowed & (cap_net_admin | cap_sys_admin | cap_mknod)
    assert allowed & cap_chown
    assert allowed & cap_setuid
    assert text.endswith("no\n")


def test_process_1_does_not_show_the_environment(container_sandboxes: Sandboxes) -> None:
    """A program that clears its own, as workers do with their token, has cleared it."""
    assert container_sandboxes.output("sh", "-c", "cat /proc/1/environ", env={"S": "canary"}) == ""


def test_root_can_become_another_user(container_sandboxes: Sandboxes) -> None:
    assert container_sandboxes.output("su", "-s", "/bin/sh", "nobody", "-c", "id -un") == "nobody\n"


def test_what_passes_its_memory_limit_is_killed(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    sandbox = container_sandboxes.create("python", "-c", "x = bytearray(300 << 20)", memory=(32, 64))
    sandbox.wait()
    assert sandbox.returncode == 137
    result = container_emulator.workspace.sandboxes[sandbox.object_id].result
    assert result is not None
    assert api_pb2.GenericResult.GenericStatus.Name(result.status) == "GENERIC_STATUS_KERNEL_OOM_KILL"


def test_limits_are_in_its_control_group(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    sandbox = container_sandboxes.shell("echo $MODAL_TASK_ID; cat", memory=(32, 100), cpu=(0.5, 1.5))
    name = f"modalflow-{core_folder(container_emulator).name}/{next(iter(sandbox.stdout)).strip()}"
    folders = groups(name)
    texts = {path.name: path.read_text().split() for folder in folders for path in folder.iterdir() if path.name in _LIMITS}
    sandbox.terminate(wait=True)
    assert str(100 << 20) in (texts.get("memory.limit_in_bytes") or texts["memory.max"])
    assert (texts.get("cpu.cfs_quota_us") or texts["cpu.max"])[0] == "150000"
    assert texts["pids.max"] == ["8192"]
    assert not groups(name)


_LIMITS = ("memory.limit_in_bytes", "memory.max", "cpu.cfs_quota_us", "cpu.max", "pids.max")


def test_an_exec_is_in_the_container(container_sandboxes: Sandboxes) -> None:
    sandbox = container_sandboxes.create("cat")
    process = sandbox.exec(
        "sh", "-c", "hostname; cat /proc/self/cgroup | grep -c modalflow; grep CapEff /proc/self/status; exit 3"
    )
    assert process.wait() == 3
    name, count, capabilities = process.stdout.read().splitlines()
    assert name.startswith("ta-")
    assert int(count) > 0
    assert int(capabilities.split()[1], 16) & (1 << 21) == 0
    missing = sandbox.exec("no-such-command")
    assert missing.wait() == 127
    assert "no-such-command" in missing.stderr.read()
    sandbox.terminate(wait=True)


def test_signals_of_its_own_reach_the_main_process(container_sandboxes: Sandboxes) -> None:
    """It is not process 1, which the kernel protects; and no orphan of it stays a zombie."""
    killed = container_sandboxes.shell("kill -9 $$; sleep 60")
    killed.wait()
    assert killed.returncode == 137
    script = "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert container_sandboxes.output("python", "-c", script) == "True\n"
    script = "(sleep 0.01 & exit); sleep 0.2; cat /proc/[0-9]*/stat | grep -c ' Z ' || true"
    assert container_sandboxes.output("sh", "-c", script) == "0\n"


def test_volumes_are_at_their_paths_and_read_only_ones_refuse(container_sandboxes: Sandboxes) -> None:
    volume = modal.Volume.from_name("paths", create_if_missing=True, version=2, client=container_sandboxes.client)
    other = modal.Volume.from_name("other", create_if_missing=True, version=2, client=container_sandboxes.client)
    script = "echo x > /mnt/data/file; cat /mnt/data/file; cd /mnt/data; pwd; echo y > /mnt/ro/z || true"
    sandbox = container_sandboxes.shell(script, volumes={"/mnt/data": volume, "/mnt/ro": other.read_only()})
    sandbox.wait()
    assert sandbox.stdout.read() == "x\n/mnt/data\n"
    assert "Read-only file system" in sandbox.stderr.read()


def test_nothing_is_left(container_sandboxes: Sandboxes, container_emulator: EmulatorThread, eventually: Eventually) -> None:
    many = [container_sandboxes.create("true") for _ in range(10)]
    for sandbox in many:
        sandbox.wait()
    folder = core_folder(container_emulator)
    eventually(lambda: not list((folder / "containers").iterdir()))
    assert not list((folder / "runc").iterdir())
    group = f"modalflow-{folder.name}"
    assert not [path for found in groups(group) for path in found.iterdir() if path.is_dir()]
    assert str(folder) not in Path("/proc/self/mounts").read_text()


SCRIPT = """
import os, sys, modal
from modalflow.emulator import EmulatorConfig, EmulatorThread
with EmulatorThread(EmulatorConfig(isolation="container")) as emulator:
    os.environ.update(emulator.environment())
    app = modal.App.lookup("tests", create_if_missing=True)
    command = "setsid env -i sleep 71.5 & echo ready; wait"
    sandbox = modal.Sandbox.create("sh", "-c", command, app=app, image=modal.Image.debian_slim("3.11"), timeout=300)
    next(iter(sandbox.stdout))
    spawner = emulator._emulator.core.spawner._popen.pid
    print(os.path.dirname(emulator.environment()["MODAL_CONFIG_PATH"]), spawner, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def emulator_process() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def members(folder: str) -> list[str]:
    """Processes in the control groups of that emulator's containers."""
    found = groups(f"modalflow-{Path(folder).name}")
    return [pid for group in found for path in group.glob("*/cgroup.procs") for pid in path.read_text().split()]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "exit"])
def test_everything_goes_with_the_emulator(
    emulator_process: subprocess.Popen[str], eventually: Eventually, how: signal.Signals | None
) -> None:
    assert emulator_process.stdout is not None
    assert emulator_process.stdin is not None
    folder, _ = emulator_process.stdout.readline().split()
    assert members(folder)
    if how is None:
        emulator_process.stdin.close()
        assert emulator_process.wait(timeout=20) == 0
    else:
        emulator_process.send_signal(how)
        emulator_process.wait(timeout=20)
    eventually(lambda: not Path(folder).exists())
    assert not groups(f"modalflow-{Path(folder).name}")


def test_all_containers_go_with_the_spawner(emulator_process: subprocess.Popen[str], eventually: Eventually) -> None:
    """Nobody is left to kill them but the kernel, and what is left of folders the next start removes."""
    assert emulator_process.stdout is not None
    folder, spawner = emulator_process.stdout.readline().split()
    emulator_process.send_signal(signal.SIGSTOP)
    assert members(folder)
    os.kill(int(spawner), signal.SIGKILL)
    eventually(lambda: not members(folder))
    emulator_process.kill()
    emulator_process.wait()
    sweep(Path(folder).parent)
    assert not Path(folder).exists()
    assert not groups(f"modalflow-{Path(folder).name}")


def test_an_emulator_that_lost_its_spawner_leaves_no_control_group(
    emulator_process: subprocess.Popen[str], eventually: Eventually
) -> None:
    assert emulator_process.stdout is not None
    assert emulator_process.stdin is not None
    folder, spawner = emulator_process.stdout.readline().split()
    os.kill(int(spawner), signal.SIGKILL)
    eventually(lambda: not members(folder))
    emulator_process.stdin.close()
    assert emulator_process.wait(timeout=20) == 0
    assert not Path(folder).exists()
    assert not groups(f"modalflow-{Path(folder).name}")


def test_without_containers_the_reason_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modalflow.emulator.machines.oci_launcher.SEARCH_PATH", "/nowhere")
    with pytest.raises(
        EmulatorConfigError, match=r"^isolation: no containers here: runc is not installed \(apt install runc\)\. Write"
    ):
        EmulatorThread(EmulatorConfig(isolation="container")).start()
    with EmulatorThread(EmulatorConfig(isolation="auto")) as emulator:
        assert emulator.isolation.name == "process"
        assert emulator.isolation.words.endswith("(no containers here: runc is not installed (apt install runc))")


def test_no_secret_is_on_disk(container_sandboxes: Sandboxes, container_emulator: EmulatorThread) -> None:
    sandbox = container_sandboxes.shell("echo ready; cat", env={"S": "canary-on-disk"})
    assert next(iter(sandbox.stdout)) == "ready\n"
    folder = core_folder(container_emulator)
    files = [path for path in folder.rglob("*") if path.is_file() and "host" not in path.parts and not path.is_fifo()]
    assert files
    assert not [path for path in files if b"canary-on-disk" in path.read_bytes()]
    states = [json.loads(path.read_text()) for path in folder.glob("runc/*/state.json")]
    assert states
    sandbox.terminate(wait=True)


def test_a_command_that_cannot_be_started_harms_no_other_container(container_sandboxes: Sandboxes) -> None:
    sandbox = container_sandboxes.create("cat")
    assert sandbox.exec("x" * 60_000).wait() != 0
    assert sandbox.exec("echo", "alive").stdout.read() == "alive\n"


def test_a_read_only_bucket_refuses_writes(container_sandboxes: Sandboxes) -> None:
    bucket = modal.CloudBucketMount("closed", read_only=True)
    sandbox = container_sandboxes.shell("echo no > /bucket/file", volumes={"/bucket": bucket})
    sandbox.wait()
    assert sandbox.returncode != 0
    assert "Read-only file system" in sandbox.stderr.read()


def test_a_deserted_control_group_goes_at_the_next_start(tmp_path: Path) -> None:
    name = f"modalflow-modal-emulator-{tmp_path.name}"
    inner = [place / name / "ta-1" for place in set(cgroups.hierarchies().values())]
    for folder in inner:
        folder.mkdir(parents=True)
    try:
        sweep(tmp_path)
        assert len(groups(name)) == len(inner), "it may have been made just now"
        for folder in inner:
            os.utime(folder, (0, 0))
            os.utime(folder.parent, (0, 0))
        sweep(tmp_path)
        assert groups(name) == []
    finally:
        cgroups.remove(f"/{name}")
