"""Ends a sandbox that no launch of this process waits for, in the order that a launch's own end has.

Flows in: a running sandbox as Modal lists it. ``provider.command_cleanup`` calls it; ``lifecycle`` ends a launch under way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from modalflow.launch.gateway import Gateway, GatewayError, SandboxStatus
from modalflow.translation.tags import GRACE_TAG


async def end_in_order(gateway: Gateway, status: SandboxStatus, *, stop_argv: Sequence[str], stop_grace: int) -> None:
    """Ask the sandbox to stop, give it its pod's seconds or ``stop_grace``, then terminate it. Raises ``GatewayError``.

    What cannot be asked is terminated at once; one that ended meanwhile is no error.
    """
    said = status.tags.get(GRACE_TAG, "")
    seconds = int(said) if said.isascii() and said.isdecimal() else stop_grace
    if seconds and await _asked(gateway, status.sandbox_id, stop_argv) and await _ended(gateway, status.sandbox_id, seconds):
        return
    await gateway.terminate(status.sandbox_id)


async def _asked(gateway: Gateway, sandbox_id: str, stop_argv: Sequence[str]) -> bool:
    try:
        await gateway.start_in(sandbox_id, stop_argv)
    except GatewayError:
        return False
    return True


async def _ended(gateway: Gateway, sandbox_id: str, seconds: int) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await gateway.wait(sandbox_id)
    except (TimeoutError, GatewayError):
        return False
    return True
