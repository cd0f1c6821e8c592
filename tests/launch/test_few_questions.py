"""Questions to a database that hangs: how many threads they take, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Hashable

import pytest

from modalflow.launch.events import LaunchRequest
from modalflow.launch.few_questions import FewQuestions
from modalflow.launch.recall import Recaller
from tests.launch.plans import request


class Database:
    """Answers once it is awake; notes in which threads it was asked."""

    def __init__(self) -> None:
        self.awake = threading.Event()
        self.asked: list[str] = []

    def ask(self) -> str:
        self.asked.append(threading.current_thread().name)
        self.awake.wait()
        return "an answer"


@pytest.fixture
def database() -> Database:
    return Database()


def test_a_database_that_hangs_holds_a_few_threads_and_nobody_for_long(database: Database) -> None:
    async def scene() -> None:
        questions = FewQuestions(at_once=4, limit=0.05)
        told = await asyncio.gather(*(questions.ask(database.ask, f"q{number}") for number in range(100)), return_exceptions=True)
        assert {type(one) for one in told} == {TimeoutError}
        assert len(database.asked) == 4
        with pytest.raises(TimeoutError, match=r"^no answer to any question for 0\.05 s$"):
            await questions.ask(database.ask, "later")
        assert len(database.asked) == 4, "what was given up still has its thread, and so its place"
        database.awake.set()
        assert await FewQuestions(at_once=1, limit=60).ask(database.ask, "another") == "an answer"
        while len(database.asked) < 6:
            try:
                assert await questions.ask(database.ask, "again") == "an answer"
            except TimeoutError:
                continue  # the threads are not back yet

    try:
        asyncio.run(scene())
    finally:
        database.awake.set()


def test_those_in_line_wait_for_as_long_as_answers_come(database: Database) -> None:
    database.awake.set()

    async def scene() -> None:
        questions = FewQuestions(at_once=2, limit=60)
        assert await asyncio.gather(*(questions.ask(database.ask, "q") for _ in range(50))) == ["an answer"] * 50

    asyncio.run(scene())
    assert len(database.asked) == 50


def test_a_question_that_fails_gives_its_place_back() -> None:
    def fails() -> None:
        raise RuntimeError("the database is away")

    async def scene() -> None:
        questions = FewQuestions(at_once=1, limit=60)
        for _ in range(3):
            with pytest.raises(RuntimeError, match=r"^the database is away$"):
                await questions.ask(fails, "q")

    asyncio.run(scene())


def test_who_leaves_the_line_takes_no_place(database: Database) -> None:
    async def scene() -> None:
        questions = FewQuestions(at_once=1, limit=60)
        first = asyncio.create_task(questions.ask(database.ask, "first"))
        await asyncio.sleep(0)
        second = asyncio.create_task(questions.ask(database.ask, "second"))
        await asyncio.sleep(0)
        second.cancel()
        database.awake.set()
        assert await first == "an answer"
        assert await questions.ask(database.ask, "third") == "an answer"
        assert second.cancelled()
        assert database.asked == ["first", "third"]

    try:
        asyncio.run(scene())
    finally:
        database.awake.set()


def test_a_task_of_which_the_database_does_not_tell_counts_as_begun(
    database: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("modalflow.launch.recall.RECALL_LIMIT", 0.05)

    def recall(_launch_id: str, _key: Hashable) -> LaunchRequest:
        database.ask()
        return request()

    async def scene() -> None:
        recaller = Recaller(recall)
        assert await asyncio.gather(*(recaller(f"launch-{number}", None) for number in range(20))) == [None] * 20

    try:
        asyncio.run(scene())
    finally:
        database.awake.set()
    assert len(database.asked) == 4
    told = "modalflow: Airflow's database does not say whether the task of launch launch-19 had begun: it counts as begun"
    assert told in caplog.messages


def test_a_thread_that_cannot_be_started_keeps_no_place(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    database.awake.set()
    start = threading.Thread.start

    def refused(_thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    async def scene() -> None:
        questions = FewQuestions(at_once=1, limit=5)
        monkeypatch.setattr(threading.Thread, "start", refused)
        with pytest.raises(RuntimeError, match=r"^can't start new thread$"):
            await questions.ask(database.ask, "refused")
        assert await questions.ask(database.ask, "next") == "an answer"

    asyncio.run(scene())
