"""A restart on the same port: what a client that goes on sees, with the state and without it."""

from __future__ import annotations

import hashlib
import io
import tempfile
import urllib.request
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Sandboxes, StartEmulator, connect

CONTENT = b"content" * 1000


def filled(client: modal.Client) -> modal.Volume:
    volume = modal.Volume.from_name("data", create_if_missing=True, version=2, client=client)
    with volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(CONTENT), "/file")
    modal.Dict.from_name("numbers", create_if_missing=True, client=client).put("one", 1)
    return volume


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("modal-emulator-*"))


def test_a_client_goes_on_after_a_restart_with_the_state(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    volume = filled(sandboxes.client)
    running = sandboxes.create("cat", name="before")
    port, environment = emulator.port, emulator.environment()
    emulator.faults.add("AppList", delay=0.1, times=None)
    emulator.capacity.set(max_sandboxes=5)
    for _ in range(2):
        emulator.restart()
        assert emulator.port == port
        assert {name: environment[name] for name in ("MODAL_SERVER_URL", "MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET")}.items() <= (
            emulator.environment().items()
        )
        assert b"".join(volume.read_file("file")) == CONTENT
        assert modal.Dict.from_name("numbers", client=sandboxes.client).get("one") == 1
        assert running.poll() == 137
        sandboxes.output("echo", "after")
    assert len(emulator.calls("SandboxCreateV2")) == 3
    assert [rule.method for rule in emulator.faults.rules()] == ["AppList"]
    assert emulator.capacity.now.max_sandboxes == 5


def test_an_upload_goes_on_after_a_restart(emulator: EmulatorThread) -> None:
    url = emulator._emulator.core.block_store.put_url(hashlib.sha256(CONTENT).hexdigest())
    emulator.restart()
    with urllib.request.urlopen(urllib.request.Request(url, CONTENT, method="PUT")) as answer:
        assert answer.status == 200
    assert emulator._emulator.core.blobs.has(hashlib.sha256(CONTENT).hexdigest())


def test_a_restart_without_the_state_comes_back_empty(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    filled(sandboxes.client)
    running = sandboxes.create("cat")
    emulator.restart()
    emulator.restart(keep_state=False)
    with pytest.raises(modal.exception.NotFoundError):
        running.poll()
    with pytest.raises(modal.exception.NotFoundError):
        modal.Volume.from_name("data", client=sandboxes.client).hydrate()
    modal.App.lookup("tests", create_if_missing=True, client=sandboxes.client)


def test_a_state_folder_is_used_or_left_alone(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(state_dir=tmp_path / "state")
    client = connect(emulator)
    filled(client)
    emulator.restart()
    modal.Volume.from_name("data", client=client).hydrate()
    emulator.restart(keep_state=False)
    with pytest.raises(modal.exception.NotFoundError):
        modal.Volume.from_name("data", client=client).hydrate()
    emulator.stop()
    again = start_emulator(state_dir=tmp_path / "state")
    found = connect(again)
    modal.Volume.from_name("data", client=found).hydrate()
    client.close()
    found.close()


def test_restarts_leave_nothing_behind(start_emulator: StartEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    emulator = start_emulator()
    emulator.restart()
    emulator.restart()
    assert len(folders()) == 2
    emulator.restart(keep_state=False)
    assert len(folders()) == 1
    emulator.restart()
    emulator.stop()
    assert folders() == set()
