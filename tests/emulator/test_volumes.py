"""Volumes: files from outside, mounts inside, and when the one sees the other."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import modal
import modal.exception
import pytest

from modalflow.emulator import EmulatorThread
from tests.emulator.conftest import Sandboxes

BLOCK = 8 * 1024 * 1024


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def volume(request: pytest.FixtureRequest, client: modal.Client) -> modal.Volume:
    return modal.Volume.from_name("data", create_if_missing=True, version=request.param, client=client)


@pytest.fixture
def volume2(client: modal.Client) -> modal.Volume:
    return modal.Volume.from_name("data2", create_if_missing=True, version=2, client=client)


def put(volume: modal.Volume, files: dict[str, bytes], *, force: bool = False) -> None:
    with volume.batch_upload(force=force) as batch:
        for path, data in files.items():
            batch.put_file(io.BytesIO(data), path)


def read(volume: modal.Volume, path: str) -> bytes:
    return b"".join(volume.read_file(path))


def paths(volume: modal.Volume, path: str = "/") -> list[str]:
    return [entry.path for entry in volume.listdir(path, recursive=True)]


def lines_of(sandbox: modal.Sandbox) -> Iterator[str]:
    return iter(sandbox.stdout)


def test_files_go_in_and_come_out(volume: modal.Volume, client: modal.Client) -> None:
    put(volume, {"/a/b.txt": b"hello", "/empty": b""})
    assert paths(volume) == ["a", "a/b.txt", "empty"]
    assert paths(volume, "a") == ["a/b.txt"]
    assert [(entry.type.name, entry.size) for entry in volume.listdir("/")] == [("DIRECTORY", 0), ("FILE", 0)]
    assert (read(volume, "a/b.txt"), read(volume, "/empty")) == (b"hello", b"")


def test_a_file_of_several_blocks_with_zeros_at_their_ends(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    data = b"x" * 10 + b"\0" * (BLOCK - 10) + os.urandom(1000) + b"\0" * 50
    put(volume, {"/big": data})
    assert read(volume, "big") == data
    script = "sha256sum < $V/big; cp $V/big $V/copy"
    text = sandboxes.output("sh", "-c", script, env={"V": "/v"}, volumes={"/v": volume})
    assert text.split()[0] == hashlib.sha256(data).hexdigest()
    assert read(volume, "copy") == data


def test_an_upload_that_is_a_blob(client: modal.Client) -> None:
    volume = modal.Volume.from_name("blobs", create_if_missing=True, version=1, client=client)
    data = os.urandom(BLOCK + 5)
    put(volume, {"/blob": data})
    assert read(volume, "/blob") == data


def test_a_file_is_overwritten_only_on_demand(volume: modal.Volume) -> None:
    put(volume, {"/a": b"1"})
    with pytest.raises(FileExistsError, match="/a: already exists; upload with force=True to overwrite"):
        put(volume, {"/a": b"2"})
    put(volume, {"/a": b"3"}, force=True)
    assert read(volume, "/a") == b"3"


def test_remove_and_copy(volume: modal.Volume) -> None:
    put(volume, {"/a/b": b"1"})
    volume.copy_files(["a/b"], "c")
    assert read(volume, "c") == b"1"
    volume.remove_file("a", recursive=True)
    assert paths(volume) == ["c"]
    with pytest.raises(FileNotFoundError):
        volume.remove_file("a/b")
    with pytest.raises(FileNotFoundError):
        read(volume, "a/b")


@pytest.mark.parametrize("version", [1, 2])
def test_an_upload_or_copy_whose_answer_is_lost_is_done_once(
    emulator: EmulatorThread, client: modal.Client, version: int
) -> None:
    volume = modal.Volume.from_name("data", create_if_missing=True, version=version, client=client)
    put(volume, {"/a/b": b"1"})
    lost = emulator.faults.add("VolumePutFiles*", after_handler=True)
    put(volume, {"/a/c": b"1"})  # not to be overwritten; the retry is no other upload
    assert (lost.hits, paths(volume)) == (1, ["a", "a/b", "a/c"])
    if version == 2:  # cp -r, done twice, would put a folder into its copy
        lost = emulator.faults.add("VolumeCopyFiles*", after_handler=True)
        volume.copy_files(["/a"], "/copy", recursive=True)
        assert (lost.hits, paths(volume)) == (1, ["a", "a/b", "a/c", "copy", "copy/b", "copy/c"])


def test_a_path_cannot_leave_the_volume(volume: modal.Volume) -> None:
    with pytest.raises(modal.exception.InvalidError, match=r"path '\.\./x' must not contain '\.\.'"):
        read(volume, "../x")


def test_written_files_are_outside_after_the_exit(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/old": b"old", "/gone": b"gone"})
    script = "cat $D/old; rm $D/gone; mkdir $D/new; echo $0 > $D/new/file"
    text = sandboxes.output("sh", "-c", script, "x", env={"D": "/m"}, volumes={"/m": volume})
    assert text == "old"
    assert paths(volume) == ["new", "new/file", "old"]
    assert read(volume, "new/file") == b"x\n"


def test_before_a_commit_nobody_outside_sees_them(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    sandbox = sandboxes.shell("echo new > $D/file; echo written; cat > /dev/null", env={"D": "/m"}, volumes={"/m": volume})
    assert next(lines_of(sandbox)) == "written\n"
    assert paths(volume) == []
    sandbox.stdin.write_eof()
    sandbox.stdin.drain()
    sandbox.wait()
    assert paths(volume) == ["file"]


@pytest.mark.parametrize("argument", ["", "$D", "$D/sub", "/m", "-f $D/sub/file"])
def test_sync_commits_a_volume_of_version_2(volume2: modal.Volume, sandboxes: Sandboxes, argument: str) -> None:
    script = f"mkdir $D/sub; echo new > $D/sub/file; sync {argument} && echo synced; cat > /dev/null"
    sandbox = sandboxes.shell(script, env={"D": "/m"}, volumes={"/m": volume2})
    assert next(lines_of(sandbox)) == "synced\n"
    assert paths(volume2) == ["sub", "sub/file"]
    sandbox.terminate()


def test_sync_of_another_path_is_the_systems(volume2: modal.Volume, sandboxes: Sandboxes) -> None:
    script = "echo new > $D/file; sync -d $HOME && sync /no/such/file || echo failed; cat > /dev/null"
    sandbox = sandboxes.shell(script, env={"D": "/m"}, volumes={"/m": volume2})
    assert next(lines_of(sandbox)) == "failed\n"
    assert paths(volume2) == []
    sandbox.terminate()


def test_sync_does_not_commit_version_1(client: modal.Client, sandboxes: Sandboxes) -> None:
    volume = modal.Volume.from_name("one", create_if_missing=True, version=1, client=client)
    sandbox = sandboxes.shell("echo new > $D/file; sync $D; echo done; cat > /dev/null", env={"D": "/m"}, volumes={"/m": volume})
    assert next(lines_of(sandbox)) == "done\n"
    assert paths(volume) == []
    sandbox.terminate()


def test_a_growing_file_is_committed_again_and_again(volume2: modal.Volume, sandboxes: Sandboxes) -> None:
    script = "while read line; do echo $line >> $D/log; sync $D; echo ok; done"
    sandbox = sandboxes.shell(script, env={"D": "/m"}, volumes={"/m": volume2})
    answers = lines_of(sandbox)
    for count in range(1, 6):
        sandbox.stdin.write(f"{count}\n")
        sandbox.stdin.drain()
        assert next(answers) == "ok\n"
        assert read(volume2, "log") == b"".join(b"%d\n" % number for number in range(1, count + 1))
    sandbox.terminate()


@pytest.mark.parametrize("end", ["terminate", "timeout"])
def test_a_commit_also_follows_an_end_from_outside(
    volume: modal.Volume, sandboxes: Sandboxes, emulator: EmulatorThread, end: str
) -> None:
    script = "echo new > $D/file; echo written; exec sleep 600"
    sandbox = sandboxes.shell(script, env={"D": "/m"}, volumes={"/m": volume}, timeout=60)
    assert next(lines_of(sandbox)) == "written\n"
    if end == "terminate":
        sandbox.terminate(wait=True)
    else:
        emulator.clock.advance(61)
        with pytest.raises(modal.exception.SandboxTimeoutError):
            sandbox.wait()
    assert read(volume, "file") == b"new\n"


def test_a_running_sandbox_sees_new_content_after_a_reload(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/a": b"1", "/b": b"1"})
    script = "while read _; do echo $(ls $D) $(cat $D/a); done"
    sandbox = sandboxes.shell(script, env={"D": "/m"}, volumes={"/m": volume})
    answers = lines_of(sandbox)

    def look() -> str:
        sandbox.stdin.write("\n")
        sandbox.stdin.drain()
        return next(answers)

    assert look() == "a b 1\n"
    put(volume, {"/a": b"2", "/c": b"2"}, force=True)
    volume.remove_file("b")
    assert look() == "a b 1\n"
    sandbox.reload_volumes()
    assert look() == "a c 2\n"
    sandbox.terminate(wait=True)
    assert paths(volume) == ["a", "c"]


def test_two_writers_merge_by_file_and_the_last_one_wins(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/both": b"0", "/kept": b"0"})
    scripts = ["echo 1 > $D/both; echo 1 > $D/one", "echo 2 > $D/both; echo 2 > $D/two"]
    made = [sandboxes.shell(f"{script}; echo ok; cat > /dev/null", env={"D": "/m"}, volumes={"/m": volume}) for script in scripts]
    for sandbox in made:
        assert next(lines_of(sandbox)) == "ok\n"
    for sandbox in reversed(made):
        sandbox.stdin.write_eof()
        sandbox.stdin.drain()
        sandbox.wait()
    assert {path: read(volume, path) for path in paths(volume)} == {"both": b"1\n", "kept": b"0", "one": b"1\n", "two": b"2\n"}


def test_sub_path_shows_one_folder_and_makes_it(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/logs/other/secret": b"1"})
    mounted = volume.with_mount_options(sub_path="/logs/mine")
    assert sandboxes.output("sh", "-c", "ls $D; echo 1 > $D/file", env={"D": "/m"}, volumes={"/m": mounted}) == ""
    assert paths(volume) == ["logs", "logs/mine", "logs/mine/file", "logs/other", "logs/other/secret"]


def test_a_read_only_mount_is_never_committed(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/a": b"1"})
    mounted = volume.with_mount_options(read_only=True)
    sandboxes.output("sh", "-c", "cat $D/a; echo 2 > $D/a; echo 2 > $D/b; true", env={"D": "/m"}, volumes={"/m": mounted})
    assert paths(volume) == ["a"]
    assert read(volume, "a") == b"1"


def test_mount_paths_are_rewritten_in_arguments_and_environment(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    put(volume, {"/w/model.bin": b"weights"})
    text = sandboxes.output("cat", "/models/w/model.bin", volumes={"/models": volume})
    assert text == "weights"
    script = "import os; print(open(os.environ['MODEL_DIR'] + '/w/model.bin').read(), '/models')"
    text = sandboxes.output("python", "-c", script, env={"MODEL_DIR": "/models"}, volumes={"/models": volume})
    assert text == "weights /models\n"


def test_links_and_modes_survive(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    sandboxes.output(
        "sh",
        "-c",
        "cd $D; echo '#!/bin/sh\necho ran' > tool; chmod 755 tool; ln -s tool link",
        env={"D": "/m"},
        volumes={"/m": volume},
    )
    assert sandboxes.output("/m/link", volumes={"/m": volume}) == "ran\n"


def test_one_volume_at_two_places_is_refused_by_the_client(volume: modal.Volume, sandboxes: Sandboxes) -> None:
    with pytest.raises(modal.exception.InvalidError):
        sandboxes.create("true", volumes={"/a": volume, "/b": volume})


def test_a_commit_from_outside_a_container_is_refused(volume: modal.Volume) -> None:
    with pytest.raises(RuntimeError, match="must be called inside a container"):
        volume.commit()
    with pytest.raises(RuntimeError, match="must be called inside a container"):
        volume.reload()


def test_a_volume_is_listed_renamed_and_deleted(client: modal.Client) -> None:
    modal.Volume.from_name("first", create_if_missing=True, client=client).hydrate()

    def names() -> list[str | None]:
        return [one.name for one in modal.Volume.objects.list(client=client)]

    assert names() == ["first"]
    modal.Volume.rename("first", "second", client=client)
    assert names() == ["second"]
    modal.Volume.objects.delete("second", client=client)
    assert names() == []


@pytest.mark.isolation("process")
def test_the_private_copy_is_gone_after_the_end(volume: modal.Volume, sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    text = sandboxes.output("sh", "-c", "echo $D", env={"D": "/m"}, volumes={"/m": volume})
    assert text.startswith("/tmp/")
    assert not Path(text.strip()).exists()
