"""What is served: each RPC of the installed ``modal_proto``, held against our mixins and against the list that we know.

Flows in: the generated service classes of the installed ``modal``, our mixins with what ``wire.partial`` says of them, and
``known_rpcs.txt``, the RPCs there were when it was last written. Flows out: ``Coverage``, which ``coverage_page`` writes down as
Markdown and ``modalflow emulator coverage`` as text or JSON.

``python -m modalflow.emulator.coverage`` prints the page; with ``--known`` the list to keep.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.resources import files
from typing import Literal

from modal_proto import api_pb2, task_command_router_pb2
from modal_proto.api_grpc import ModalClientBase
from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modalflow.emulator.router import CommandRouter
from modalflow.emulator.services import ControlPlane
from modalflow.emulator.wire import missing_from

KNOWN = "known_rpcs.txt"
State = Literal["served", "partly", "not served"]

_SERVED_BY: Mapping[str, tuple[type, type]] = {
    "ModalClient": (ControlPlane, ModalClientBase),
    "TaskCommandRouter": (CommandRouter, TaskCommandRouterBase),
}
_FIRST_WORD = re.compile(r"SharedVolume|[A-Z][a-z0-9]+")
_OTHER = "Other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Rpc:
    """One call of the protocol. ``does`` is the handler's first line, ``missing`` what is not served of it."""

    service: str
    name: str
    family: str
    state: State
    does: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Coverage:
    """All calls, and how the installed client differs from the one that the kept list was written with."""

    client: str
    """Version of the installed modal."""
    known_client: str
    """Version of modal that the kept list was written with."""
    rpcs: tuple[Rpc, ...]
    new: tuple[str, ...]
    """``Service/Name`` of calls that the kept list lacks."""
    gone: tuple[str, ...]
    """``Service/Name`` of calls that only the kept list has."""

    @cached_property
    def services(self) -> tuple[str, ...]:
        """The services, in the protocol's order."""
        return tuple(dict.fromkeys(rpc.service for rpc in self.rpcs))

    def of(self, service: str, family: str | None = None, state: State | None = None) -> list[Rpc]:
        """Return the calls of a service, of a family of it, in one state."""
        return [
            rpc for rpc in self.rpcs if rpc.service == service and family in (None, rpc.family) and state in (None, rpc.state)
        ]

    def families(self, service: str) -> list[str]:
        """Return the families of a service by name, ``Other`` last."""
        return sorted({rpc.family for rpc in self.of(service)}, key=lambda name: (name == _OTHER, name))


def coverage(known: str | None = None) -> Coverage:
    """Look at the installed client. ``known``: text of the kept list, the one of this package by default."""
    text = files("modalflow.emulator").joinpath(KNOWN).read_text(encoding="utf-8") if known is None else known
    head, *names = text.split("\n")
    listed = set(filter(None, names))
    rpcs = tuple(_rpcs())
    present = {f"{rpc.service}/{rpc.name}" for rpc in rpcs}
    return Coverage(
        client=version("modal"),
        known_client=head.removeprefix("modal "),
        rpcs=rpcs,
        new=tuple(sorted(present - listed)),
        gone=tuple(sorted(listed - present)),
    )


def known_list(found: Coverage) -> str:
    """Return the list to keep: the client's version, then a call a line."""
    return "\n".join([f"modal {found.client}", *sorted(f"{rpc.service}/{rpc.name}" for rpc in found.rpcs), ""])


def _rpcs() -> list[Rpc]:
    found = []
    for module in (api_pb2, task_command_router_pb2):
        for service in module.DESCRIPTOR.services_by_name.values():
            names = sorted(method.name for method in service.methods)
            families = _families(names)
            mixin = _SERVED_BY[service.name][0] if service.name in _SERVED_BY else object
            found += [_rpc(service.name, name, families[name], getattr(mixin, name, None)) for name in names]
    return found


def _rpc(service: str, name: str, family: str, handler: object) -> Rpc:
    if handler is None:
        return Rpc(service=service, name=name, family=family, state="not served")
    missing = missing_from(handler)
    does = (handler.__doc__ or "").strip().partition("\n")[0]
    return Rpc(service=service, name=name, family=family, state="partly" if missing else "served", does=does, missing=missing)


def _families(names: Sequence[str]) -> dict[str, str]:
    """Return each call's family: its first word, if another call shares it."""
    first = {name: match[0] if (match := _FIRST_WORD.match(name)) else _OTHER for name in names}
    words = list(first.values())
    return {name: word if words.count(word) > 1 else _OTHER for name, word in first.items()}


def main(arguments: Sequence[str]) -> int:
    """Print the page, or the list to keep."""
    from modalflow.emulator.coverage_page import page  # noqa: PLC0415 -- it imports this module

    sys.stdout.write(known_list(coverage()) if "--known" in arguments else page())
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
