"""Calls that may block, such as questions to Airflow's database, made off the loop in a thread of their own.

Flows in: a call. Flows out: its result, awaited on the loop. ``few_questions`` bounds how many there are.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def off_loop(call: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run ``call`` in a daemon thread: asyncio's own would keep the process from ending while a database does not answer."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def succeed(result: T) -> None:
        if not future.done():
            future.set_result(result)

    def fail(error: Exception) -> None:
        if not future.done():
            future.set_exception(error)

    def run() -> None:
        try:
            result = call()
        except Exception as error:
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(fail, error)
            return
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(succeed, result)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
