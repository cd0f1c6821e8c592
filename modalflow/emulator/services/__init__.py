"""The control plane, one mixin per family of RPCs, composed into ``ControlPlane``.

Flows in: requests, through ``wire``. Flows out: changes of the store, and answers. A mixin may call ``core`` (store, sandboxes,
blobs, authority) but no other mixin.
"""

from __future__ import annotations

from modal_proto.api_grpc import ModalClientBase

from modalflow.emulator.services.apps import Apps
from modalflow.emulator.services.auth import Auth
from modalflow.emulator.services.dicts import Dicts
from modalflow.emulator.services.environments import Environments
from modalflow.emulator.services.image_names import ImageNames
from modalflow.emulator.services.images import Images
from modalflow.emulator.services.logs import Logs
from modalflow.emulator.services.proxies import Proxies
from modalflow.emulator.services.queues import Queues
from modalflow.emulator.services.sandbox_calls import SandboxCalls
from modalflow.emulator.services.sandbox_create import SandboxCreation
from modalflow.emulator.services.sandbox_sidecars import SandboxSidecars
from modalflow.emulator.services.sandbox_snapshots import SandboxSnapshots
from modalflow.emulator.services.sandbox_stats import SandboxStats
from modalflow.emulator.services.secrets import Secrets
from modalflow.emulator.services.tasks import Tasks
from modalflow.emulator.services.tunnels import Tunnels
from modalflow.emulator.services.uploads import Uploads
from modalflow.emulator.services.volumes import Volumes
from modalflow.emulator.services.workspace import Workspaces
from modalflow.emulator.wire import complete


class ControlPlane(
    Auth,
    Workspaces,
    Environments,
    Apps,
    Tasks,
    Images,
    ImageNames,
    Secrets,
    Uploads,
    Volumes,
    Dicts,
    Queues,
    Proxies,
    SandboxCreation,
    SandboxCalls,
    SandboxSidecars,
    Tunnels,
    SandboxSnapshots,
    SandboxStats,
    Logs,
):
    """All that is served of ``modal.client.ModalClient``."""


ControlPlaneService = complete(ControlPlane, ModalClientBase)
"""``ControlPlane`` with every other RPC answering UNIMPLEMENTED."""
