"""DAG code on its way to Modal: the real client, the emulator, and sandboxes that look at what they mount."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import modal
import pytest
from grpclib import Status

from modalflow.dag_code.copies import Clocks
from modalflow.dag_code.desk import DagCodeDesk
from modalflow.dag_code.manifest import BLOCK_SIZE, CodeFile, block_hash
from modalflow.dag_code.reading import FolderReader, FolderRules
from modalflow.dag_code.tree import FolderChangedError
from modalflow.emulator.introspection import sandbox_records
from modalflow.launch.backend import LaunchBackend
from modalflow.launch.dag_code import DagCode, MakeDagCode
from modalflow.launch.events import LaunchEnded, LaunchEvent
from modalflow.launch.gateway import DagCodeError, Gateway
from modalflow.modal_gateway import ModalGateway
from modalflow.modal_gateway import code_volume as code_volume_module
from modalflow.modal_gateway.code_volume import ModalCodeVolume
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import SandboxPlan, VolumePlan
from tests.contract.conftest import SETTINGS
from tests.launch.plans import AUTO, request
from tests.launch.scripted_gateway import until

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

pytestmark = pytest.mark.emulated

MOUNT = "/mnt/modalflow/bundles/etl"
CODE = VolumePlan(mount_path=MOUNT, name="code", read_only=True, version=2, is_ours=True, code_of="etl")
SHOWS = """
import os, pathlib
found = pathlib.Path(os.environ["WHERE"])
shown = [(found / name).read_text() for name in ("etl.py", "sub/module.py")]
print("code:", *shown, os.access(found / "run.sh", os.X_OK))
try:
    (found / "new.py").write_text("")
except OSError:
    pass
raise SystemExit(3)
"""
"""Shows its code, tries to change it, and fails, so that its output is in the reason."""


def write(folder: Path, **files: str) -> None:
    for name, text in {"etl": "etl", "sub/module": "module", **files}.items():
        path = folder / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o700)


def desk_of(folder: Path, wall: Callable[[], float] = time.time, deployment: str = "airflow") -> MakeDagCode:
    def make(gateway: Callable[[], Gateway]) -> DagCode:
        volume = ModalCodeVolume(gateway, "code", deployment=deployment)  # type: ignore[arg-type]
        clocks = Clocks(wall=wall, now=time.monotonic, sleep=asyncio.sleep)
        readers = {"etl": lambda: FolderReader(str(folder), FolderRules())}
        return DagCodeDesk(readers, lambda _: volume, deployment=deployment, keep_days=3, clocks=clocks)

    return make


def content_of(volume: str = "code") -> dict[str, bytes]:
    """All files of a Volume, by the client's own listing and reading."""

    async def read() -> dict[str, bytes]:
        async with await modal.Client.from_env.aio() as client:
            found = modal.Volume.from_name(volume, client=client)
            files = [entry.path for entry in await found.listdir.aio("/", recursive=True) if entry.type == FILE]
            return {path: b"".join([part async for part in found.read_file.aio(path)]) for path in files}

    return asyncio.run(read())


def in_gateway(scene: Callable[[ModalGateway, ModalCodeVolume], Any]) -> Any:
    async def main() -> Any:
        async with ModalGateway(SETTINGS) as gateway:
            return await scene(gateway, ModalCodeVolume(lambda: gateway, "code", deployment="airflow"))

    return asyncio.run(main())


def files_of(contents: dict[str, bytes]) -> tuple[list[CodeFile], Callable[[CodeFile, int], bytes]]:
    def blocks(content: bytes) -> list[bytes]:
        return [content[start : start + BLOCK_SIZE] for start in range(0, len(content), BLOCK_SIZE)]

    files = [
        CodeFile(path=path, size=len(content), blocks=tuple(map(block_hash, blocks(content))))
        for path, content in contents.items()
    ]
    return files, lambda file, index: blocks(contents[file.path])[index].rstrip(b"\0")


CONTENTS = {
    "etl.py": b"x = 1\n",
    "same.py": b"x = 1\n",
    "empty.py": b"",
    "zeros.bin": b"\0" * 10,
    "sub/large.bin": b"a" * BLOCK_SIZE + b"\0" * BLOCK_SIZE + b"c\0\0",
    "names/ü a..b.txt": b"text",
}


def test_what_is_put_is_what_is_read(modal_emulator: EmulatorThread) -> None:
    files, read = files_of(CONTENTS)

    async def scene(_: ModalGateway, volume: ModalCodeVolume) -> None:
        distinct = {digest for file in files for digest in file.blocks}
        assert await volume.put("airflow/day/aa", files, read) == len(b"x = 1\n") + BLOCK_SIZE + 1 + len(b"text")
        assert len(distinct) == 5, "of which two blocks are nothing but zeros"
        assert await volume.put("airflow/day/bb", files, read) == 0, "Modal has the content already"

    in_gateway(scene)
    assert content_of() == {f"airflow/day/{copy}/{path}": content for copy in ("aa", "bb") for path, content in CONTENTS.items()}


