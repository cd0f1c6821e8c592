"""Removes copies that no task can use any more.

In: what is on the Volume, and which copies running sandboxes and waiting launches mount. A copy goes only if its day is over for
so many days that no scheduler launches with it (``shelf``), and no running sandbox of the deployment and no launch of this
scheduler has it. What another deployment keeps is in another folder, which is never looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from modalflow.dag_code.copies import CodeVolume
from modalflow.dag_code.shelf import day_of, old_days, to_remove
from modalflow.launch.gateway import GatewayError

log = logging.getLogger(__name__)


async def tidy_up(
    volume: CodeVolume, deployment: str, *, keep_days: int, wall: Callable[[], float], held: Callable[[], set[str]]
) -> None:
    """Look once. What fails is said, and left to the next look."""
    try:
        for folder in await _removable(volume, deployment, keep_days, wall, held):
            await volume.remove(folder)
            log.info("modalflow: removed old DAG code from Modal: %s", folder)
    except GatewayError as error:
        log.warning("modalflow: cannot remove old DAG code from Modal; it is tried again in an hour: %s", error)
    except Exception:
        log.exception("modalflow: cannot remove old DAG code from Modal")


async def _removable(
    volume: CodeVolume, deployment: str, keep_days: int, wall: Callable[[], float], held: Callable[[], set[str]]
) -> list[str]:
    days = old_days(await volume.names(deployment), today=day_of(wall()), keep=keep_days)
    if not days:
        return []
    contents = {day: await volume.names(f"{deployment}/{day}") for day in days}
    # After the listing: nothing takes up an old copy any more, so what is free now stays free.
    in_use = await volume.tags_in_use()
    return to_remove(deployment, contents, in_use | held())
