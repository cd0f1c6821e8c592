"""Waiting for items of a Queue: takers, each of whom gets an item that no other gets, and watchers, who only look.

Flows in: who waits, and what arrived. Flows out: wakes. What is in a Queue is ``state.queues``.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

Place = tuple[str, bytes]
"""A Queue's id and a partition."""


class Arrivals:
    """Those who wait, by place; a taker is woken in the order of coming."""

    def __init__(self) -> None:
        self._takers: defaultdict[Place, deque[asyncio.Future[None]]] = defaultdict(deque)
        self._watchers: defaultdict[Place, set[asyncio.Future[None]]] = defaultdict(set)

    def arrived(self, place: Place, count: int) -> None:
        """Wake as many takers as there are new items, and every watcher."""
        for watcher in self._watchers.pop(place, ()):
            _wake(watcher)
        takers = self._takers.get(place)
        while takers and count > 0:
            count -= _wake(takers.popleft())
        if not takers:
            self._takers.pop(place, None)

    def closed(self, queue_id: str) -> None:
        """Wake everybody who waits at a Queue that is gone."""
        for place in [place for place in {*self._takers, *self._watchers} if place[0] == queue_id]:
            self.arrived(place, len(self._takers.get(place, ())))

    async def take_turn(self, place: Place) -> None:
        """Return when an item may be there for this taker, who looks then. One who is cancelled passes the item on."""
        waiter = asyncio.get_running_loop().create_future()
        self._takers[place].append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                self.arrived(place, 1)
            raise
        finally:
            if waiter in self._takers.get(place, ()):
                self._takers[place].remove(waiter)
                if not self._takers[place]:
                    del self._takers[place]

    async def watch(self, place: Place) -> None:
        """Return when something arrived."""
        waiter = asyncio.get_running_loop().create_future()
        self._watchers[place].add(waiter)
        try:
            await waiter
        finally:
            watchers = self._watchers.get(place, set())
            watchers.discard(waiter)
            if not watchers:
                self._watchers.pop(place, None)


def _wake(waiter: asyncio.Future[None]) -> bool:
    """Wake one who still waits."""
    if waiter.done():
        return False
    waiter.set_result(None)
    return True
