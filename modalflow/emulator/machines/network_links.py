"""Network namespaces of sandboxes and their links to this machine, made and removed.

Flows in: numbers. Flows out: namespaces at ``/run/netns`` with an address, a way out and a way in. Everything here blocks and
changes the namespace of the thread that runs it: ``network_namespaces`` calls it from one thread that does nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import ipaddress
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from pyroute2 import IPRoute, NetlinkError, netns

from modalflow.emulator.machines import network_cleanup as cleanup
from modalflow.emulator.machines import network_firewall as firewall
from modalflow.emulator.machines.network_requests import Requests
from modalflow.emulator.machines.networks import Access

_CLONE_NEWNET = 0x40000000
SHARE = 21
"""Prefix length of one emulator's share of the range: 2,045 sandboxes at a time."""
_SCOPE_LINK = 253


class Links:
    """All namespaces and links of one emulator, by number."""

    def __init__(self, network_range: ipaddress.IPv4Network) -> None:
        self._range = network_range
        self.emulator_id = ""
        self.gateway = ipaddress.IPv4Address(0)
        self._share = network_range
        self._held: socket.socket | None = None
        self._routes: IPRoute | None = None
        self._requests = Requests()
        self._home = -1

    # -- the whole

    def start(self) -> str:
        """Claim an id and a share of the range, protect this machine; return why the outside cannot be reached, if so.

        ``OSError`` (or ``NetlinkError``) if the rights or the kernel do not allow it.
        """
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        cleanup.remove_leftovers()
        while self._held is None:
            self.emulator_id = secrets.token_hex(3)
            self._held = cleanup.claim(self.emulator_id)
        self._claim_share()
        firewall.protect_machine(self._name, f"{self._name}x", self.gateway, self._share)
        cleanup.switch_forwarding_on(self.emulator_id)
        if not list(self.routes.get_default_routes(family=socket.AF_INET)):
            return "this machine has no default route"
        chain = firewall.forwarding_is_blocked()
        return f"the firewall of this machine (chain {chain}) drops what is forwarded" if chain else ""

    def stop(self) -> None:
        """Remove everything. Safe to call when only a part was made."""
        if self._held is not None:
            cleanup.remove_all(self.emulator_id)
            self._held.close()
            self._held = None
        if self._routes is not None:
            self._routes.close()
            self._routes = None
        self._requests.close()
        if self._home >= 0:
            os.close(self._home)
            self._home = -1

    @property
    def routes(self) -> IPRoute:
        """The connection to the kernel about this machine's links; made by the thread that uses it."""
        if self._routes is None:
            self._routes = IPRoute()
        return self._routes

    @property
    def _name(self) -> str:
        return cleanup.PREFIX + self.emulator_id

    def _claim_share(self) -> None:
        """Take a part of the range that no route or address of this machine lies in, by its first address on the loopback."""
        taken = [_network_of(route) for route in self.routes.get_routes(family=socket.AF_INET)]
        loopback = self.routes.link_lookup(ifname="lo")[0]
        shares = list(self._range.subnets(new_prefix=max(SHARE, self._range.prefixlen)))
        secrets.SystemRandom().shuffle(shares)
        for share in shares:
            if any(one is not None and one.prefixlen and one.overlaps(share) for one in taken):
                continue
            gateway = share.network_address + 1
            try:
                self.routes.addr("add", index=loopback, address=str(gateway), prefixlen=32, label=f"lo:{self._name}")
            except NetlinkError as error:
                if error.code == errno.EEXIST:  # another emulator was faster
                    continue
                raise
            self._share, self.gateway = share, gateway
            return
        raise OSError(f"network_range: no part of {self._range} is free on this machine; name another private range")

    # -- one sandbox

    def namespace(self, number: int) -> Path:
        """Return where a namespace is."""
        return Path(netns.NETNS_RUN_DIR) / f"{self._name}-{number}"

    def address(self, number: int) -> ipaddress.IPv4Address:
        """Return the address of a sandbox."""
        return self._share.network_address + 2 + number

    @property
    def room(self) -> int:
        """How many sandboxes there can be at a time."""
        return self._share.num_addresses - 3

    def make(self, number: int) -> None:
        """Make a namespace, its link, addresses and routes."""
        name, link = self.namespace(number).name, f"{self._name}x{number}"
        _make_namespace(name, self._home)
        fd = os.open(self.namespace(number), os.O_RDONLY | os.O_CLOEXEC)
        group = cleanup.group_of(self.emulator_id)
        address, gateway = str(self.address(number)), str(self.gateway)
        try:
            with self._requests.sent_here() as routes:
                with contextlib.suppress(OSError):  # of an earlier one, whose last data is still on its way
                    routes.link("del", index=socket.if_nametoindex(link))
                routes.link("add", ifname=link, kind="veth", group=group, peer={"ifname": "eth0", "net_ns_fd": fd})
            _set(f"ipv6/conf/{link}/disable_ipv6", "1")
            with self._requests.sent_here() as routes:
                index = socket.if_nametoindex(link)
                routes.addr("add", index=index, address=address, local=gateway, prefixlen=32)
                routes.link("set", index=index, state="up")
            with self._inside(fd), self._requests.sent_here() as routes:
                _set("ipv6/conf/eth0/disable_ipv6", "1")
                _set("ipv4/ip_unprivileged_port_start", "0")
                _set("ipv4/ping_group_range", "0 2147483647")
                index = socket.if_nametoindex("eth0")
                routes.link("set", index=socket.if_nametoindex("lo"), state="up")
                routes.addr("add", index=index, address=address, prefixlen=32)
                routes.link("set", index=index, state="up")
                routes.route("add", dst=f"{gateway}/32", oif=index, scope=_SCOPE_LINK)
                routes.route("add", dst="default", gateway=gateway, oif=index)
        finally:
            os.close(fd)

    def limit(self, number: int, access: Access, gate_port: int) -> None:
        """Put the rules of a sandbox in force."""
        fd = os.open(self.namespace(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._inside(fd):
                firewall.limit_sandbox(access, self.gateway, gate_port)
        finally:
            os.close(fd)

    def socket(self, number: int, family: socket.AddressFamily) -> socket.socket:
        """Return a TCP socket inside a namespace."""
        fd = os.open(self.namespace(number), os.O_RDONLY | os.O_CLOEXEC)
        try:
            with self._inside(fd):
                return socket.socket(family, socket.SOCK_STREAM)
        finally:
            os.close(fd)

    def remove(self, number: int) -> None:
        """Remove a namespace; the kernel takes the link along, many at once, when the last socket in it is closed.

        To have the link removed here would have everybody wait for the kernel's grace periods, 20 ms each.
        """
        cleanup.remove_namespace(self.namespace(number).name)

    def own_addresses(self) -> set[str]:
        """Return all addresses of this machine."""
        return {str(one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")) for one in self.routes.get_addr()}

    @contextlib.contextmanager
    def _inside(self, fd: int) -> Iterator[None]:
        netns.setns(fd)
        try:
            yield
        finally:
            netns.setns(self._home)


def _make_namespace(name: str, home: int) -> None:
    """Make a namespace by this thread, which goes home again. ``pyroute2``'s own ``create`` forks, 40 ms each."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")
    try:
        netns.attach(name, "thread-self")
    finally:
        netns.setns(home)


def _set(key: str, value: str) -> None:
    """Set a kernel variable of the namespace that this thread is in. One that this kernel lacks is left alone."""
    with contextlib.suppress(FileNotFoundError):
        Path("/proc/sys/net", key).write_text(value)


def _network_of(route: object) -> ipaddress.IPv4Network | None:
    destination = route.get_attr("RTA_DST")  # type: ignore[attr-defined]
    return None if destination is None else ipaddress.IPv4Network((destination, route["dst_len"]), strict=False)  # type: ignore[index]
