"""A door on this sandbox's own localhost that leads by the relay to the execution API.

Part of the sandbox's program, see ``bootstrap``. Flows in: the ticket that came with the workload: a pass, and where relays
are. Flows out: an address for Airflow, ``http://127.0.0.1:PORT/execution/``, behind which a small process of its own carries
bytes to a relay that proved to lead to our scheduler. The pass is in no address, so no log can hold it. When a relay is gone
the next is tried; where they are is asked each minute, and ``telling`` writes it to ``RELAYS_PLACE`` when a relay was lost.
Must run on Python 3.10.
"""

# Imports stand where they are used: only the process of its own needs them.

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

RELAYS_PLACE = "/tmp/modalflow-relays"  # noqa: S108 - addresses only; a false relay cannot prove itself
API_URL = "AIRFLOW__CORE__EXECUTION_API_SERVER_URL"
API_TIMEOUT = "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT"
TICKET = "modalflow_relay"
ASK_EVERY = 60.0
REACH_SECONDS = 5.0
LOOK_FOR_PARENT = 2.0
DIE_WITH_PARENT, SET_DUMPABLE = 1, 4
"""Of Linux' prctl."""


def go_by_relay(workload: dict[str, Any], say: Callable[[str, str], None]) -> None:
    """Open the door if the workload came with a ticket, and have Airflow use it. Call before Airflow is imported."""
    ticket = workload.pop(TICKET, None)
    if ticket is None:
        return
    import signal
    import socket

    door = socket.create_server(("127.0.0.1", 0), backlog=128)
    parent = os.getpid()
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)  # the supervisor reports the end through here
            stay_with_parent()
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nothing, fd)
            carry(door, ticket, parent)
        finally:
            os._exit(0)
    os.environ[API_URL] = f"http://127.0.0.1:{door.getsockname()[1]}/execution/"
    say("info", "the execution API is reached by the relay")
    door.close()


def stay_with_parent() -> None:
    """End when the sandbox's program ends, and let no other process of this user read the pass from memory."""
    import signal

    with contextlib.suppress(Exception):  # not Linux, or no ctypes: ``carry`` looks for its parent too
        import ctypes

        libc = ctypes.CDLL(None)
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        libc.prctl(SET_DUMPABLE, 0)


def carry(door: Any, ticket: Any, parent: int) -> None:
    """Carry connections until the parent has ended."""
    import asyncio

    async def main() -> None:
        way = Way(ticket)
        server = await asyncio.start_server(way.serve, sock=door)
        asking = asyncio.ensure_future(way.ask_again_and_again())
        while os.getppid() == parent:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(LOOK_FOR_PARENT)
        asking.cancel()
        server.close()

    asyncio.run(main())


class Way:
    """The way to the scheduler: where relays are, and how one is told from a false one."""

    def __init__(self, ticket: Any) -> None:
        import ssl

        self.name = str(ticket["id"])
        self.key = bytes.fromhex(ticket["key"])
        self.known = [str(one) for one in ticket["addresses"]]
        self.told = 0
        self.place = (os.environ.get("MODAL_EMULATOR_ROOT") or "") + RELAYS_PLACE
        # Airflow's client gives up after this; a request must not arrive after it was given up and repeated.
        self.patience = max(1.0, float(os.environ.get(API_TIMEOUT) or 5.0) - 1.0)
        self.tls = ssl.create_default_context()
        with contextlib.suppress(ImportError, OSError):
            import certifi

            self.tls.load_verify_locations(certifi.where())

    def addresses(self) -> list[str]:
        """Return where to try, the best first; what ``telling`` wrote comes before what was known."""
        with contextlib.suppress(OSError, ValueError):
            at = os.stat(self.place).st_mtime_ns
            if at != self.told:
                with open(self.place, encoding="ascii") as file:
                    self.learn(file.read().split())
                self.told = at
        return self.known

    def learn(self, found: list[str]) -> None:
        """Put addresses first."""
        self.known = (found + [one for one in self.known if one not in found])[:8]

    async def serve(self, reader: Any, writer: Any) -> None:
        """Carry one connection of Airflow's client; closed without an answer if no relay is reached, which has it tried again."""
        import asyncio

        try:
            found = await self.reach("http", self.patience)
            if found is not None:
                try:
                    await asyncio.gather(copy(reader, found[1]), copy(found[0], writer))
                finally:
                    found[1].close()
        finally:
            writer.close()

    async def reach(self, verb: str, patience: float) -> Any:
        """Return reader and writer of a connection to a relay that proved itself, or ``None`` after ``patience`` seconds."""
        import asyncio

        until = time.monotonic() + patience
        while True:
            for address in list(self.addresses()):
                left = min(REACH_SECONDS, until - time.monotonic())
                if left <= 0:
                    return None
                found = await self.try_one(address, verb, left)
                if found is not None:
                    self.learn([address])
                    return found
            if time.monotonic() + 0.3 >= until:
                return None
            await asyncio.sleep(0.3)

    async def try_one(self, address: str, verb: str, seconds: float) -> Any:
        """Connect to one relay, prove the pass, and have it prove itself before a request is sent."""
        import asyncio

        host, _, port = address.rpartition(":")
        writer = None
        try:
            connecting = asyncio.open_connection(host, int(port), ssl=self.tls)
            reader, writer = await asyncio.wait_for(connecting, seconds)
            nonce = os.urandom(16).hex()
            hello = f"modalflow1 {verb} {self.name} {nonce} {self.proof('hello', verb, self.name, nonce)}\n"
            writer.write(hello.encode())
            answer = await asyncio.wait_for(reader.readline(), seconds)
            if same(answer, f"ok {self.proof('answer', nonce)}\n".encode()):
                return reader, writer
        except (OSError, ValueError, asyncio.TimeoutError):  # noqa: UP041 - not the built-in one before Python 3.11
            pass
        if writer is not None:
            writer.transport.abort()
        return None

    def proof(self, *said: str) -> str:
        """MAC of what is said, by the secret of the pass."""
        import hmac

        return hmac.new(self.key, "|".join(said).encode(), "sha256").hexdigest()

    async def ask_again_and_again(self) -> None:
        """Ask each minute where relays are: a successor is known before its elder ends."""
        import asyncio
        import json

        while True:
            await asyncio.sleep(ASK_EVERY)
            found = await self.reach("relays", REACH_SECONDS)
            if found is not None:
                with contextlib.suppress(OSError, ValueError, asyncio.TimeoutError):
                    said = json.loads(await asyncio.wait_for(found[0].readline(), REACH_SECONDS))
                    self.learn([str(one) for one in said])
                found[1].close()


def same(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    import hmac

    return hmac.compare_digest(one, other)


async def copy(reader: Any, writer: Any) -> None:
    """Carry bytes one way to their end, then end the other way too."""
    try:
        while part := await reader.read(65536):
            writer.write(part)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()
