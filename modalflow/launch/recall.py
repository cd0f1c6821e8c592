"""Asks Airflow, off the loop, whether a task whose sandbox is lost had begun; if not, what to launch it with again.

Flows in: a launch id and its key. Flows out: a fresh request, or ``None``. The question is ``executor.recall``'s: a query of
Airflow's database, made only after failures of Modal's. ``backend`` owns the one ``Recaller``, each ``driver`` awaits it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

from modalflow.launch.events import LaunchRequest
from modalflow.launch.off_loop import off_loop

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
            return await asyncio.wait_for(off_loop(lambda: recall(launch_id, key), f"modalflow-recall-{launch_id}"), RECALL_LIMIT)
