"""The seam to what brings DAG code to Modal before a sandbox is created with it.

Flows in: a plan that names a bundle. Flows out: the plan with the folder that holds the bundle's code. ``driver`` asks at each
``Prepare``; ``modalflow.dag_code`` answers.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from modalflow.launch.gateway import Gateway
from modalflow.translation.plan import SandboxPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Brought:
    """A plan whose code is there, and what its task's log should say of it."""

    plan: SandboxPlan
    warnings: tuple[str, ...] = ()


class DagCode(Protocol):
    """Used on the launch loop only."""

    async def bring(self, launch_id: str, plan: SandboxPlan) -> Brought:
        """Have the code of the plan's bundle on Modal, as it is now or later, and say where. Raises ``GatewayError``."""
        ...

    def release(self, launch_id: str) -> None:
        """Hear that a launch is over: it needs no code any more."""
        ...

    async def tidy(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """Remove, again and again and for ever, what no task can use any more."""
        ...

    async def close(self) -> None:
        """Stop what is under way."""
        ...


class NoDagCode:
    """Every plan is complete as it is."""

    async def bring(self, launch_id: str, plan: SandboxPlan) -> Brought:  # noqa: ARG002 - the seam's signature
        """Return the plan."""
        return Brought(plan=plan)

    def release(self, launch_id: str) -> None:
        """Nothing was kept."""

    async def tidy(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        """There is nothing to remove."""

    async def close(self) -> None:
        """Nothing is under way."""


MakeDagCode = Callable[[Callable[[], Gateway]], DagCode]
"""Given the loop's gateway, which may not be connected yet."""


def no_dag_code(_gateway: Callable[[], Gateway]) -> DagCode:
    """Make the one that brings nothing."""
    return NoDagCode()