def test_our_calls_are_those_of_the_public_upload(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    """The same files by ``batch_upload``: what is on the Volume is the same, and nothing is left for us to send."""
    for path, content in CONTENTS.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    files, read = files_of(CONTENTS)

    async def scene(gateway: ModalGateway, volume: ModalCodeVolume) -> int:
        client = (await gateway.objects()).client
        theirs = modal.Volume.from_name("code", create_if_missing=True, version=2, client=client)
        async with theirs.batch_upload.aio() as batch:
            batch.put_directory(tmp_path, "/airflow/day/theirs")
        return await volume.put("airflow/day/ours", files, read)

    assert in_gateway(scene) == 0
    found = content_of()
    assert {path.replace("theirs", "ours") for path in found} == {path for path in found if "ours" in path}
    assert all(found[path.replace("theirs", "ours")] == content for path, content in found.items())


def test_content_goes_in_batches(modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_volume_module, "BATCH_BLOCKS", 3)
    files, read = files_of({f"dag_{n}.py": f"x = {n}\n".encode() for n in range(8)})
    in_gateway(lambda _, volume: volume.put("airflow/day/aa", files, read))
    assert len(content_of()) == 8


def test_nothing_of_a_copy_is_seen_before_all_of_it_is_there(modal_emulator: EmulatorThread) -> None:
    files, read = files_of({f"dag_{n}.py": f"x = {n}\n".encode() for n in range(5)})

    def changed(file: CodeFile, index: int) -> bytes:
        if file.path == "dag_3.py":
            raise FolderChangedError("dag_3.py changed")
        return read(file, index)

    async def scene(_: ModalGateway, volume: ModalCodeVolume) -> None:
        with pytest.raises(FolderChangedError):
            await volume.put("airflow/day/aa", files, changed)
        assert await volume.names("airflow") == []
        modal_emulator.faults.add("VolumePutFiles2", status=Status.INVALID_ARGUMENT, message="no", times=1)
        with pytest.raises(Exception, match="could not write to Volume code"):
            await volume.put("airflow/day/aa", files, read)
        assert await volume.names("airflow") == []
        await volume.put("airflow/day/aa", files, read)
        assert await volume.names("airflow/day") == ["aa"]

    in_gateway(scene)


def test_a_folder_is_listed_and_removed_whether_it_is_there_or_not(modal_emulator: EmulatorThread) -> None:
    files, read = files_of(CONTENTS)

    async def scene(_: ModalGateway, volume: ModalCodeVolume) -> None:
        assert await volume.names("airflow") == []
        await volume.remove("airflow/day")
        for copy in ("aa", "bb"):
            await volume.put(f"airflow/day/{copy}", files, read)
        assert sorted(await volume.names("airflow/day")) == ["aa", "bb"]
        await volume.remove("airflow/day/aa")
        assert await volume.names("airflow/day") == ["bb"]
        await volume.remove("airflow/day")
        assert await volume.names("airflow") == []

    in_gateway(scene)


def test_a_volume_that_was_deleted_is_made_again(modal_emulator: EmulatorThread) -> None:
    files, read = files_of(CONTENTS)

    async def scene(gateway: ModalGateway, volume: ModalCodeVolume) -> None:
        client = (await gateway.objects()).client
        await volume.put("airflow/day/aa", files, read)
        await modal.Volume.objects.delete.aio("code", client=client)
        assert await volume.names("airflow") == []
        await volume.put("airflow/day/aa", files, read)
        await modal.Volume.objects.delete.aio("code", client=client)
        await volume.put("airflow/day/aa", files, read)
        assert await volume.names("airflow/day") == ["aa"]

    in_gateway(scene)


def test_another_release_of_the_client_is_refused_with_what_to_do(
    modal_emulator: EmulatorThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_volume_module, "_INTERNALS", None)
    with pytest.raises(DagCodeError) as refused:
        in_gateway(lambda _, volume: volume.put("airflow/day/aa", [], lambda _file, _index: b""))
    assert str(refused.value) == (
        "this release of modal uploads files in another way than 1.6 does: install modal 1.6, or have the code in the image "
        "(dag_source = image)"
    )


class Scheduler:
    """A backend with the code of one folder, and what it said of its launches."""

    def __init__(self, folder: Path, wall: Callable[[], float] = time.time) -> None:
        settings = LaunchSettings(rpc_timeout=10.0, create_timeout=20.0, logs_volume=None, launch_retries=1)
        self.log: list[str] = []
        self.events: list[LaunchEvent] = []
        self.backend = LaunchBackend(
            lambda: ModalGateway(settings),
            settings,
            ["python", "-c", SHOWS],
            lambda _path, line: self.log.append(line),
            dag_code=desk_of(folder, wall),
        )

    def __enter__(self) -> Self:
        self.backend.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.stop(10.0)

    def ends(self, *launch_ids: str) -> list[LaunchEnded]:
        """Launch, and wait for the ends."""
        for launch_id in launch_ids:
            tags = {"deployment": "airflow", "launch": launch_id}
            plan = SandboxPlan(image=AUTO, volumes=(CODE,), tags=tags, timeout=60, env={"WHERE": MOUNT})
            self.backend.submit(request(launch_id, plan))

        def ended() -> list[LaunchEnded]:
            self.events += self.backend.drain()
            return [event for event in self.events if isinstance(event, LaunchEnded) and event.launch_id in launch_ids]

        until(lambda: len(ended()) == len(launch_ids), "the ends of the launches")
        return ended()


FILE = 1
"""``FileEntryType.FILE`` of modal 1.6.4."""
IDS = [f"0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b{n:02d}" for n in range(6)]


def test_a_sandbox_mounts_the_code_as_it_was_at_its_launch(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    write(tmp_path)
    with Scheduler(tmp_path) as scheduler:
        [first] = scheduler.ends(IDS[0])
        assert "code: etl module True" in first.reason
        write(tmp_path, etl="changed")
        assert "code: changed module True" in scheduler.ends(IDS[1])[0].reason
        write(tmp_path, **{"etl": "changed", "sub/module": "too"})
        assert ["code: changed too True" in end.reason for end in scheduler.ends(*IDS[2:5])] == [True] * 3
    tags = [record.tags["dag_code"] for record in sandbox_records(modal_emulator)]
    assert (len(tags), len(set(tags))) == (5, 3)
    assert content_of().keys() == {
        f"airflow/{tag.replace('.', '/')}/{name}" for tag in tags for name in ("etl.py", "run.sh", "sub/module.py")
    }


def test_modal_that_does_not_answer_is_asked_again_as_for_a_launch(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    write(tmp_path)
    modal_emulator.faults.add("VolumePutFiles2", status=Status.UNAVAILABLE, times=6)
    with Scheduler(tmp_path) as scheduler:
        assert "code: etl module True" in scheduler.ends(IDS[0])[0].reason


def test_code_that_cannot_be_brought_fails_the_task_in_its_own_log(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "circle").symlink_to(tmp_path)
    with Scheduler(tmp_path) as scheduler:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("modalflow.dag_code.reading.MOST_FILES", 2)
            [failed] = scheduler.ends(IDS[0])
        told = (
            f"the code of bundle 'etl' cannot be brought to Modal: {tmp_path} holds 3 files, more than the 2 that are brought to "
            "Modal: move data out of the folder, list it in .airflowignore, or have the code in the image (dag_source = image)"
        )
        assert (failed.reason, str(failed.failure)) == (told, "dag-code")
        assert told in scheduler.log[-1]
        assert sandbox_records(modal_emulator) == []
        assert "code: etl module True" in scheduler.ends(IDS[1])[0].reason
        assert "circle is left out: a link to a folder that it is in itself" in "".join(scheduler.log)


def test_schedulers_of_one_deployment_keep_what_each_other_uses(modal_emulator: EmulatorThread, tmp_path: Path) -> None:
    """One is of today, the other's clock is five days ahead: what a sandbox of the first mounts stays while it runs."""
    ahead = 5 * 86_400
    write(tmp_path)
    plan = SandboxPlan(image=AUTO, volumes=(CODE,), tags={"deployment": "airflow", "launch": IDS[1]})

    async def scene(gateway: ModalGateway, volume: ModalCodeVolume) -> list[bool]:
        brought = await desk_of(tmp_path)(lambda: gateway).bring("theirs", plan)
        [today] = await volume.names("airflow")
        running = await gateway.create(brought.plan, name=IDS[1], gpu=None, argv=["sleep", "60"], secret_env={})
        other = desk_of(tmp_path, wall=lambda: time.time() + ahead)(lambda: gateway)
        await other.bring("mine", plan)
        await tidied(other)
        kept = await volume.names("airflow")
        await gateway.terminate(running)
        await tidied(other)
        return [today in kept, today in await volume.names("airflow"), len(kept) == 2]

    assert in_gateway(scene) == [True, False, True]


async def tidied(desk: DagCode) -> None:
    """Let it look once."""
    looked = asyncio.Event()

    async def sleep(_: float) -> None:
        looked.set()
        await asyncio.Event().wait()

    tidying = asyncio.create_task(desk.tidy(sleep))
    await looked.wait()
    tidying.cancel()
    await asyncio.wait([tidying])
