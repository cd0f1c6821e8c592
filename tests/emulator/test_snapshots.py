"""Snapshots of file systems and directories, and images mounted into sandboxes, by the unmodified client."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import tarfile
from pathlib import Path

import modal
import modal.exception
import pytest
from grpclib.client import Channel
from modal_proto import api_pb2
from modal_proto.api_grpc import ModalClientStub

from modalflow.emulator import EmulatorThread
from modalflow.emulator.machines import archive_script
from modalflow.emulator.machines.archives import unpack
from tests.emulator.conftest import Sandboxes


@pytest.fixture(params=[pytest.param("process", marks=pytest.mark.isolation("process")), "container"])
def any_sandboxes(request: pytest.FixtureRequest) -> Sandboxes:
    """Sandboxes of either isolation; skipped where the machine has no containers."""
    found: Sandboxes = request.getfixturevalue("sandboxes" if request.param == "process" else "container_sandboxes")
    return found


def test_a_snapshot_of_the_file_system_is_an_image(any_sandboxes: Sandboxes) -> None:
    volume = modal.Volume.from_name("apart", create_if_missing=True, client=any_sandboxes.client)
    sandbox = any_sandboxes.create("cat", volumes={"/vol": volume})
    script = "mkdir folder && echo inside > folder/file && chmod 750 folder/file && ln -s folder/file link"
    assert sandbox.exec("sh", "-c", script).wait() == 0
    sandbox.filesystem.write_text("of the Volume", "/vol/file")
    image = sandbox.snapshot_filesystem()
    assert image.object_id.startswith("im-")
    sandbox.terminate(wait=True)
    again = any_sandboxes.create(
        "sh", "-c", "stat -c %a folder/file; cat link; ls folder; ls $MODAL_EMULATOR_ROOT/vol 2>&1", image=image
    )
    again.wait()
    lines = again.stdout.read().splitlines()
    assert lines[:3] == ["750", "inside", "file"], again.stderr.read()
    assert "file" not in lines[3:]
    later = any_sandboxes.create("cat", image=image)
    assert later.exec("sh", "-c", "echo more > folder/more").wait() == 0
    second = later.snapshot_filesystem()
    assert any_sandboxes.output("sh", "-c", "ls folder", image=second) == "file\nmore\n"


def test_a_snapshot_keeps_the_settings_of_its_image(any_sandboxes: Sandboxes) -> None:
    image = any_sandboxes.image.env({"KEPT": "yes"}).workdir("/work")
    snapshot = any_sandboxes.create("cat", image=image).snapshot_filesystem(ttl=None)
    assert any_sandboxes.output("sh", "-c", "echo $KEPT; basename $PWD", image=snapshot) == "yes\nwork\n"


def test_an_empty_mount_is_filled_snapshotted_and_mounted_elsewhere(any_sandboxes: Sandboxes) -> None:
    sandbox = any_sandboxes.create("cat")
    sandbox.mount_image("/mnt/data", modal.Image.from_scratch())
    sandbox.filesystem.write_text("content", "/mnt/data/a/file")
    snapshot = sandbox.snapshot_directory("/mnt/data")
    other = any_sandboxes.create("cat")
    other.mount_image("/srv/copy", snapshot)
    assert other.filesystem.read_text("/srv/copy/a/file") == "content"
    assert other.exec("ls", "/srv/copy").stdout.read() == "a\n"
    other.filesystem.write_text("changed", "/srv/copy/a/file")
    assert sandbox.filesystem.read_text("/mnt/data/a/file") == "content"
    other.mount_image("/srv/copy", snapshot)
    assert other.filesystem.read_text("/srv/copy/a/file") == "content", "mounted anew, it is as it was taken"


def test_unmounting_brings_back_what_was_there(any_sandboxes: Sandboxes) -> None:
    sandbox = any_sandboxes.create("cat", workdir="/data")
    assert sandbox.exec("sh", "-c", "echo below > file").wait() == 0
    sandbox.mount_image("/data", modal.Image.from_scratch())
    assert sandbox.filesystem.list_files("/data") == []
    sandbox.unmount_image("/data")
    assert sandbox.filesystem.read_text("/data/file") == "below\n"
    with pytest.raises(modal.exception.ConflictError, match="nothing is mounted at /data"):
        sandbox.unmount_image("/data")


def test_a_file_system_mounted_below_a_path(any_sandboxes: Sandboxes) -> None:
    sandbox = any_sandboxes.create("cat", workdir="/data")
    assert sandbox.exec("sh", "-c", "echo mounted > file").wait() == 0
    image = sandbox.snapshot_filesystem()
    other = any_sandboxes.create("cat")
    other.mount_image("/mnt/whole", image)
    assert other.filesystem.read_text("/mnt/whole/data/file") == "mounted\n"


def test_snapshots_and_mounts_of_a_sidecar(any_sandboxes: Sandboxes) -> None:
    sandbox = any_sandboxes.create("cat")
    image = any_sandboxes.image.build(any_sandboxes.app)
    sidecar = sandbox._experimental_sidecars.create("cat", name="db", image=image)
    sidecar.mount_image("/mnt/data", modal.Image.from_scratch())
    sidecar.filesystem.write_text("side", "/mnt/data/file")
    snapshot = sidecar.snapshot_directory("/mnt/data")
    sandbox.mount_image("/mnt/data", snapshot)
    assert sandbox.filesystem.read_text("/mnt/data/file") == "side"
    assert sidecar.exec("sh", "-c", "echo own > own").wait() == 0
    assert any_sandboxes.output("cat", "own", image=sidecar.snapshot_filesystem()) == "own\n"


def test_what_is_refused(any_sandboxes: Sandboxes) -> None:
    sandbox = any_sandboxes.create("cat")
    with pytest.raises(modal.exception.NotFoundError, match="/no/such: no such directory"):
        sandbox.snapshot_directory("/no/such")
    with pytest.raises(modal.exception.InvalidError, match="not the root"):
        sandbox.snapshot_directory("/")
    with pytest.raises(modal.exception.InvalidError, match="not the root"):
        sandbox.mount_image("/x/..", modal.Image.from_scratch())
    sandbox.terminate(wait=True)
    with pytest.raises(modal.exception.NotFoundError, match="already terminated"):
        sandbox.snapshot_filesystem()


@pytest.mark.isolation("process")
def test_a_v1_sandbox_and_the_older_call(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = sandboxes.create("cat", gpu="A10G")
    assert sandbox.exec("sh", "-c", "echo one > file").wait() == 0
    image = sandbox.snapshot_filesystem()
    monkeypatch.setenv("MODAL_USE_LEGACY_FILESYSTEM_SNAPSHOT", "1")
    older = sandbox.snapshot_filesystem()
    assert older.object_id != image.object_id
    for one in (image, older):
        assert sandboxes.output("cat", "file", image=one) == "one\n"


@pytest.mark.isolation("process")
def test_a_snapshot_expires(emulator: EmulatorThread, sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.create("cat", timeout=2 * 3600)
    image = sandbox.snapshot_filesystem(ttl=3600)
    assert sandboxes.output("echo", "there", image=image) == "there\n"
    emulator.clock.advance(3601)
    with pytest.raises(modal.exception.NotFoundError, match=image.object_id):
        sandboxes.create("cat", image=image)
    with pytest.raises(modal.exception.Error, match="not found"):
        sandbox.mount_image("/mnt", image)


def _archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o644
    info.uid, info.gid = os.getuid(), os.getgid()
    return info


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([(_member("../out"), b"x")], id="a path that leads up"),
        pytest.param([(_member("/out"), b"x")], id="an absolute path"),
        pytest.param([(_member("up", tarfile.SYMTYPE, ".."), b""), (_member("up/out"), b"x")], id="through a link"),
        pytest.param([(_member("hard", tarfile.LNKTYPE, "../secret"), b"")], id="a hard link out"),
    ],
)
def test_an_archive_leads_nowhere_else(tmp_path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "archive").write_bytes(_archive(*members))
    target = tmp_path / "target"
    with contextlib.suppress(OSError, KeyError):
        unpack(os.open(tmp_path / "archive", os.O_RDONLY), target)
    assert not (tmp_path / "out").exists()
    assert all(path.is_symlink() or path.read_text() != "secret" for path in target.rglob("*") if not path.is_dir())


def test_an_archive_with_devices_and_hard_links(tmp_path: Path) -> None:
    members = [
        (_member("."), b""),
        (_member("file"), b"content"),
        (_member("again", tarfile.LNKTYPE, "file"), b""),
        (_member("pipe", tarfile.FIFOTYPE), b""),
        (_member("device", tarfile.CHRTYPE), b""),
    ]
    members[0][0].type = tarfile.DIRTYPE
    members[0][0].mode = 0o711
    (tmp_path / "archive").write_bytes(_archive(*members))
    unpack(os.open(tmp_path / "archive", os.O_RDONLY), tmp_path / "target")
    assert {path.name: path.read_text() for path in (tmp_path / "target").iterdir()} == {"file": "content", "again": "content"}
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o711


@pytest.mark.isolation("process")
def test_the_control_planes_own_calls(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    sandbox = sandboxes.create("cat", cpu=2.0, timeout=7200)
    assert sandbox.exec("sh", "-c", "echo one > file").wait() == 0
    environment = emulator.environment()
    metadata = {
        "x-modal-client-version": "1.6.4",
        "x-modal-token-id": environment["MODAL_TOKEN_ID"],
        "x-modal-token-secret": environment["MODAL_TOKEN_SECRET"],
    }

    async def ask() -> tuple[str, int]:
        async with Channel("127.0.0.1", emulator.port) as channel:
            stub = ModalClientStub(channel)
            begun = await stub.SandboxSnapshotFsAsync(
                api_pb2.SandboxSnapshotFsAsyncRequest(sandbox_id=sandbox.object_id), metadata=metadata
            )
            done = await stub.SandboxSnapshotFsAsyncGet(
                api_pb2.SandboxSnapshotFsAsyncGetRequest(image_id=begun.image_id, timeout=20), metadata=metadata
            )
            assert done.result.status == done.result.GENERIC_STATUS_SUCCESS
            usage = await stub.SandboxGetResourceUsage(
                api_pb2.SandboxGetResourceUsageRequest(sandbox_id=sandbox.object_id), metadata=metadata
            )
            return done.image_id, usage.cpu_core_nanosecs

    state = emulator.workspace.sandboxes[sandbox.object_id]
    emulator.clock.freeze()
    emulator.clock.advance(state.started_at + 3600 - emulator.clock.time())
    image_id, cpu = asyncio.run(ask())
    assert cpu == pytest.approx(7200e9)
    image = modal.Image.from_id(image_id, client=sandboxes.client)
    assert sandboxes.output("cat", "file", image=image) == "one\n"


def test_what_goes_while_a_folder_is_packed_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("gone", "stays"):
        (folder / name).write_text(name)
    listed = os.listdir

    def listed_too_early(path: str) -> list[str]:
        names = listed(path)
        (folder / "gone").unlink(missing_ok=True)
        return names

    monkeypatch.setattr("os.listdir", listed_too_early)
    monkeypatch.setattr("sys.argv", ["archive", str(folder), str(tmp_path / "archive")])
    archive_script.main()
    with tarfile.open(tmp_path / "archive") as archive:
        assert archive.getnames() == [".", "./stays"]
