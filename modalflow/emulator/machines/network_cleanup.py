"""Removing what the networks of an emulator left on this machine, also of one that was killed.

Flows in: an emulator's network id. Flows out: nothing of that id is left: namespaces, links, the firewall table, the address, the
forwarding that was switched on. ``network_watch`` runs it as a program, which imports nothing of ours, when the emulator is gone;
``network_links`` does it at stop, and at start for others that are gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns
from pyroute2.nftables.main import NFTables

PREFIX = "me"
"""Of every name: ``me<6 hex>`` is the table, ``me<6 hex>-<n>`` a namespace, ``me<6 hex>x<n>`` a link."""
_GROUPS = 0x6D000000
INET = 1
_NAME = re.compile(rf"{PREFIX}([0-9a-f]{{6}})(?:[-x]\d+)?")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_SWITCHED = Path("/run/modalflow-emulator-ip-forward")
"""Exists while an emulator has switched forwarding on; flocked while it is decided."""


def claim(emulator_id: str) -> socket.socket | None:
    """Hold an id for this process as long as the socket is open; ``None`` if another process holds it."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0modalflow-emulator-{emulator_id}")
    except OSError:
        held.close()
        return None
    return held


def group_of(emulator_id: str) -> int:
    """Return the number that all links of an emulator carry, by which the kernel removes them together."""
    return _GROUPS | int(emulator_id, 16)


def remove_all(emulator_id: str) -> None:
    """Remove everything of that id. Blocking."""
    name = PREFIX + emulator_id
    with IPRoute() as routes:
        with contextlib.suppress(NetlinkError):  # there is none
            routes.link("del", group=group_of(emulator_id))
        for address in list(routes.get_addr(family=socket.AF_INET)):
            if address.get_attr("IFA_LABEL") == f"lo:{name}":
                with contextlib.suppress(NetlinkError):
                    routes.addr("del", index=address["index"], address=address.get_attr("IFA_ADDRESS"), prefixlen=32)
    for namespace in netns.listnetns():
        if namespace.startswith(f"{name}-"):
            remove_namespace(namespace)
    remove_table(name)
    switch_forwarding_back(emulator_id)


def remove_namespace(name: str) -> None:
    """Remove a namespace's name; it ends with its last process."""
    with contextlib.suppress(OSError):
        netns.remove(name)


def remove_table(name: str) -> None:
    """Remove a firewall table, if it is there."""
    firewall = NFTables(nfgen_family=INET)
    try:
        with contextlib.suppress(NetlinkError):
            firewall.table("del", name=name)
    finally:
        firewall.close()


def remove_leftovers() -> None:
    """Remove what emulators left that are gone. Blocking."""
    for found in sorted(_ids()):
        held = claim(found)
        if held is not None:
            with held:
                remove_all(found)


def _ids() -> set[str]:
    names = list(netns.listnetns())
    with IPRoute() as routes:
        names += [str(link.get_attr("IFLA_IFNAME")) for link in routes.get_links()]
        labels = [str(address.get_attr("IFA_LABEL")) for address in routes.get_addr(family=socket.AF_INET)]
        names += [label.removeprefix("lo:") for label in labels if label.startswith("lo:")]
    firewall = NFTables(nfgen_family=INET)
    try:
        names += [str(table.get_attr("NFTA_TABLE_NAME")) for table in firewall.get_tables()]
    finally:
        firewall.close()
    return {match[1] for name in names if (match := _NAME.fullmatch(name))}


# -- forwarding, which all emulators of a machine share


@contextlib.contextmanager
def _deciding() -> Iterator[int]:
    """Hold the file that says who switched forwarding on; yields its descriptor. It goes when it names nobody."""
    fd = _locked()
    try:
        yield fd
        if not _users(fd):
            _SWITCHED.unlink()
    finally:
        os.close(fd)


def _locked() -> int:
    """Open and lock the file; another emulator may remove it while we wait for the lock, and then it is no longer the file."""
    while True:
        fd = os.open(_SWITCHED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), _SWITCHED.stat()):
                return fd
        os.close(fd)


def _users(fd: int) -> set[str]:
    return set(os.pread(fd, 65536, 0).decode().split())


def switch_forwarding_on(emulator_id: str) -> None:
    """Switch IPv4 forwarding on, if it is off, and note who needs it."""
    with _deciding() as fd:
        users = _users(fd)
        if not users and _FORWARDING.read_text().strip() == "1":
            return  # it was on before any of us
        _FORWARDING.write_text("1")
        _note(fd, users | {emulator_id})


def switch_forwarding_back(emulator_id: str) -> None:
    """Switch forwarding off again if emulators switched it on and this is the last of them."""
    if not _SWITCHED.exists():
        return
    with _deciding() as fd:
        users = _users(fd)
        if emulator_id in users:
            users.remove(emulator_id)
            if not users:
                _FORWARDING.write_text("0")
            _note(fd, users)


def _note(fd: int, users: set[str]) -> None:
    os.ftruncate(fd, 0)
    os.pwrite(fd, " ".join(sorted(users)).encode(), 0)


if __name__ == "__main__":
    remove_all(sys.argv[1])
