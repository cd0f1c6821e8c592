"""The emulator itself: it dies with all it started, restarts under the same name, and keeps what it was told to keep."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorConfig, EmulatorConfigError, EmulatorThread
from modalflow.emulator.machines import leftovers
from modalflow.emulator.machines.leftovers import claim
from modalflow.emulator.machines.spawner import Spawner, process_table
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect

SCRIPT = """
import os, sys, modal
from modalflow.emulator import EmulatorConfig, EmulatorThread
with EmulatorThread(EmulatorConfig(isolation="process")) as emulator:
    os.environ.update(emulator.environment())
    app = modal.App.lookup("tests", create_if_missing=True)
    deep = "import os; [os.mkdir('d') or os.chdir('d') for _ in range(1500)]"
    command = f'python -c "{deep}" || exit; '
    command += "setsid sh -c 'echo $$; exec sleep 300' & (setsid env -i sleep 301 & echo $!); echo $$; wait"
    sandbox = modal.Sandbox.create("sh", "-c", command, app=app, image=modal.Image.debian_slim("3.11"), timeout=300)
    lines = iter(sandbox.stdout)
    print(*(next(lines).strip() for _ in range(3)), os.path.dirname(emulator.environment()["MODAL_CONFIG_PATH"]), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def emulator_process() -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:
        yield process
        process.kill()


def children_of(pid: int) -> set[int]:
    return {row.pid for row in process_table(0) if row.parent == pid}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "exit"])
def test_no_process_of_a_sandbox_outlives_the_emulator(
    emulator_process: subprocess.Popen[str], eventually: Eventually, how: signal.Signals | None
) -> None:
    """The main process, a daemon in a session of its own, and one that also dropped its environment; and a very deep folder."""
    assert emulator_process.stdout is not None
    assert emulator_process.stdin is not None
    *pids, folder = emulator_process.stdout.readline().split()
    children = [int(pid) for pid in pids]
    assert [alive(pid) for pid in children] == [True] * 3
    if how is None:
        emulator_process.stdin.close()
        assert emulator_process.wait(timeout=20) == 0
    else:
        emulator_process.send_signal(how)
        emulator_process.wait(timeout=20)
    eventually(lambda: not any(alive(pid) for pid in children))
    eventually(lambda: not Path(folder).exists())


def test_stopping_removes_its_folder_and_its_spawner(start_emulator: StartEmulator) -> None:
    emulator = EmulatorThread(EmulatorConfig())
    emulator.start()
    folder = Path(emulator.environment()["MODAL_CONFIG_PATH"]).parent
    assert folder.exists()
    emulator.stop()
    assert not folder.exists()
    emulator.stop()


def test_a_restart_with_the_same_port_and_token_is_the_same_to_a_client(
    start_emulator: StartEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = EmulatorThread(EmulatorConfig())
    first.start()
    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)
    environment, port = first.environment(), first.port
    client = connect(first)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    lost = Sandboxes(app, client).create("cat")
    first.stop()
    start_emulator(port=port, token_id=environment["MODAL_TOKEN_ID"], token_secret=environment["MODAL_TOKEN_SECRET"])
    with pytest.raises(modal.exception.NotFoundError, match=f"Sandbox '{lost.object_id}' not found"):
        modal.Sandbox.from_id(lost.object_id, client=client)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    again = Sandboxes(app, client)
    again.image = modal.Image.debian_slim("3.12")
    assert again.output("echo", "x") == "x\n"
    client.close()


def test_a_port_that_is_taken_is_an_error(emulator: EmulatorThread) -> None:
    with pytest.raises(OSError, match="address already in use"):
        EmulatorThread(EmulatorConfig(port=emulator.port)).start()


