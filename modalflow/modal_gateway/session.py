"""One account's connection to Modal: opened at the first call, renewed when its credentials change, closed.

In: how to read the credentials. Out: the ``KeptObjects`` of a client that is valid now. A token is replaced without a restart:
the connection is read again when Modal refuses the token, and every ``credentials_interval`` seconds while there are calls. The
calls under way go on over the client that they began with. Used by ``gateway``, whose calls ``renewing`` wraps.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from modal import Client

from modalflow.launch.credentials import ReadStored
from modalflow.launch.few_questions import FewQuestions
from modalflow.launch.gateway import GatewayError, Unauthenticated, Unavailable
from modalflow.modal_gateway.connection import Credentials, default_environment, open_client, read_credentials
from modalflow.modal_gateway.errors import bounded
from modalflow.modal_gateway.kept import KeptObjects
from modalflow.settings import LaunchSettings

log = logging.getLogger(__name__)

READ_AGAIN_AFTER = 5.0
"""Seconds in which a refused token is not looked up a second time: a thousand launches that are refused are one question."""
OLD_CLIENT_KEPT = 1800.0
"""Seconds for which the client of a replaced token stays open: a GPU create takes up to 21 minutes (modal 1.6.4), and a wait
for a sandbox's end begins anew every 10 (``launch.watch``)."""

P = ParamSpec("P")
R = TypeVar("R")


