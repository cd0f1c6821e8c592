"""What the network part of a sandbox's definition may say, and how tunnels look on the wire.

Flows in: definitions, open tunnels. Flows out: refusals, warnings, messages. ``sandbox_create`` and ``tunnels`` use it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.core import Core
from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.machines.networks import Access, NetworkAccessError, access_of, networks_of
from modalflow.emulator.machines.tunnels import Tunnel
from modalflow.emulator.wire import Call, fail

_MAX_PORTS = 64
NOT_ENFORCED = (
    "modalflow emulator: network rules ({}) are recorded but not enforced: sandboxes share this machine's network "
    "(isolation 'process', or --network host)"
)


def check_network(call: Call, definition: api_pb2.Sandbox, *, enforced: bool) -> None:
    """Refuse what cannot be; warn the caller of rules that are not enforced here."""
    try:
        access = access_of(definition)
        networks_of(definition.inbound_cidr_allowlist)
    except NetworkAccessError as error:
        fail(Status.INVALID_ARGUMENT, str(error))
    ports = [spec.port for spec in definition.open_ports.ports]
    if any(not 1 <= port <= 65535 for port in ports):  # noqa: PLR2004 -- ports
        fail(Status.INVALID_ARGUMENT, f"Invalid port {ports}: expected 1 to 65535")
    if len(set(ports)) != len(ports) or len(ports) > _MAX_PORTS:
        fail(Status.INVALID_ARGUMENT, f"Ports must differ and be at most {_MAX_PORTS}, got {ports}")
    if definition.HasField("experimental_outbound_policy") or definition.HasField("outbound_policy"):
        fail(Status.UNIMPLEMENTED, "Outbound policies (replaced headers) are not implemented by the modalflow emulator")
    if not enforced:
        warn_unenforced(call, access)


def warn_unenforced(call: Call, access: Access) -> None:
    """Have the client print that rules are not enforced, if there are any."""
    if not access.is_open:
        rules = "block_network" if not (access.cidrs or access.domains) else "outbound allow-list"
        call.warnings.append(NOT_ENFORCED.format(rules))


async def opened_ports(core: Core, machine: Machine) -> Sequence[Tunnel]:
    """Open the ports of a sandbox that was just launched; RESOURCE_EXHAUSTED, and its end, if this machine has none left."""
    try:
        return await core.ingress.open(machine.sandbox.task_id, machine.network, machine.definition, machine.activity)
    except OSError as error:
        core.sandboxes.terminate(machine)
        fail(Status.RESOURCE_EXHAUSTED, f"No port of this machine could be opened for a tunnel: {error.strerror}")


def tunnel_data(tunnels: Iterable[Tunnel]) -> list[api_pb2.TunnelData]:
    """Return tunnels as the wire has them. One without TLS is open by TLS as well, as on Modal."""
    return [
        api_pb2.TunnelData(
            host=one.host,
            port=one.port,
            unencrypted_host=one.host if one.plain_port else None,
            unencrypted_port=one.plain_port or None,
            container_port=one.container_port,
        )
        for one in tunnels
    ]