def test_a_state_folder_keeps_volumes_apps_and_named_secrets_and_no_others(
    start_emulator: StartEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = {"token_id": "ak-1", "token_secret": "as-1"}
    first = EmulatorThread(EmulatorConfig(state_dir=tmp_path / "state", **token))  # type: ignore[arg-type]
    first.start()
    for name, value in first.environment().items():
        monkeypatch.setenv(name, value)
    client = connect(first)
    app = modal.App.lookup("tests", create_if_missing=True, client=client)
    volume = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
    modal.Secret.objects.create("named", {"KEY": "kept"}, client=client)
    sandboxes = Sandboxes(app, client)
    sandboxes.output(
        "sh", "-c", "mkdir $D/a; echo text > $D/a/file; ln -s a/file $D/link",
        env={"D": "/m", "S": "canary-plain"}, secrets=[modal.Secret.from_dict({"T": "canary-secret"})], volumes={"/m": volume},
    )  # fmt: skip
    sandboxes.output("true", gpu="A10G", env={"S": "canary-v1"})
    first.stop()
    client.close()

    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(b"canary" in path.read_bytes() for path in kept)
    assert {oct(path.stat().st_mode & 0o777) for path in kept if "blobs" not in path.parts} == {"0o600"}

    second = start_emulator(state_dir=tmp_path / "state", **token)
    client = connect(second)
    sandboxes = Sandboxes(modal.App.lookup("tests", client=client), client)
    sandboxes.image = modal.Image.debian_slim("3.12")
    volume = modal.Volume.from_name("data", client=client)
    text = sandboxes.output(
        "sh",
        "-c",
        "echo $KEY; cat $D/link",
        env={"D": "/m"},
        secrets=[modal.Secret.from_name("named", client=client)],
        volumes={"/m": volume},
    )
    assert text == "kept\ntext\n"
    client.close()


@pytest.mark.isolation("process")
def test_a_dead_spawner_ends_its_sandboxes(sandboxes: Sandboxes, emulator: EmulatorThread, eventually: Eventually) -> None:
    sandbox = sandboxes.shell("sleep 300 & echo $!; wait")
    child = int(next(iter(sandbox.stdout)))
    popen = emulator._emulator.core.spawner._popen
    assert popen is not None
    os.kill(popen.pid, signal.SIGKILL)
    sandbox.wait()
    assert sandbox.returncode == 137
    eventually(lambda: not alive(child))
    late = sandboxes.create("true")
    late.wait()
    assert late.returncode == 1


def test_the_spawner_takes_it_calmly_that_the_emulator_went_without_reading() -> None:
    emulator, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(b"an exit")
        emulator.close()
        assert not Spawner(ours).receive()


def test_a_python_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmulatorConfigError) as caught:
        EmulatorThread(EmulatorConfig(python=tmp_path / "nothing" / "python")).start()
    assert str(caught.value) == (
        f"python: no interpreter at '{tmp_path}/nothing/python'; name an interpreter or an environment's folder"
    )


def test_python_names_the_environment_that_plays_the_image(start_emulator: StartEmulator, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    interpreter = tmp_path / "bin" / "python3"
    interpreter.write_text('#!/bin/sh\necho "mine $1"\n')
    interpreter.chmod(0o755)
    client = connect(start_emulator(python=tmp_path))
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    assert sandboxes.output("python", "x") == "mine x\n"
    client.close()


BOTH = """
import os, signal, sys, modal
from modalflow.emulator import EmulatorConfig, EmulatorThread
emulator = EmulatorThread(EmulatorConfig(isolation="process"))
emulator.start()
os.environ.update(emulator.environment())
app = modal.App.lookup("tests", create_if_missing=True)
command = "setsid sh -c 'echo $$; exec sleep 300' & (setsid env -i sleep 301 & echo $!); echo $$; wait"
sandbox = modal.Sandbox.create("sh", "-c", command, app=app, image=modal.Image.debian_slim("3.11"), timeout=300)
lines = iter(sandbox.stdout)
print(*(next(lines).strip() for _ in range(3)), emulator._emulator.core.folder, flush=True)
os.kill(emulator._emulator.core.spawner._popen.pid, signal.SIGKILL)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_left_when_the_spawner_is_killed_too_goes_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = subprocess.run(
        [sys.executable, "-c", BOTH], env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.PIPE, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    *pids, folder = killed.stdout.split()
    children = [int(pid) for pid in pids]
    assert Path(folder).parent == tmp_path
    assert Path(folder).exists()
    theirs = tmp_path / "modal-emulator-whose-emulator-lives"
    theirs.mkdir()
    held = claim(theirs)
    with EmulatorThread(EmulatorConfig(isolation="process")):
        assert not Path(folder).exists()
        eventually(lambda: not any(alive(pid) for pid in children))
        assert theirs.exists()
    os.close(held)


def test_a_start_that_fails_leaves_nothing(emulator: EmulatorThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = children_of(os.getpid())
    with pytest.raises(OSError, match="address already in use"):
        EmulatorThread(EmulatorConfig(port=emulator.port, state_dir=tmp_path / "state")).start()
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    assert children_of(os.getpid()) == before
    with EmulatorThread(EmulatorConfig(state_dir=tmp_path / "state")):
        pass  # the state folder was let go of


def test_what_cannot_be_removed_keeps_no_emulator_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "modal-emulator-dead").mkdir()
    os.close(claim(tmp_path / "modal-emulator-dead"))

    def refuse(folder: Path) -> None:
        raise OSError(f"{folder.name} is busy")

    monkeypatch.setattr(leftovers, "remove_tree", refuse)
    assert leftovers.sweep(tmp_path) == []
    assert "could not be removed: modal-emulator-dead is busy" in caplog.text
    monkeypatch.undo()
    assert leftovers.sweep(tmp_path) == [tmp_path / "modal-emulator-dead"]
    assert list(tmp_path.iterdir()) == []
