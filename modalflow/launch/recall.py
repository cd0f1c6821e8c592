"""Asks Airflow, off the loop, whether a task whose sandbox is lost had begun; if not, what to launch it with again.

Flows in: a launch id and its key. Flows out: a fresh request, or ``None``. The question is ``executor.recall``'s: a query of
Airflow's database, made only after failures of Modal's. ``backend`` owns the one ``Recaller``, each ``driver`` awaits it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from contextlib import suppress

from modalflow.launch.events import LaunchRequest

Recall = Callable[[str, Hashable], LaunchRequest | None]
"""Takes launch id and key; called in a thread of its own, and may block. ``None``: the task began, or nobody knows."""

RECALL_LIMIT = 30.0
"""Seconds that one question may take. Without an answer the task counts as begun: it is never run twice on a guess."""


class Recaller:
    """One question at a time: a thousand sandboxes that are lost together are not a thousand connections to a database."""

    def __init__(self, recall: Recall | None) -> None:
        """Keep the question; ``None`` where nobody can be asked."""
        self._recall = recall
        self._turn = asyncio.Lock()

    async def __call__(self, launch_id: str, key: Hashable) -> LaunchRequest | None:
        """Return the request of a task that has not begun. Raises what the question raises, and ``TimeoutError``."""
        recall = self._recall
        if recall is None:
            return None
        async with self._turn:
            return await asyncio.wait_for(
                _in_thread(lambda: recall(launch_id, key), f"modalflow-recall-{launch_id}"), RECALL_LIMIT
            )


def _in_thread(call: Callable[[], LaunchRequest | None], name: str) -> asyncio.Future[LaunchRequest | None]:
    """Run ``call`` in a daemon thread: asyncio's own would keep the process from ending while a database does not answer."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[LaunchRequest | None] = loop.create_future()

    def settle(result: LaunchRequest | None, error: Exception | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def run() -> None:
        result, failed = None, None
        try:
            result = call()
        except Exception as error:
            failed = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
