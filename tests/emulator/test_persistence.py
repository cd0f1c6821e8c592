"""The state folder: what a client was told is there after a kill, and what cannot be read is refused and left alone."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import modal
import modal.exception
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modalflow.emulator import EmulatorConfig, EmulatorThread
from modalflow.emulator.state.dicts import ModalDict
from modalflow.emulator.state.persistence import Persistence
from modalflow.emulator.state.queues import ModalQueue
from modalflow.emulator.state.state_folder import FILE, StateError, StateFolder
from modalflow.emulator.state.store import Store, Volume
from modalflow.emulator.state.volume_tree import Change, File, Folder, Link, VolumeConflictError, VolumeNotFoundError, walk
from tests.emulator.conftest import Eventually, Sandboxes, StartEmulator, connect

KILLED = """
import json, os, signal, sys
from pathlib import Path
import modal
from modalflow.emulator import EmulatorConfig, EmulatorThread
emulator = EmulatorThread(EmulatorConfig(state_dir=Path(sys.argv[1])))
emulator.start()
os.environ.update(emulator.environment())
app = modal.App.lookup("tests", create_if_missing=True)
image = modal.Image.debian_slim("3.11")
volume = modal.Volume.from_name("data", create_if_missing=True, version=2)
modal.Secret.objects.create("named", {"KEY": "kept"})
done = modal.Sandbox.create("sh", "-c", "echo text > $D/file", app=app, image=image, volumes={"/m": volume}, env={"D": "/m"})
done.wait()
running = modal.Sandbox.create("sleep", "300", app=app, image=image, name="runs", tags={"a": "b"})
with volume.batch_upload() as batch:
    batch.put_file(Path(__file__ if False else sys.executable).resolve(), "python")
