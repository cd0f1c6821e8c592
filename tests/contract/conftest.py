"""A gateway on an emulator of its own, used from synchronous tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import pytest

from modalflow.modal_gateway import ModalGateway
from modalflow.settings import LaunchSettings

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorThread

T = TypeVar("T")
SETTINGS = LaunchSettings(rpc_timeout=10.0, create_timeout=10.0)

WithGateway = Callable[[Callable[[ModalGateway], Awaitable[T]]], T]


@pytest.fixture
def with_gateway(modal_emulator: EmulatorThread) -> WithGateway[T]:
    """Runs a coroutine function on a fresh loop with a fresh gateway."""

    def run(scene: Callable[[ModalGateway], Awaitable[T]]) -> T:
        async def main() -> T:
            async with ModalGateway(SETTINGS) as gateway:
                return await scene(gateway)

        return asyncio.run(main())

    return run
