"""The firewall rules of sandboxes' networks, as nftables takes them through ``pyroute2``.

Flows in: names, addresses, an ``Access``. Flows out: a table on this machine that protects it from sandboxes, and a table
inside each namespace that has rules of its own. Blocking; ``network_links`` calls it.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pyroute2.nftables.expressions import genex, verdict
from pyroute2.nftables.main import NFTables

from modalflow.emulator.machines.network_cleanup import INET
from modalflow.emulator.machines.networks import Access

Expression = dict[str, Any]
V4Network = ipaddress.IPv4Network
ACCEPT, DROP = 1, 0
_TCP = socket.IPPROTO_TCP
_UDP = socket.IPPROTO_UDP
_EQUAL, _DIFFERENT = 0, 1
_SOURCE, _DESTINATION = 12, 16
"""Offsets in an IPv4 header."""
_ESTABLISHED_OR_RELATED = (2 | 4).to_bytes(4, "little")
DNS_PORT = 53


def _data(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _compare(value: bytes, operator: int = _EQUAL) -> Expression:
    return genex("cmp", {"sreg": 1, "op": operator, "data": _data(value)})  # type: ignore[no-any-return]


def _meta(key: int, value: bytes, operator: int = _EQUAL) -> list[Expression]:
    return [genex("meta", {"key": key, "dreg": 1}), _compare(value, operator)]


def coming_from(name: str, operator: int = _EQUAL) -> list[Expression]:
    """Match the link that a packet came in by: a whole name ends with a NUL, anything else is a beginning."""
    return _meta(6, name.encode(), operator)


def going_to(name: str, operator: int = _EQUAL) -> list[Expression]:
    """Match the link that a packet goes out by."""
    return _meta(7, name.encode(), operator)


def _ipv4() -> list[Expression]:
    return _meta(15, bytes([2]))


def _ipv6() -> list[Expression]:
    return _meta(15, bytes([10]))


def _protocol(number: int) -> list[Expression]:
    return _meta(16, bytes([number]))


def _address(offset: int, network: V4Network, operator: int = _EQUAL) -> list[Expression]:
    mask = {"sreg": 1, "dreg": 1, "len": 4, "mask": _data(network.netmask.packed), "xor": _data(bytes(4))}
    return [
        *_ipv4(),
        genex("payload", {"dreg": 1, "base": 1, "offset": offset, "len": 4}),
        genex("bitwise", mask),
        _compare(network.network_address.packed, operator),
    ]


def _to(network: V4Network) -> list[Expression]:
    return _address(_DESTINATION, network)


def _to_port(protocol: int, port: int) -> list[Expression]:
    return [
        *_protocol(protocol),
        genex("payload", {"dreg": 1, "base": 2, "offset": 2, "len": 2}),
        _compare(port.to_bytes(2, "big")),
    ]


def _known_connection() -> list[Expression]:
    mask = {"sreg": 1, "dreg": 1, "len": 4, "mask": _data(_ESTABLISHED_OR_RELATED), "xor": _data(bytes(4))}
    return [genex("ct", {"key": 0, "dreg": 1}), genex("bitwise", mask), _compare(bytes(4), _DIFFERENT)]


def _bound_to_its_address() -> list[Expression]:
    """Match what goes to a socket that is bound to this very address, not to all of them."""
    return [genex("socket", {"key": 2, "dreg": 1}), _compare(bytes(1))]


def _say(code: int) -> list[Expression]:
    return list(verdict(code=code))


def _refuse_tcp() -> list[Expression]:
    return [*_protocol(_TCP), genex("reject", {"type": 1, "icmp_code": 0})]


def _refuse() -> list[Expression]:
    return [genex("reject", {"type": 2, "icmp_code": 3})]


@dataclass(frozen=True, slots=True)
class Table:
    """One table, being written."""

    firewall: NFTables
    name: str

    def chain(self, name: str, hook: str, kind: str, priority: int, *rules: Sequence[Expression]) -> None:
        """Add a chain that lets pass what none of its rules catches."""
        self.firewall.chain("add", table=self.name, name=name, hook=hook, type=kind, priority=priority, policy=ACCEPT)
        for rule in rules:
            self.firewall.rule("add", table=self.name, chain=name, expressions=(rule,))


def protect_machine(name: str, links: str, gateway: ipaddress.IPv4Address, addresses: V4Network) -> None:
    """Write this machine's table. ``links``: how the names of the sandboxes' links begin; ``addresses``: theirs.

    A sandbox reaches here only sockets that are bound to ``gateway`` itself: the emulator's. Others reach neither ``gateway`` nor
    a sandbox, and a sandbox no other sandbox. What leaves the machine gets the machine's address.
    """
    firewall = NFTables(nfgen_family=INET)
    try:
        firewall.table("add", name=name)
        table = Table(firewall, name)
        here = V4Network(gateway)
        inside = coming_from(links)
        table.chain(
            "input", "input", "filter", -10,
            [*inside, *_known_connection(), *_say(ACCEPT)],
            [*inside, *_to(here), *_bound_to_its_address(), *_say(ACCEPT)],
            [*inside, *_refuse_tcp()],
            [*inside, *_refuse()],
            [*coming_from("lo\0", _DIFFERENT), *_to(here), *_say(DROP)],
        )  # fmt: skip
        table.chain(
            "forward", "forward", "filter", -10,
            [*inside, *going_to(links), *_refuse()],
            [*inside, *_ipv6(), *_say(DROP)],
            [*inside, *_address(_SOURCE, addresses, _DIFFERENT), *_say(DROP)],
            [*going_to(links), *_known_connection(), *_say(ACCEPT)],
            [*going_to(links), *_say(DROP)],
        )  # fmt: skip
        table.chain(
            "postrouting", "postrouting", "nat", 100,
            [*_address(_SOURCE, addresses), *going_to(links, _DIFFERENT), *going_to("lo\0", _DIFFERENT), genex("masq", {})],
        )  # fmt: skip
    finally:
        firewall.close()


def limit_sandbox(access: Access, gateway: ipaddress.IPv4Address, gate_port: int) -> None:
    """Put the rules of the namespace that this thread is in in force, in place of those before; packets of known connections too.

    What is allowed by domain goes to ``gate_port`` of the gateway, which looks at the server's name.
    """
    firewall = NFTables(nfgen_family=INET)
    try:
        firewall.table("add", name="sandbox")  # so that it can be removed with all that is in it
        firewall.table("del", name="sandbox")
        if access.is_open:
            return
        firewall.table("add", name="sandbox")
        table = Table(firewall, "sandbox")
        here = V4Network(gateway)
        allowed = [one for one in access.cidrs or () if isinstance(one, V4Network)]
        names = [[*_to(here), *_to_port(number, DNS_PORT), *_say(ACCEPT)] for number in (_UDP, _TCP)]
        table.chain(
            "output", "output", "filter", 0,
            [*going_to("lo\0"), *_say(ACCEPT)],
            *([*_to(one), *_say(ACCEPT)] for one in allowed),
            *(names if access.cidrs or access.domains else []),
            *([[*_to(here), *_to_port(_TCP, gate_port), *_say(ACCEPT)]] if access.domains else []),
            _refuse_tcp(),
            _refuse(),
        )  # fmt: skip
        if access.domains:
            to_gate = [
                genex("immediate", {"dreg": 1, "data": _data(gateway.packed)}),
                genex("immediate", {"dreg": 2, "data": _data(gate_port.to_bytes(2, "big"))}),
                genex("nat", {"type": 1, "family": 2, "reg_addr_min": 1, "reg_proto_min": 2}),
            ]
            table.chain(
                "redirect", "output", "nat", -100,
                *([*_to(one), *_say(ACCEPT)] for one in allowed),
                [*_ipv4(), *_to_port(_TCP, 443), *to_gate],
            )  # fmt: skip
    finally:
        firewall.close()


def forwarding_is_blocked() -> str:
    """Return the name of a chain of others that drops what it does not know in the forward hook; empty if there is none."""
    found = ""
    for family in (INET, 2):
        firewall = NFTables(nfgen_family=family)
        try:
            for chain in firewall.get_chains():
                hook = chain.get_attr("NFTA_CHAIN_HOOK")
                drops = str(chain.get_attr("NFTA_CHAIN_POLICY")) in ("NF_DROP", "0")
                if hook is not None and hook.get_attr("NFTA_HOOK_HOOKNUM") == 2 and drops:  # noqa: PLR2004 -- NF_INET_FORWARD
                    found = f"{chain.get_attr('NFTA_CHAIN_TABLE')} {chain.get_attr('NFTA_CHAIN_NAME')}"
        finally:
            firewall.close()
    return found
