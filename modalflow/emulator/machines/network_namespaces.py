"""A network of its own for each sandbox: a namespace behind a firewall, prepared ahead, with names and allow-lists.

Flows in: what sandboxes may call. Flows out: ``OwnNetwork``: the namespace their processes run in, sockets inside it.
``network_links`` makes them, in one thread that does nothing else, because it goes from namespace to namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from pyroute2 import NetlinkError

from modalflow.emulator.machines import network_cleanup, network_watch
from modalflow.emulator.machines.name_relay import NameRelay, resolv_conf
from modalflow.emulator.machines.network_links import Links
from modalflow.emulator.machines.networks import OPEN, Access, NetworkIsolation
from modalflow.emulator.machines.server_name_gate import ServerNameGate

_log = logging.getLogger(__name__)
PREPARED = 4
"""Namespaces that wait for a sandbox; making one takes some 10 ms."""
Result = TypeVar("Result")


class OwnNetworks:
    """All networks of one emulator. ``folder`` is for the ``resolv.conf`` that its containers are shown."""

    def __init__(self, network_range: ipaddress.IPv4Network, folder: Path) -> None:
        self._links = Links(network_range)
        self._resolv_conf = folder / "resolv.conf"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="emulator-networks")
        self._access: dict[str, Access] = {}
        self._ready: deque[int] = deque()
        self._free: deque[int] = deque()
        self._highest = 0
        self._filling: asyncio.Task[None] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._names = NameRelay(self._access.get)
        self._gate = ServerNameGate(self._access.get, lambda: self._run(self._links.own_addresses))
        self._outside = ""

    @property
    def isolation(self) -> NetworkIsolation:
        """What is in force."""
        outside = f"(the outside cannot be reached: {self._outside})" if self._outside else "and the outside by NAT"
        words = (
            f"each sandbox has its own, with its own localhost; it reaches tunnels (at {self.host}), name servers {outside}, "
            "but no port of this machine and no other sandbox; network rules are enforced"
        )
        return NetworkIsolation(name="own", words=words)

    @property
    def host(self) -> str:
        """The address of this machine that sandboxes and this machine reach tunnels at."""
        return str(self._links.gateway)

    async def _run(self, function: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except NetlinkError as error:
            raise OSError(error.code, f"network: {error}") from error

    async def start(self) -> None:
        """Claim addresses, protect this machine, listen for names, prepare some namespaces. ``OSError`` if that cannot be."""
        self._outside = await self._run(self._links.start)
        # A program of its own outlives an emulator that is killed, and then removes what it left.
        self._watcher = await asyncio.to_thread(_watch, self._links.emulator_id)
        await self._names.start(self.host)
        await self._gate.start(self.host)
        self._resolv_conf.write_text(resolv_conf(self._names.text, self.host))
        self._resolv_conf.chmod(0o644)
        self._fill()

    async def stop(self) -> None:
        """Remove everything."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        await self._names.stop()
        await self._gate.stop()
        try:
            await self._run(self._links.stop)
            if self._watcher is not None:
                self._watcher.kill()  # there is nothing left for it to do
        finally:
            self._thread.shutdown(wait=False)
            if self._watcher is not None:
                await asyncio.to_thread(self._watcher.communicate)

    def network(self, access: Access) -> OwnNetwork:
        """Return a new network."""
        return OwnNetwork(self, access)

    # -- for OwnNetwork

    async def take(self, access: Access) -> int:
        """Return the number of a namespace with those rules in force. ``OSError`` if there is no address left."""
        number = self._ready.popleft() if self._ready else await self._make()
        self._fill()
        try:
            await self.limit(number, access, fresh=True)
        except BaseException:
            await self.give_back(number)
            raise
        return number

    async def limit(self, number: int, access: Access, *, fresh: bool = False) -> None:
        """Put rules in force."""
        self._access[str(self._links.address(number))] = access
        if not (fresh and access.is_open):
            await self._run(self._links.limit, number, access, self._gate.port)

    async def give_back(self, number: int) -> None:
        """Remove a namespace."""
        self._access.pop(str(self._links.address(number)), None)
        await self._run(self._links.remove, number)
        self._free.append(number)

    async def socket(self, number: int, family: socket.AddressFamily) -> socket.socket:
        """Return a TCP socket inside."""
        return await self._run(self._links.socket, number, family)

    def namespace(self, number: int) -> Path:
        """Return where a namespace is."""
        return self._links.namespace(number)

    @property
    def resolv_conf(self) -> Path:
        """The file that containers are shown."""
        return self._resolv_conf

    # -- the prepared ones

    async def _make(self) -> int:
        if self._highest < self._links.room:
            number, self._highest = self._highest, self._highest + 1
        elif self._free:  # the one that has been free for longest
            number = self._free.popleft()
        else:
            raise OSError(f"network: all {self._links.room} addresses are taken; wait for a sandbox to end")
        try:
            await self._run(self._links.make, number)
        except BaseException:
            with contextlib.suppress(OSError):
                await self._run(self._links.remove, number)
            self._free.append(number)
            raise
        return number

    def _fill(self) -> None:
        if self._filling is None or self._filling.done():
            self._filling = asyncio.get_running_loop().create_task(self._prepare(), name="prepared networks")

    async def _prepare(self) -> None:
        while len(self._ready) < PREPARED:
            try:
                self._ready.append(await self._make())
            except OSError as error:  # a sandbox that needs one will be told
                _log.debug("no network prepared: %s", error)
                return


class OwnNetwork:
    """One network: named first, then opened, then closed."""

    def __init__(self, networks: OwnNetworks, access: Access = OPEN) -> None:
        self._networks = networks
        self._access = access
        self._number: int | None = None
        self._closed = False

    @property
    def namespace(self) -> Path | None:
        """The namespace, while it is open."""
        return None if self._number is None else self._networks.namespace(self._number)

    @property
    def resolv_conf(self) -> Path | None:
        """The file to be shown at ``/etc/resolv.conf``."""
        return self._networks.resolv_conf

    async def open(self) -> None:
        """Take a prepared namespace, or wait for one to be made."""
        number = await self._networks.take(self._access)
        if self._closed:
            await self._networks.give_back(number)
            raise OSError("the network was closed while it was being opened")
        self._number = number

    async def socket(self, family: socket.AddressFamily) -> socket.socket:
        """Return a TCP socket inside. ``ConnectionRefusedError`` if it is not open."""
        if self._number is None:
            raise ConnectionRefusedError("the sandbox does not run")
        return await self._networks.socket(self._number, family)

    async def set_access(self, access: Access) -> None:
        """Put new rules in force; connections that they forbid are cut."""
        self._access = access
        if self._number is not None:
            await self._networks.limit(self._number, access)

    async def close(self) -> None:
        """Remove it."""
        self._closed = True
        number, self._number = self._number, None
        if number is not None:
            try:
                await self._networks.give_back(number)
            except OSError:
                _log.exception("a network namespace could not be removed")


def _watch(emulator_id: str) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-I", "-S", network_watch.__file__, network_cleanup.__file__, emulator_id]
    return subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
