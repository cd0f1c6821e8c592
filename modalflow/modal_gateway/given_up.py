"""A create that is given up must leave no sandbox that comes later.

A GPU create returns only once its sandbox is scheduled, so it is often cut off: the next candidate's turn, or a task that Airflow
took back. The client (modal 1.6.4, ``sandbox/_impl_v1.py``) then ends the sandbox itself, but only if Modal had answered the
create call; cut off before, the sandbox may be made afterwards and hold a GPU that nobody asks for any more. So the call is let
go on until Modal knows the name, and is cut off then. Flows in: the create, and a way to ask for its name. Used by ``gateway``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_WAIT = 5.0
"""Seconds that Modal is given to know the name, and the client to end the sandbox. What still comes later than both has no
workload and ends itself after ``handover_timeout``."""
BETWEEN_LOOKS = 0.2
"""Seconds between two looks for the name: less than the client's own poll (0.5 s)."""


async def leaving_nothing(
    create: Coroutine[Any, Any, T],
    is_known: Callable[[], Awaitable[bool]],
    *,
    longest: float = LONGEST_WAIT,
    between: float = BETWEEN_LOOKS,
) -> T:
    """Run ``create``; on cancellation, cut it off once Modal knows of the sandbox, and return when the client has ended it.

    ``is_known`` says whether Modal knows the sandbox's name. Takes at most ``longest`` seconds twice from the cancellation on; a
    second cancellation is heeded at once.
    """
    creating = asyncio.ensure_future(create)
    creating.add_done_callback(_hear)
    try:
        return await asyncio.shield(creating)
    except asyncio.CancelledError:
        if not creating.done():
            await _until_known(creating, is_known, longest, between)
            creating.cancel()
            await asyncio.wait([creating], timeout=longest)
        raise
    finally:
        creating.cancel()


async def _until_known(
    creating: asyncio.Future[T], is_known: Callable[[], Awaitable[bool]], longest: float, between: float
) -> None:
    try:
        async with asyncio.timeout(longest):
            while not creating.done() and not await is_known():
                await asyncio.wait([creating], timeout=between)
    except TimeoutError:
        return


def _hear(creating: asyncio.Future[Any]) -> None:
    """Take the outcome that nobody waits for any more, which would else be reported as unheard."""
    if not creating.cancelled():
        creating.exception()
