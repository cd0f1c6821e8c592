"""Which networks an emulator gives its sandboxes: their own where the machine allows it, else this machine's.

Flows in: what was asked for. Flows out: ``Networks`` that are known to work once they have been started.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import replace
from pathlib import Path

from modalflow.emulator.machines.networks import Access, HostNetworks, Network, NetworkIsolation, Networks


class NetworkUnavailableError(OSError):
    """Networks of their own were asked for and cannot be had here; the text says why."""


class ChosenNetworks:
    """Their own networks if they can be had, or must be; decided at start."""

    def __init__(self, wanted: str, network_range: ipaddress.IPv4Network, folder: Path, host: str, *, containers: bool) -> None:
        """``wanted``: ``auto``, ``own`` or ``host``. ``host``: where tunnels listen if sandboxes share this machine's network."""
        self._wanted = wanted
        self._range = network_range
        self._folder = folder
        self._containers = containers
        self._chosen: Networks = HostNetworks(host)
        self._reason = ""

    @property
    def isolation(self) -> NetworkIsolation:
        """What is in force."""
        found = self._chosen.isolation
        return replace(found, words=f"{found.words} (no networks of their own here: {self._reason})") if self._reason else found

    @property
    def host(self) -> str:
        """Where tunnels are."""
        return self._chosen.host

    async def start(self) -> None:
        """Decide. ``NetworkUnavailableError`` if ``own`` was asked for and cannot be had."""
        if self._wanted == "host" or (self._wanted == "auto" and not self._containers):
            return
        try:
            self._chosen = await self._own()
        except (OSError, ImportError) as error:
            if self._wanted == "own":
                raise NetworkUnavailableError(f"network: none of its own here: {error}. Write host, or auto") from error
            self._reason = str(error)

    async def _own(self) -> Networks:
        if not self._containers:
            raise OSError("sandboxes are not containers")
        if sys.platform != "linux":
            raise OSError("this is not Linux")
        # Only here: what it imports exists on Linux alone.
        from modalflow.emulator.machines.network_namespaces import OwnNetworks  # noqa: PLC0415

        own = OwnNetworks(self._range, self._folder)
        try:
            await own.start()
        except BaseException:
            await own.stop()
            raise
        return own

    async def stop(self) -> None:
        """Remove everything."""
        await self._chosen.stop()

    def network(self, access: Access) -> Network:
        """Return a new network."""
        return self._chosen.network(access)
