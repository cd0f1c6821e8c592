"""Apps and their deployments.

Flows in: what services decide. Flows out: an App's state. When one ends is ``machines.app_lives``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

AppPhase = Literal["initializing", "ephemeral", "detached", "detached_disconnected", "deployed"]
"""What an App is that was not stopped. Only a deployed one, or one that was made by looking it up, has a name."""

STOPPED_LISTED = 100
"""Stopped Apps that a list shows; Modal shows "recently stopped" ones."""


@dataclass(kw_only=True, slots=True)
class Deployment:
    """One entry of an App's history. ``commit`` is what the client says of its git repository, as JSON has it."""

    version: int
    deployed_at: float
    client_version: str
    tag: str
    commit: dict[str, object] = field(default_factory=dict)


@dataclass(kw_only=True, slots=True)
class App:
    """An App, deployed or not. ``name`` is empty for an ephemeral one, ``description`` is what lists show of that.

    ``environment`` is empty once its environment was deleted. ``stopped_by``: the user who stopped it; empty if it finished.
    """

    app_id: str
    name: str
    environment: str
    created_at: float
    stopped_at: float | None = None
    description: str = ""
    phase: AppPhase = "deployed"
    stopped_by: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    deployments: list[Deployment] = field(default_factory=list)

    @property
    def title(self) -> str:
        """What lists call it."""
        return self.name or self.description

    @property
    def version(self) -> int:
        """Number of its last deployment, 0 if it has none."""
        return self.deployments[-1].version if self.deployments else 0

    @property
    def needs_heartbeats(self) -> bool:
        """Whether it ends when its client falls silent."""
        return self.stopped_at is None and self.phase in ("initializing", "ephemeral", "detached")


def listed(apps: Iterable[App], environment: str) -> list[App]:
    """Return an environment's Apps, the newest first: all that live, and those that were stopped last."""
    mine = [app for app in apps if app.environment == environment]
    stopped = sorted((app.stopped_at for app in mine if app.stopped_at is not None), reverse=True)[:STOPPED_LISTED]
    since = stopped[-1] if stopped else 0.0
    return [app for app in reversed(mine) if app.stopped_at is None or app.stopped_at >= since]