volume.remove_file("file")
print(json.dumps([done.object_id, running.object_id, emulator.environment()]), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def open_state(folder: Path) -> tuple[StateFolder, Store, Persistence]:
    state, store = StateFolder(folder), Store(None)
    state.open()
    return state, store, Persistence(state, store)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A folder with one Volume in it."""
    opened, store, persistence = open_state(tmp_path / "state")
    workspace = store.workspace("ak-1")
    volume = workspace.volumes["vo-1"] = Volume(volume_id="vo-1", name="data", environment="main", version=2, created_at=1.0)
    volume.tree.put("a/file", File(blocks=("00" * 32,), size=3))
    persistence.keep(workspace, volume)
    opened.close()
    return tmp_path / "state"


def start(folder: Path) -> None:
    emulator = EmulatorThread(EmulatorConfig(state_dir=folder))
    emulator.start()
    emulator.stop()


# -- what is kept


def test_what_a_client_was_told_is_there_after_a_kill(
    start_emulator: StartEmulator, tmp_path: Path, eventually: Eventually
) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done, running, environment = json.loads(killed.stdout)
    emulator = start_emulator(state_dir=tmp_path / "state")
    assert emulator.environment()["MODAL_TOKEN_SECRET"] == environment["MODAL_TOKEN_SECRET"], "a restart accepts the same token"
    client = connect(emulator)
    volume = modal.Volume.from_name("data", client=client)
    assert [entry.path for entry in volume.listdir("/")] == ["python"]
    assert sum(map(len, volume.read_file("python"))) == Path(sys.executable).resolve().stat().st_size
    sandboxes = Sandboxes(modal.App.lookup("tests", client=client), client)
    assert sandboxes.output("sh", "-c", "echo $KEY", secrets=[modal.Secret.from_name("named", client=client)]) == "kept\n"

    assert modal.Sandbox.from_id(done, client=client).poll() == 0
    lost = modal.Sandbox.from_id(running, client=client)
    assert lost.poll() == 137
    assert lost.get_tags() == {"a": "b"}
    assert lost.stdout.read() == ""
    with pytest.raises(modal.exception.SandboxTerminatedError):
        lost.wait()
    assert sandboxes.running() == []
    again = sandboxes.create("true", name="runs")
    again.wait()
    client.close()


def test_a_restart_in_good_order_keeps_how_sandboxes_ended(start_emulator: StartEmulator, tmp_path: Path) -> None:
    client = connect(start_emulator(state_dir=tmp_path / "state", token_id="ak-1", token_secret="as-1"))
    sandboxes = Sandboxes(modal.App.lookup("tests", create_if_missing=True, client=client), client)
    ended = sandboxes.shell("exit 7")
    ended.wait(raise_on_termination=False)
    with pytest.raises(StateError, match=rf"is in use by another emulator \(process {os.getpid()}\); stop it, or use another"):
        start(tmp_path / "state")
    client.close()


def test_blobs_that_nothing_refers_to_are_removed_at_start(start_emulator: StartEmulator, tmp_path: Path) -> None:
    folder, token = tmp_path / "state", {"token_id": "ak-1", "token_secret": "as-1"}
    emulator = EmulatorThread(EmulatorConfig(state_dir=folder, **token))  # type: ignore[arg-type]
    emulator.start()
    stored = emulator._emulator.core.blobs
    stored.put(b"nobody's")
    volume = Volume(volume_id="vo-1", name="data", environment="main", version=2, created_at=1.0)
    kept = stored.put(b"kept")
    volume.tree.put("file", File(blocks=(kept,), size=4))
    emulator._emulator.core.store.workspace("ak-1").volumes["vo-1"] = volume
    emulator.stop()
    state, store, persistence = open_state(folder)
    store.workspace("ak-1").volumes["vo-1"] = volume
    persistence.keep(store.workspace("ak-1"), volume)
    state.close()
    (folder / "blobs" / kept[:2] / "tmpinterrupted").write_bytes(b"half")
    start_emulator(state_dir=folder, **token)
    assert [path.name for path in (folder / "blobs").glob("*/*")] == [kept]


def test_a_change_writes_what_it_changed_and_no_more(tmp_path: Path) -> None:
    state, store, persistence = open_state(tmp_path)
    workspace = store.workspace("ak-1")
    volume = workspace.volumes["vo-1"] = Volume(volume_id="vo-1", name="data", environment="main", version=2, created_at=1.0)
    for number in range(10_000):
        volume.tree.put(f"folder/{number}", File(blocks=(), size=0))
    persistence.keep(workspace, volume)
    database = state._open_database
    assert database.total_changes > 10_000
    before = database.total_changes
    volume.tree.put("folder/new", File(blocks=(), size=0))
    volume.tree.remove("folder/7", recursive=False)
    persistence.keep(workspace, volume)
    assert database.total_changes - before == 4  # the Volume, the folder's time, one in, one out
    state.close()


names = st.sampled_from(["a", "b", "c"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
nodes = st.one_of(
    st.builds(File, blocks=st.just(("00" * 32,)), size=st.integers(0, 9)), st.builds(Link, target=st.just("a")), st.just(None)
)
steps = st.one_of(
    st.tuples(st.just("put"), paths, st.builds(File, blocks=st.just(()), size=st.just(0))),
    st.tuples(st.just("remove"), paths),
    st.tuples(st.just("copy"), paths, paths),
    st.tuples(st.just("apply"), paths, st.lists(st.builds(Change, path=paths, node=nodes), max_size=3)),
    st.tuples(st.just("keep")),
)


@given(st.lists(steps, max_size=12))
def test_a_volume_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, history: list[tuple[object, ...]]) -> None:
    folder = tmp_path_factory.mktemp("state")
    state, store, persistence = open_state(folder)
    workspace = store.workspace("ak-1")
    volume = workspace.volumes["vo-1"] = Volume(volume_id="vo-1", name="data", environment="main", version=2, created_at=1.0)
    for step in history:
        try:
            match step:
                case ("put", str(path), File() as node):
                    volume.tree.put(path, node)
                case ("remove", str(path)):
                    volume.tree.remove(path, recursive=True)
                case ("copy", str(source), str(target)):
                    volume.tree.copy([source], target, recursive=True)
                case ("apply", str(base), list(changes)):
                    volume.tree.apply(base, changes)
                case _:
                    persistence.keep(workspace, volume)
        except (VolumeConflictError, VolumeNotFoundError, RecursionError):
            pass
    persistence.keep(workspace, volume)
    state.close()
    state, store, persistence = open_state(folder)
    persistence.load()
    again = store.workspace("ak-1").volumes["vo-1"]
    assert dict(walk(again.tree.root)) == dict(walk(volume.tree.root))
    assert isinstance(again.tree.root, Folder)
    assert again.tree.root.mtime_ns == volume.tree.root.mtime_ns
    state.close()


def test_dicts_and_queues_come_back_with_what_is_in_them(tmp_path: Path) -> None:
    state, store, persistence = open_state(tmp_path)
    workspace = store.workspace("ak-1")
    common: dict[str, Any] = {"environment": "main", "created_at": 1.0, "heard_at": 1.0}
    kept = workspace.dicts.add(ModalDict(object_id="di-1", name="kept", **common))
    unnamed = workspace.dicts.add(ModalDict(object_id="di-2", name="", **common))
    queue = workspace.queues.add(ModalQueue(object_id="qu-1", name="kept", **common))
    kept.update({b"": b"empty key", b"a": b"1", b"b": b"\0" * 9}, 5.0, if_not_exists=False)
    queue.put(b"", [b"first", b"second", b"third"], 5.0, ttl=60)
    queue.put(b"part", [b"x"], 5.0, ttl=60)
    persistence.keep(workspace, kept, unnamed, queue)
    kept.pop(b"a", 6.0)
    kept.update({b"b": b"changed"}, 6.0, if_not_exists=False)
    taken = queue.take(b"", 2, 6.0)
    queue.put_back(b"", taken[1:], 6.0)
    queue.clear(b"part")
    queue.put(b"", [b"fourth"], 6.0, ttl=70)
    persistence.keep(workspace, kept, unnamed, queue)
    state.close()

    state, store, persistence = open_state(tmp_path)
    persistence.load()
    again = store.workspace("ak-1")
    assert [one.object_id for one in again.dicts] == ["di-1"]
    found = again.dicts.by_id["di-1"].entries
    assert {key: (entry.value, entry.used_at) for key, entry in found.items()} == {
        b"": (b"empty key", 5.0),
        b"b": (b"changed", 6.0),
    }
    [other] = again.queues
    assert other.partitions == {b"": queue.partitions[b""]}
    assert [item.value for item in other.partitions[b""].items] == [b"second", b"third", b"fourth"]
    assert other.last_number == 5
    state.close()


def test_what_cannot_be_written_is_an_error_of_that_call(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(state_dir=tmp_path / "state")
    client = connect(emulator)
    modal.Volume.from_name("data", create_if_missing=True, client=client).hydrate()
    state = emulator._emulator._state
    assert state is not None
    emulator._loop.call_soon_threadsafe(lambda: state._open_database.execute("PRAGMA query_only = ON"))
    with pytest.raises(modal.exception.InternalError, match=r"state\.sqlite3' could not be written: attempt to write a readonly"):
        modal.Volume.from_name("more", create_if_missing=True, client=client).hydrate()
    client.close()


def test_contents_that_find_no_room_leave_nothing_and_are_told(start_emulator: StartEmulator, tmp_path: Path) -> None:
    emulator = start_emulator(state_dir=tmp_path / "state", isolation="process")
    data = os.urandom(1 << 20)
    url = emulator._emulator.core.block_store.put_url(hashlib.sha256(data).hexdigest())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, hard))  # as if the disk were full
    try:
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, data, method="PUT"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with refused.value as answer:
        assert (answer.code, answer.read().decode()) == (507, f"'{tmp_path}/state/blobs' could not be written: File too large")
    assert [path for path in (tmp_path / "state" / "blobs").rglob("*") if path.is_file()] == []


# -- what is refused


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        pytest.param(
            lambda file: file.write_bytes(b"no database at all, but long enough to be taken for one" * 100),
            "is damaged or no state of an emulator (file is not a database); it is left as it is: "
            "put a copy of it back, or use a new folder",
            id="foreign file",
        ),
        pytest.param(
            lambda file: statement(file, "PRAGMA application_id = 7"),
            "is damaged or no state of an emulator (another program's database); it is left as it is: "
            "put a copy of it back, or use a new folder",
            id="foreign database",
        ),
        pytest.param(
            lambda file: statement(file, "PRAGMA user_version = 99"),
            "was written by another version (format 99, expected 2); use that version, or a new folder",
            id="newer",
        ),
        pytest.param(
            lambda file: statement(file, "UPDATE records SET data = '{\"volume_id\": 1}' WHERE part = ''"),
            "holds a volume 'vo-1' that cannot be read",
            id="a record",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_and_left_alone(state: Path, spoil: object, text: str) -> None:
    file = state / FILE
    spoil(file)  # type: ignore[operator]
    before = file.read_bytes()
    with pytest.raises(StateError) as caught:
        start(state)
    assert str(caught.value).startswith(f"state_dir: {str(file)!r} {text}")
    assert file.read_bytes() == before


def test_a_damaged_page_is_found_at_start(state: Path) -> None:
    file = state / FILE
    data = bytearray(file.read_bytes())
    data[4096:] = b"\xff" * (len(data) - 4096)
    file.write_bytes(data)
    with pytest.raises(StateError, match=r"is damaged or no state of an emulator"):
        start(state)
    assert file.read_bytes() == data


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("of another program")
    other.chmod(0o644)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / FILE).symlink_to(other)
    with pytest.raises(StateError, match=r"is a symbolic link; put the file itself there, or use a new folder"):
        start(tmp_path / "state")
    assert (other.read_text(), other.stat().st_mode & 0o777) == ("of another program", 0o644)


def test_the_state_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "workspace-0.json").write_text('{"format": 1}')
    with pytest.raises(StateError) as caught:
        start(tmp_path)
    assert str(caught.value) == (
        f"state_dir: '{tmp_path}/workspace-0.json' was written by an older version in another format; use a new folder"
    )


def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 1, 1)
    with pytest.raises(StateError, match=r"belongs to user 1, not to you \(0\); use a folder of yours"):
        start(tmp_path)
    os.chown(tmp_path, 0, 0)


def test_what_others_could_read_is_made_private(state: Path) -> None:
    state.chmod(0o755)
    (state / FILE).chmod(0o644)
    start(state)
    assert {oct(path.stat().st_mode & 0o777) for path in (state, state / FILE)} == {"0o700", "0o600"}


def statement(file: Path, sql: str) -> None:
    database = sqlite3.connect(file, isolation_level=None)
    database.execute(sql)
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
