"""The program of a relay's sandbox: an SSH server that does one thing, to have its port for tasks led to a scheduler.

Sent as the argument of ``python -c`` to an image with asyncssh and nothing of ours. Flows in: ``MODALFLOW_RELAY`` (JSON: this
relay's private key, the schedulers' public one, ports, address to listen on), taken out of the environment at once. It keeps no
state and sees what passes: it is as trusted as the sandboxes of the tasks. It ends by itself when no scheduler was there for
``idle`` seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import asyncssh

VARIABLE = "MODALFLOW_RELAY"
MOST_STRANGERS = 32
"""Connections that have not logged in yet, at the same time."""
LOGIN_SECONDS = 10
NEW_A_SECOND = 200.0
NEW_AT_ONCE = 1000.0
"""Connections to the port for tasks: more are closed, so that a flood does not reach the schedulers."""


class Station:
    """What the connections of one relay share."""

    def __init__(self, task_host: str, task_port: int) -> None:
        self.task_host = task_host
        self.task_port = task_port
        self.strangers: set[Any] = set()
        self.schedulers: set[Any] = set()
        self.empty_since = time.monotonic()
        self._level = NEW_AT_ONCE
        self._at = time.monotonic()

    def admits(self, *_: object) -> bool:
        """Whether one more connection of a task is taken now."""
        now = time.monotonic()
        self._level = min(NEW_AT_ONCE, self._level + (now - self._at) * NEW_A_SECOND)
        self._at = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True

    def left(self, connection: Any) -> None:
        """Note the end of a connection."""
        self.strangers.discard(connection)
        if connection in self.schedulers:
            self.schedulers.discard(connection)
            self.empty_since = time.monotonic()


class Door(asyncssh.SSHServer):
    """One connection: a key or nothing, a forward of one port or nothing."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._connection: Any = None

    def connection_made(self, conn: Any) -> None:
        """Count it; a flood of strangers is cut off."""
        self._connection = conn
        if len(self._station.strangers) >= MOST_STRANGERS:
            conn.abort()
        else:
            self._station.strangers.add(conn)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the server's signature
        """Count it out."""
        self._station.left(self._connection)

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002 - the key says who it is
        """Nobody comes in without a key."""
        return True

    def auth_completed(self) -> None:
        """It is a scheduler."""
        self._station.strangers.discard(self._connection)
        self._station.schedulers.add(self._connection)

    def server_requested(self, listen_host: str, listen_port: int) -> Any:
        """Lead the port for tasks to this scheduler, unless another has it: then it cannot be bound, and is refused."""
        station = self._station
        if listen_host or listen_port != station.task_port:
            return False
        return self._lead()

    async def _lead(self) -> Any:
        station = self._station
        conn = self._connection
        return await conn.forward_local_port(
            station.task_host, station.task_port, "", station.task_port, accept_handler=station.admits
        )


async def main() -> None:
    """Serve until nobody needs it any more."""
    told = json.loads(os.environ.pop(VARIABLE))
    station = Station(told["host"], told["task_port"])
    await asyncssh.listen(
        told["host"],
        told["ssh_port"],
        server_factory=lambda: Door(station),
        server_host_keys=[asyncssh.import_private_key(told["host_key"])],
        authorized_client_keys=asyncssh.import_authorized_keys("no-pty,no-agent-forwarding,no-x11-forwarding " + told["client"]),
        agent_forwarding=False,
        allow_pty=False,
        compression_algs=["none"],
        login_timeout=LOGIN_SECONDS,
        keepalive_interval=5,
        keepalive_count_max=3,
        reuse_address=True,
    )
    print("modalflow: the relay is up", flush=True)
    while station.schedulers or time.monotonic() - station.empty_since < told["idle"]:  # noqa: ASYNC110 - time
        await asyncio.sleep(1)
    print(f"modalflow: no scheduler was here for {told['idle']} s; the relay ends", flush=True)


if __name__ == "__main__":
    asyncssh.set_log_level("WARNING")
    try:
        asyncio.run(main())
    except OSError as error:
        sys.exit(f"modalflow: the relay cannot listen: {error}")
