"""The modal client's own thread, stuck for real: it is noticed, and another one serves the next gateway."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from typing import TYPE_CHECKING

import pytest

from modalflow.modal_gateway import ModalGateway
from modalflow.modal_gateway.accounts import AccountsGateway
from modalflow.modal_gateway.client_thread import synchronizer
from tests.contract.conftest import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from modalflow.emulator import EmulatorThread

TAGS = {"deployment": "nobody's"}


def one_account() -> ModalGateway:
    return ModalGateway(SETTINGS)


def two_accounts() -> AccountsGateway:
    return AccountsGateway({None: ModalGateway(SETTINGS), "other": ModalGateway(SETTINGS)})


@pytest.mark.parametrize("make", [one_account, two_accounts])
def test_a_client_whose_thread_is_stuck_is_followed_by_one_that_works(
    modal_emulator: EmulatorThread, make: Callable[[], ModalGateway | AccountsGateway]
) -> None:
    released, stuck, answered = threading.Event(), threading.Event(), threading.Event()

    def hold() -> None:
        stuck.set()
        released.wait(60.0)

    async def main() -> None:
        gateway = make()
        assert await gateway.list_running(TAGS) == []
        loop, thread = synchronizer._loop, synchronizer._thread
        assert loop is not None
        assert thread is not None
        loop.call_soon_threadsafe(hold)
        assert stuck.wait(10.0)
        gateway.ping(answered.set)
        assert "released.wait(60.0)" in gateway.stack()
        assert not answered.is_set()
        async with gateway.successor() as following:
            assert await following.list_running(TAGS) == []
            assert synchronizer._thread is not thread
        await gateway.close()
        released.set()
        await asyncio.to_thread(thread.join, 10.0)
        assert not thread.is_alive(), "the old thread ends when it wakes"

    try:
        asyncio.run(main())
    finally:
        released.set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what the stuck thread had open is lost with it, as the module says
        gc.collect()


def test_one_that_answers_keeps_its_thread(modal_emulator: EmulatorThread) -> None:
    answered = threading.Event()

    async def main() -> None:
        gateway = ModalGateway(SETTINGS)
        gateway.ping(lambda: None)  # may be answered as late as the next one, but not later
        assert await gateway.list_running(TAGS) == []
        gateway.ping(answered.set)
        assert await asyncio.to_thread(answered.wait, 10.0)
        thread = synchronizer._thread
        async with gateway.successor() as following:
            assert await following.list_running(TAGS) == []
        assert synchronizer._thread is thread

    asyncio.run(main())
