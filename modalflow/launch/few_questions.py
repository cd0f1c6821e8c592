"""A few questions at a time to what may hang, such as Airflow's database: a thousand launches are not a thousand connections.

Flows in: calls that block, from launches that each wait for their answer. Flows out: the answers, or ``TimeoutError``. A thread
that hangs keeps its place until it comes back, so there are never more threads than places; while none comes back, those in line
give up together. ``recall`` and ``sweep`` ask this way. Next: ``off_loop``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from modalflow.launch.off_loop import off_loop

T = TypeVar("T")


class FewQuestions:
    """Used on the loop's thread only."""

    def __init__(self, *, at_once: int, limit: float) -> None:
        """Ask ``at_once`` at a time, each at most ``limit`` seconds; who stands in line waits while answers come that often."""
        self._places = asyncio.Semaphore(at_once)
        self._limit = limit
        self._came_back = 0

    async def ask(self, call: Callable[[], T], name: str) -> T:
        """Return the answer of ``call``, run in a thread called ``name``. Raises what it raises, and ``TimeoutError``."""
        await self._take_a_place()
        try:
            answer = off_loop(call, name)
        except BaseException:  # no thread can be started now
            self._places.release()
            raise
        answer.add_done_callback(self._give_back)
        # Shielded: a question that is given up goes on in its thread, and keeps its place.
        return await asyncio.wait_for(asyncio.shield(answer), self._limit)

    async def _take_a_place(self) -> None:
        taking = asyncio.ensure_future(self._places.acquire())
        try:
            await self._while_answers_come(taking)
        except BaseException:
            if not taking.cancel():
                self._places.release()
            raise

    async def _while_answers_come(self, taking: asyncio.Future[Any]) -> None:
        while not taking.done():
            before = self._came_back
            await asyncio.wait([taking], timeout=self._limit)
            if not taking.done() and self._came_back == before:
                raise TimeoutError(f"no answer to any question for {self._limit:g} s")

    def _give_back(self, answer: asyncio.Future[Any]) -> None:
        self._came_back += 1
        self._places.release()
        if not answer.cancelled():
            answer.exception()  # of one that was given up nobody else asks
