"""The thread that the modal client makes all its calls on, and what is done when it answers no more.

The client (1.6.4) has one loop in one thread for the whole process (``_utils/async_utils.synchronizer``, of synchronicity). A
callback that blocks there stops every call to Modal, and a call that is cut off at its deadline waits there for ever. Python
cannot end a thread, so the client is made to start another at its next call; what was connected by the old one is lost with it,
and is ended should it wake. ``gateway`` asks and replaces; ``launch.watchdog`` decides when. The client has no public way for
this: these are the fields that its own code for forked processes sets anew (``Synchronizer._reinitialize_after_fork``).
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from typing import Any

from modal._utils import async_utils

synchronizer: Any = async_utils.synchronizer
"""Of synchronicity, whose fields are typed as what they are before the first call."""


def current() -> asyncio.AbstractEventLoop | None:
    """The loop of the client's thread; ``None`` before its first call."""
    loop: asyncio.AbstractEventLoop | None = synchronizer._loop
    return loop


def ask(answer: Callable[[], None]) -> None:
    """Have the client's thread call ``answer``; it is called at once while there is no such thread. Never blocks."""
    loop = synchronizer._loop
    if loop is None or loop.is_closed():
        answer()
        return
    loop.call_soon_threadsafe(answer)


def stack() -> str:
    """Where the client's thread is right now, innermost call last; empty if there is none. Reads source files."""
    thread = synchronizer._thread
    frame = sys._current_frames().get(thread.ident or 0) if thread is not None else None
    return "".join(traceback.format_stack(frame)) if frame is not None else ""


def replace(loop: asyncio.AbstractEventLoop) -> None:
    """Have the client start another thread at its next call, unless the one of ``loop`` has been replaced already.

    Clients that were opened before are of no use any more, those of other executors in this process included: their own watchdogs
    find that they, too, were not answered.
    """
    with synchronizer._loop_creation_lock:
        if synchronizer._loop is not loop:
            return
        stopping = synchronizer._stopping
        synchronizer._thread = synchronizer._loop = None
    if stopping is not None and not loop.is_closed():
        loop.call_soon_threadsafe(stopping.set)  # should it wake, it cancels its calls and ends
