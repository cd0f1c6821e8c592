"""One scheduler's hold on one relay: connect, hold or stand by, and again when it breaks.

In: the relay's mark and sandbox. Out: ``seen()`` for ``policy``, and word to ``service`` whenever something changes. ``attach``
does it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import Awaitable, Callable

from modalflow.launch.backoff import pause_before
from modalflow.launch.gateway import GatewayError
from modalflow.relay.attach import ATTACH_ERRORS, Endpoint, connect, serve
from modalflow.relay.keys import Keys
from modalflow.relay.policy import Mark, Seen
from modalflow.relay.seam import Relays

log = logging.getLogger(__name__)

LONGEST_PAUSE = 5.0
"""Seconds between two tries at most: tasks wait for it."""
PATIENCE = 10.0
"""Seconds for which a relay that does not answer is not spoken of: it may be starting."""

News = Callable[["Link", "str | None"], None]


class Link:
    """Used on the relay's loop only."""

    def __init__(
        self,
        mark: Mark,
        slot: str,
        sandbox_id: str,
        gateway: Relays,
        keys: Keys,
        context: ssl.SSLContext,
        socket_path: str,
        news: News,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``news`` is called with this link, and with what is wrong or ``None``."""
        self.mark = mark
        self.slot = slot
        self.sandbox_id = sandbox_id
        self.listed = False
        self.met = clock()
        self.serving = False
        self.held = False
        self.starting = True
        self._gateway = gateway
        self._keys = keys
        self._context = context
        self._socket_path = socket_path
        self._news = news
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._unreached: float | None = None
        self._address = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def task(self) -> Awaitable[None]:
        """What runs; to be awaited after ``stop``."""
        return self._task if self._task is not None else asyncio.sleep(0)

    def start(self) -> None:
        """Begin to connect."""
        self._task = asyncio.create_task(self._run(), name=f"modalflow-relay-{self.sandbox_id}")

    def stop(self) -> None:
        """Disconnect."""
        self.serving = self.held = False
        if self._task is not None:
            self._task.cancel()

    def seen(self) -> Seen:
        """What ``policy`` needs to know of it."""
        return Seen(
            mark=self.mark,
            slot=self.slot,
            sandbox_id=self.sandbox_id,
            address=self._address,
            serving=self.serving,
            held=self.held,
            unreached=self._unreached,
        )

    async def _run(self) -> None:
        endpoint: Endpoint | None = None
        failures = 0
        while True:
            try:
                endpoint = endpoint or await self._find()
                connection = await connect(endpoint, self._keys, self._context)
                failures = 0
                try:
                    await serve(connection, endpoint, self._socket_path, self._is_serving)
                finally:
                    connection.abort()
            except (*ATTACH_ERRORS, GatewayError) as error:
                failures += 1
                self._is_lost(error)
            except Exception:
                log.exception("modalflow: relay: the connection to %s met a defect; it is made again", self.sandbox_id)
                failures += 1
            await self._sleep(min(pause_before(max(failures, 1), jitter=self._jitter()), LONGEST_PAUSE))

    async def _find(self) -> Endpoint:
        tunnels = await self._gateway.tunnels(self.sandbox_id)
        if not {self.mark.ssh_port, self.mark.task_port} <= tunnels.keys():
            raise ConnectionError(f"the sandbox {self.sandbox_id} does not have the tunnels that its tag tells of")
        host, port = tunnels[self.mark.ssh_port]
        task_host, task_port = tunnels[self.mark.task_port]
        self._address = f"{task_host}:{task_port}"
        return Endpoint(number=self.mark.number, host=host, port=port, task_port=self.mark.task_port)

    def _is_serving(self, held: bool) -> None:  # noqa: FBT001 - what ``serve`` calls
        self._unreached = None
        self.serving, self.held = True, held
        self.listed = True  # it is up: should a listing not have it later, it is gone
        log.info("modalflow: relay: %s %s", "holding" if held else "standing by for", self.sandbox_id)
        self._news(self, None)

    def _is_lost(self, error: Exception) -> None:
        was_serving = self.serving
        self.serving = self.held = False
        self._unreached = self._unreached or self._clock()
        self.starting = not was_serving and self._clock() - self.met <= PATIENCE
        self._news(self, f"{type(error).__name__}: {error}")