class Session:
    """Used on one loop. ``changed`` is called when another client takes over: what is bound to the old one is of no use then."""

    def __init__(
        self,
        settings: LaunchSettings,
        *,
        read: ReadStored | None,
        given: Client | None,
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Keep the arguments. ``given`` is a client that is not ours: it is neither renewed nor closed."""
        self._given_settings = settings
        self._read = read
        self._given = given
        self._changed = changed
        self._clock = clock
        self._questions = FewQuestions(at_once=1, limit=settings.rpc_timeout)
        self._credentials: Credentials | None = None
        self._kept: KeptObjects | None = None
        self._opening: asyncio.Task[KeptObjects] | None = None
        self._renewing: asyncio.Task[bool] | None = None
        self._old: list[tuple[Client, asyncio.TimerHandle]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._read_at = 0.0
        self._refused_at: float | None = None
        self._complaint = ""
        self._predecessor: Session | None = None
        self._given_up = False

    @property
    def settings(self) -> LaunchSettings:
        """The settings, with the environment that the Airflow connection says where the option says none."""
        settings, credentials = self._given_settings, self._credentials
        if settings.environment is not None or credentials is None or credentials.environment is None:
            return settings
        return replace(settings, environment=credentials.environment)

    @property
    def client(self) -> Client | None:
        """The client in use, if one is open."""
        return self._kept.client if self._kept is not None else None

    @property
    def kept(self) -> KeptObjects | None:
        """What is kept of the connection in use, if one is open."""
        return self._kept

    def lose(self) -> None:
        """Forget the clients without closing them: the thread that would do that answers no more."""
        for _, timer in self._old:
            timer.cancel()
        self._old.clear()
        self._kept = None

    def in_words(self) -> str:
        """Say whose credentials are in use, and where sandboxes go."""
        settings = self.settings
        environment = settings.environment or default_environment() or "the workspace's default"
        whose = self._credentials.in_words() if self._credentials is not None else "the client that was given"
        return f"{whose}; environment {environment}, App {settings.app_name}"

    async def objects(self) -> KeptObjects:
        """Return what is kept of this connection, connecting first if need be.

        Everybody who comes meanwhile shares one attempt and its failure. One after the other, each with an attempt of its own,
        the last of a hundred launches would hear after fifty minutes that Modal is away.
        """
        self._refuse_if_given_up()
        if self._kept is not None and self._kept.client.is_closed():
            self._kept = None  # somebody else in this process closed it
        if self._kept is None:
            if self._opening is None or self._opening.done():
                self._opening = asyncio.create_task(self._open(), name="modalflow-connect")
            kept = await asyncio.shield(self._opening)
            self._refuse_if_given_up()
            return kept
        interval = self._given_settings.credentials_interval
        if interval and self._given is None and self._clock() - self._read_at >= interval:
            self._renew_soon()
        return self._kept

    async def renewed(self, used: KeptObjects | None) -> bool:
        """Tell whether other credentials than those of ``used`` are in force, reading them if need be."""
        if self._given is not None or self._kept is None:
            return False
        if self._kept is not used:
            return True
        now = self._clock()
        if self._refused_at is not None and now - self._refused_at < READ_AGAIN_AFTER and not self._is_renewing():
            return False
        self._refused_at = now
        return await asyncio.shield(self._renew_soon())

    def explained(self, error: Unauthenticated) -> Unauthenticated:
        """Return Modal's refusal with whose credentials it refused; where nothing is open, the error says it all."""
        return self._credentials.explained(error) if self._kept is not None and self._credentials is not None else error

    def _is_renewing(self) -> bool:
        return self._renewing is not None and not self._renewing.done()

    def _renew_soon(self) -> asyncio.Task[bool]:
        if self._renewing is None or self._renewing.done():
            self._read_at = self._clock()
            self._renewing = asyncio.create_task(self._renew(), name="modalflow-credentials")
        return self._renewing

    async def _renew(self) -> bool:
        """Read the credentials; if they are others, open a client with them and let the old one run out."""
        seconds = self._given_settings.rpc_timeout
        try:
            found = await read_credentials(self._read, seconds, self._questions)
            if found == self._credentials:
                self._complaint = ""
                return False
            async with bounded("connect to Modal", seconds):
                client = await open_client(found)
        except GatewayError as error:
            if str(error) != self._complaint:
                log.warning("modalflow: the Modal credentials were read again, and those of before stay in use: %s", error)
            self._complaint = str(error)
            return False
        self._complaint = ""
        old, self._kept, self._credentials = self._kept, None, found
        self._kept = KeptObjects(client, self.settings)
        self._changed()
        log.info("modalflow: the Modal credentials have changed, and are from now on: %s", self.in_words())
        if old is not None:
            handle = asyncio.get_running_loop().call_later(OLD_CLIENT_KEPT, self._close_soon, old.client)
            self._old.append((old.client, handle))
        return True

    def _close_soon(self, client: Client) -> None:
        self._old = [one for one in self._old if one[0] is not client]
        closing = asyncio.create_task(self._close_client(client), name="modalflow-close")
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    async def _close_client(self, client: Client) -> None:
        try:
            async with bounded("close the connection", self._given_settings.rpc_timeout):
                await client.close.aio()
        except GatewayError as error:
            log.warning("modalflow: %s", error)

    async def _open(self) -> KeptObjects:
        previous, self._predecessor = self._predecessor, None
        if previous is not None:
            await previous.cut_off()
        if self._given is not None:
            client = self._given
        else:
            seconds = self._given_settings.rpc_timeout
            self._credentials = await read_credentials(self._read, seconds, self._questions)
            self._read_at = self._clock()
            async with bounded("connect to Modal", seconds):
                client = await open_client(self._credentials)
        self._kept = KeptObjects(client, self.settings)
        return self._kept

    def _refuse_if_given_up(self) -> None:
        if self._given_up:
            raise Unavailable("the connection to Modal was given up")

    def give_up(self) -> None:
        """Let nobody call any more; what is under way is cut off when the successor connects."""
        self._given_up = True

    def succeed(self, previous: Session) -> None:
        """Cut ``previous`` off before this one connects."""
        self._predecessor = previous

    async def cut_off(self) -> None:
        """End all calls under way, from whichever loop; a workload that is being sent must not arrive later."""
        for client in self._clients():
            try:
                async with bounded("close the connection that was given up", self._given_settings.rpc_timeout):
                    await client.close.aio()
            except GatewayError as error:
                log.warning("modalflow: %s; its calls end by their own deadlines", error)

    def _clients(self) -> list[Client]:
        """All that are ours and open."""
        current = [self._kept.client] if self._kept is not None and self._kept.client is not self._given else []
        return [*current, *(client for client, _ in self._old)]

    async def close(self) -> None:
        """Close what is ours. Raises ``GatewayError``."""
        under_way = [task for task in (self._opening, self._renewing) if task is not None and not task.done()]
        for task in under_way:
            task.cancel()
        with suppress(ValueError):  # of none
            await asyncio.wait([*under_way, *self._closing])
        clients, self._kept = self._clients(), None
        for _, handle in self._old:
            handle.cancel()
        self._old.clear()
        for client in clients:
            async with bounded("close the connection", self._given_settings.rpc_timeout):
                await client.close.aio()


class HasSession(Protocol):
    """What ``renewing`` wraps the methods of."""

    session: Session


S = TypeVar("S", bound=HasSession)


def renewing(method: Callable[Concatenate[S, P], Awaitable[R]]) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """Call again, once, if Modal refused the credentials and others are in force; else say whose were refused.

    A call that Modal refuses so has done nothing, so it may be repeated. A create of several calls may have done its first ones;
    its sandbox then has its name, and the second create meets it (``NameTaken``).
    """

    @functools.wraps(method)
    async def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        used = self.session.kept
        try:
            return await method(self, *args, **kwargs)
        except Unauthenticated as error:
            if not await self.session.renewed(used):
                raise self.session.explained(error) from error
        try:
            return await method(self, *args, **kwargs)
        except Unauthenticated as error:
            raise self.session.explained(error) from error

    return call
