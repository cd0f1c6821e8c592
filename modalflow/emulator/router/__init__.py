"""The task command router, one mixin per family of RPCs. It runs on the control plane's port.

Flows in: requests with the bearer token that the control plane minted. Flows out: what ``machines`` do. ``access`` finds the
sandbox that a request is about; a mixin may call ``core`` but no other mixin.
"""

from __future__ import annotations

from modal_proto.task_command_router_grpc import TaskCommandRouterBase

from modalflow.emulator.router.execs import Execs
from modalflow.emulator.router.network_access import NetworkAccess
from modalflow.emulator.router.readiness import Readiness
from modalflow.emulator.router.sidecars import Sidecars
from modalflow.emulator.router.snapshots import Snapshots
from modalflow.emulator.router.stdio import Stdio
from modalflow.emulator.router.volumes import Volumes
from modalflow.emulator.wire import complete


class CommandRouter(Stdio, Execs, Readiness, Sidecars, Snapshots, Volumes, NetworkAccess):
    """All that is served of ``modal.task_command_router.TaskCommandRouter``."""


CommandRouterService = complete(CommandRouter, TaskCommandRouterBase)
"""``CommandRouter`` with every other RPC answering UNIMPLEMENTED."""
