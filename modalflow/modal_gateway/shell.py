"""A process in a running sandbox with this process's terminal, by the modal client's own exec.

Used by ``provider.command_shell``. The client's ``ContainerProcess.attach`` is what ``modal shell`` uses (modal 1.6.4).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from typing import BinaryIO

from modal import Client, Sandbox
from modal.stream_type import StreamType

from modalflow.launch.credentials import ReadStored
from modalflow.launch.gateway import Unauthenticated
from modalflow.modal_gateway.connection import open_client, read_credentials
from modalflow.modal_gateway.errors import bounded
from modalflow.settings import LaunchSettings


def enter(
    settings: LaunchSettings, sandbox_id: str, argv: Sequence[str], *, terminal: bool, read: ReadStored | None = None
) -> int:
    """Run ``argv`` to its end and return its exit code. Raises ``GatewayError``.

    ``read`` reads the Airflow connection with the token. With a ``terminal`` it has this one, raw; else its output is copied and
    it has no input.
    """
    return asyncio.run(_enter(settings, sandbox_id, argv, terminal=terminal, read=read))


async def _enter(
    settings: LaunchSettings, sandbox_id: str, argv: Sequence[str], *, terminal: bool, read: ReadStored | None
) -> int:
    credentials = await read_credentials(read, settings.rpc_timeout)
    async with bounded("connect to Modal", settings.rpc_timeout):
        client = await open_client(credentials)
    try:
        return await _run_in(client, settings, sandbox_id, argv, terminal=terminal)
    except Unauthenticated as error:
        raise credentials.explained(error) from error


async def _run_in(client: Client, settings: LaunchSettings, sandbox_id: str, argv: Sequence[str], *, terminal: bool) -> int:
    async with client:
        async with bounded(f"enter the sandbox {sandbox_id}", settings.rpc_timeout):
            sandbox = await Sandbox.from_id.aio(sandbox_id, client=client)
            # As bytes: what a terminal shows is not always text.
            process = await sandbox.exec.aio(*argv, pty=terminal, text=False, stdout=StreamType.PIPE, stderr=StreamType.PIPE)
        async with bounded(f"stay in the sandbox {sandbox_id}", None):
            if terminal:
                await process.attach.aio()  # type: ignore[no-untyped-call]
            else:
                await asyncio.gather(_copy(process.stdout, sys.stdout.buffer), _copy(process.stderr, sys.stderr.buffer))
            return int(await process.wait.aio())


async def _copy(stream: object, to: BinaryIO) -> None:
    async for chunk in stream:  # type: ignore[attr-defined]
        to.write(chunk)
        to.flush()
