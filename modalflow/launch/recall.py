"""Asks Airflow, off the loop, whether a task whose sandbox is lost had begun; if not, what to launch it with again.

Flows in: a launch id and its key. Flows out: a fresh request, or ``None``. The question is ``executor.recall``'s: a query of
Airflow's database, made only after failures of Modal's. ``backend`` owns the one ``Recaller``, each ``driver`` awaits it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable

from modalflow.launch.events import LaunchRequest
from modalflow.launch.few_questions import FewQuestions

log = logging.getLogger(__name__)

Recall = Callable[[str, Hashable], LaunchRequest | None]
"""Takes launch id and key; called in a thread of its own, and may block. ``None``: the task began, or nobody knows."""

AT_ONCE = 4
"""Questions at the same time; each takes a connection of the scheduler's pool (``[database] sql_alchemy_pool_size``, 5 and up to
10 more)."""
RECALL_LIMIT = 30.0
"""Seconds that one question may take, and for how long those in line wait while none is answered. Without an answer the task
counts as begun: it is never run twice on a guess."""


class Recaller:
    """A few questions at a time: a thousand sandboxes that are lost together are not a thousand connections to a database."""

    def __init__(self, recall: Recall | None) -> None:
        """Keep the question; ``None`` where nobody can be asked."""
        self._recall = recall
        self._questions = FewQuestions(at_once=AT_ONCE, limit=RECALL_LIMIT)

    async def __call__(self, launch_id: str, key: Hashable) -> LaunchRequest | None:
        """Return the request of a task that has not begun. Raises what the question raises."""
        recall = self._recall
        if recall is None:
            return None
        try:
            return await self._questions.ask(lambda: recall(launch_id, key), f"modalflow-recall-{launch_id}")
        except TimeoutError:
            log.warning(
                "modalflow: Airflow's database does not say whether the task of launch %s had begun: it counts as begun",
                launch_id,
            )
            return None
