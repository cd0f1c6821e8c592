"""Environments of a workspace, and the workspace's own settings.

Flows in: what services decide. Flows out: the environment of a name, and everything that goes when one is deleted or is called
otherwise when one is renamed. Objects name their environment, so ``renamed`` and ``emptied`` go through all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from modalflow.emulator.state.apps import App
from modalflow.emulator.state.ids import new_id

if TYPE_CHECKING:
    from modalflow.emulator.state.store import Workspace

DEFAULT_ENVIRONMENT = "main"
IMAGE_BUILDER_VERSION = "2025.06"
IMAGE_BUILDER_VERSIONS = ("2023.12", "2024.04", "2024.10", "2025.06", "2026.10", "PREVIEW")
"""What modal 1.6.4 has files for (``modal/builder``)."""


@dataclass(kw_only=True, slots=True)
class Environment:
    """One environment. ``image_builder_version`` is empty where the workspace's holds; ``restricted`` restricts nobody here.

    ``implied``: made with its workspace, and not asked for by anybody.
    """

    environment_id: str = field(default_factory=lambda: new_id("en"))
    name: str
    created_at: float
    web_suffix: str = ""
    image_builder_version: str = ""
    restricted: bool = False
    implied: bool = False


@dataclass(kw_only=True, slots=True)
class WorkspaceSettings:
    """Settings that hold where an environment has none of its own."""

    default_environment: str = DEFAULT_ENVIRONMENT
    image_builder_version: str = IMAGE_BUILDER_VERSION


class _InEnvironment(Protocol):
    environment: str


def recalled(workspace: Workspace, environment: Environment) -> None:
    """Put back an environment that was kept; those that were implied are then among them, or were deleted."""
    workspace.environments = {one.name: one for one in workspace.environments.values() if not one.implied}
    workspace.environments[environment.name] = environment


def renamed(workspace: Workspace, environment: Environment, name: str) -> None:
    """Call an environment otherwise, everywhere."""
    old = environment.name
    for one in _everything(workspace):
        if one.environment == old:
            one.environment = name
    environment.name = name
    workspace.environments = {one.name: one for one in workspace.environments.values()}
    workspace.image_names = {one.key: one for one in workspace.image_names.values()}
    if workspace.settings.default_environment == old:
        workspace.settings.default_environment = name


def emptied(workspace: Workspace, environment: Environment) -> list[App]:
    """Remove an environment with its Secrets, Volumes, Dicts, Queues and names of images; return its Apps, to be stopped.

    The Apps stay for who asks by id, in no environment any more.
    """
    name = environment.name
    for secret in [one for one in workspace.secrets.values() if one.environment == name]:
        del workspace.secrets[secret.secret_id]
    for volume in [one for one in workspace.volumes.values() if one.environment == name]:
        del workspace.volumes[volume.volume_id]
    for modal_dict in workspace.dicts:
        if modal_dict.environment == name:
            workspace.dicts.remove(modal_dict.object_id)
    for queue in workspace.queues:
        if queue.environment == name:
            workspace.queues.remove(queue.object_id)
    for published in [one for one in workspace.image_names.values() if one.environment == name]:
        del workspace.image_names[published.key]
    apps = [app for app in workspace.apps.values() if app.environment == name]
    for app in apps:
        app.environment = ""
    del workspace.environments[name]
    return apps


def _everything(workspace: Workspace) -> Iterator[_InEnvironment]:
    yield from workspace.apps.values()
    yield from workspace.secrets.values()
    yield from workspace.volumes.values()
    yield from workspace.dicts
    yield from workspace.queues
    yield from workspace.image_names.values()
