"""One look and one upload for all who wait, and what a launch gets is never older than itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from modalflow.dag_code import copies
from modalflow.dag_code.copies import BundleCopies, Placed
from modalflow.dag_code.reading import FolderReader, FolderRules, Look
from modalflow.dag_code.tree import FolderChangedError
from modalflow.launch.gateway import DagCodeError, Unavailable
from tests.dag_code.fake_volume import DAY, FakeVolume, Time


class Reader(FolderReader):
    """Counts looks; ``gate`` holds them in their thread, ``failures`` are raised first."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder), FolderRules())
        self.looks = 0
        self.gate: threading.Event | None = None
        self.begun = threading.Event()
        self.failures: list[Exception] = []

    def look(self) -> Look:
        self.looks += 1
        found = super().look()
        self.begun.set()
        if self.gate is not None:
            self.gate.wait(60)
        if self.failures:
            raise self.failures.pop(0)
        return found


class Room:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("x = 1\n")
        self.reader = Reader(folder)
        self.volume = FakeVolume()
        self.time = Time()
        self.bundle = BundleCopies("etl", self.reader, lambda: self.volume, "prod", self.time.clocks)

    def write(self, text: str) -> None:
        (self.folder / "etl.py").write_text(text)

    def there(self, placed: Placed) -> bytes:
        """The content of the copy that a launch was given."""
        return self.volume.folders[placed.copy.folder("prod")]["etl.py"]


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 60))


def test_launches_that_come_together_share_a_look_and_an_upload(room: Room) -> None:
    async def scene() -> None:
        given = await asyncio.gather(*(room.bundle.current() for _ in range(100)))
        assert (room.reader.looks, len(room.volume.puts), len(set(given))) == (1, 1, 1)
        assert room.there(given[0]) == b"x = 1\n"

    run(scene)


def test_a_launch_that_comes_during_a_look_gets_what_a_later_one_sees(room: Room) -> None:
    async def scene() -> None:
        room.reader.gate = threading.Event()
        early = asyncio.create_task(room.bundle.current())
        await asyncio.to_thread(room.reader.begun.wait, 60)
        room.write("x = 2\n")
        late = [asyncio.create_task(room.bundle.current()) for _ in range(5)]
        await asyncio.sleep(0)
        room.reader.gate.set()
        given = [await early, *(await asyncio.gather(*late))]
        assert [room.there(one) for one in given[1:]] == [b"x = 2\n"] * 5
        assert room.reader.looks <= 3, "one for the early one, which may have to look twice, and one for the others"

    run(scene)


def test_nobody_gets_a_copy_before_modal_has_it(room: Room) -> None:
    async def scene() -> None:
        room.volume.gate = asyncio.Event()
        waiting = asyncio.create_task(room.bundle.current())
        await room.volume.entered.wait()
        assert (waiting.done(), room.volume.folders) == (False, {})
        room.volume.gate.set()
        assert room.there(await waiting) == b"x = 1\n"

    run(scene)


def test_what_has_not_changed_is_not_brought_again(room: Room) -> None:
    async def scene() -> None:
        first = await room.bundle.current()
        assert await room.bundle.current() == first
        assert (len(room.volume.puts), room.volume.asked) == (1, [])
        room.time.seconds += copies.BELIEVED_FOR
        assert await room.bundle.current() == first
        assert (len(room.volume.puts), room.volume.asked) == (1, ["prod/2026-03-02"]), "it is looked for once in a while"

    run(scene)


def test_a_copy_that_somebody_deleted_is_brought_again(room: Room) -> None:
    async def scene() -> None:
        first = await room.bundle.current()
        room.volume.folders.clear()
        room.time.seconds += copies.BELIEVED_FOR
        assert room.there(await room.bundle.current()) == b"x = 1\n"
        assert room.volume.puts == [first.copy.folder("prod")] * 2

    run(scene)


def test_the_copy_of_yesterday_is_not_used_today(room: Room) -> None:
    async def scene() -> None:
        first = await room.bundle.current()
        room.time.seconds += DAY
        second = await room.bundle.current()
        assert (first.copy.day, second.copy.day) == ("2026-03-02", "2026-03-03")
        assert first.copy.digest == second.copy.digest
        assert len(room.volume.puts) == 2

    run(scene)


def test_an_upload_that_fails_fails_all_who_wait_and_is_repeated_for_the_next(room: Room) -> None:
    async def scene() -> None:
        room.volume.failures = [Unavailable("Modal is away")]
        failed = await asyncio.gather(*(room.bundle.current() for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in failed] == ["Modal is away"] * 3
        assert room.there(await room.bundle.current()) == b"x = 1\n"

    run(scene)


def test_a_folder_on_the_move_is_looked_at_again_for_a_while(room: Room) -> None:
    async def scene() -> None:
        room.reader.failures = [FolderChangedError("etl.py changed")] * 3
        assert room.there(await room.bundle.current()) == b"x = 1\n"
        room.reader.failures = [FolderChangedError("etl.py changed")] * 4
        with pytest.raises(Unavailable, match=r"^the code of bundle 'etl' changes all the time: etl\.py changed$"):
            await room.bundle.current()

    run(scene)


def test_what_no_task_can_use_is_refused_and_what_mends_it_counts_at_once(room: Room) -> None:
    async def scene() -> None:
        room.reader.failures = [DagCodeError("etl.py cannot be read")]
        with pytest.raises(DagCodeError, match="cannot be read"):
            await room.bundle.current()
        assert room.there(await room.bundle.current()) == b"x = 1\n"

    run(scene)


def test_who_gives_up_takes_nothing_from_the_others(room: Room) -> None:
    async def scene() -> None:
        room.volume.gate = asyncio.Event()
        one, other = (asyncio.create_task(room.bundle.current()) for _ in range(2))
        await room.volume.entered.wait()
        one.cancel()
        room.volume.gate.set()
        assert room.there(await other) == b"x = 1\n"
        assert one.cancelled()

    run(scene)


def test_a_disk_that_does_not_answer_is_asked_by_one_thread_only(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LOOK_LIMIT", 0.01)

    async def scene() -> None:
        room.reader.gate = threading.Event()
        with pytest.raises(Unavailable, match=rf"^{room.folder} could not be read within 0\.01 s$"):
            await room.bundle.current()
        with pytest.raises(Unavailable, match=rf"^{room.folder} has not been read within 0\.01 s: is its disk away\?$"):
            await room.bundle.current()
        assert room.reader.looks == 1
        room.reader.gate.set()
        room.reader.gate = None
        monkeypatch.setattr(copies, "LOOK_LIMIT", 60.0)
        assert room.bundle._reading is not None
        await room.bundle._reading
        assert room.there(await room.bundle.current()) == b"x = 1\n"

    run(scene)


def test_looks_leave_time_between_them(room: Room) -> None:
    async def scene() -> None:
        look = room.reader.look

        def slow() -> Look:
            room.time.seconds += 0.5
            return look()

        room.reader.look = slow  # type: ignore[method-assign]
        for _ in range(3):
            await room.bundle.current()
        assert room.time.slept == [2.0, 2.0]

    run(scene)


def test_closing_ends_what_is_under_way(room: Room) -> None:
    async def scene() -> None:
        room.volume.gate = asyncio.Event()
        waiting = [asyncio.create_task(room.bundle.current())]
        await room.volume.entered.wait()
        waiting.append(asyncio.create_task(room.bundle.current()))
        await asyncio.sleep(0)
        await room.bundle.close()
        assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [asyncio.CancelledError] * 2
        assert [task.get_name() for task in asyncio.all_tasks() if "dag-code" in task.get_name()] == []

    run(scene)
