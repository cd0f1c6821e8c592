"""Keeps the deployment's relays going, from this scheduler's side, on a loop and in a thread of its own.

Flows in: ``policy``'s decisions about what Modal lists. Flows out: a relay sandbox where there is none, a ``link`` to each that
there is, the tickets by which tasks come in, word to running sandboxes whose relay was lost. The thread is not the launch
loop's: should that one be stuck, heartbeats go on. Whatever fails here is logged and tried again; nothing reaches the
scheduler's thread.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import secrets
import shutil
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from modalflow.launch.backoff import pause_before
from modalflow.launch.gateway import GatewayError, NameTaken, SandboxStatus, Unavailable
from modalflow.launch.portal import LoopThread
from modalflow.launch.reconcile import DEPLOYMENT_TAG, LAUNCH_TAG
from modalflow.relay.filter import Filter, Limits, trusting
from modalflow.relay.gate import Gate, listen
from modalflow.relay.handshake import pass_id
from modalflow.relay.keys import Keys
from modalflow.relay.link import Link
from modalflow.relay.policy import RULES, SLOTS, Mark, Rules, Seen, addresses, decide, for_task, must_tell, read_mark
from modalflow.relay.seam import RELAY_OF_TAG, RELAY_TAG, Relays

log = logging.getLogger(__name__)

LOOK_EVERY = 30.0
"""Seconds between two listings: one call. A lost connection has it looked at once."""
LOOK_AT_MOST_EVERY = 1.0
NEW_FOR = 30.0
"""Seconds for which a relay just created is believed to run though a listing does not have it."""
READY_LIMIT = 60.0
"""Seconds that a launch waits for a relay before it counts as failed and is tried again: making the relay's image included."""
TELL_AT_ONCE = 16
TAKEN_LIMIT = 3
"""Looks at which a relay's name is taken by one that is not listed, before the other name is tried."""
STATION_VARIABLE = "MODALFLOW_RELAY"
IDLE_SECONDS = 600
"""A relay that no scheduler is connected to ends after that. Running tasks have given up by then."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - inside a sandbox whose ports are its tunnels
PORTS = range(20_000, 32_000)
"""Ports inside the relay's sandbox: below those that systems give to outgoing connections. Drawn, as an emulator's sandboxes may
share one machine's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaySettings:
    """What one deployment's relay is like.

    ``api_url``: the execution API as this machine reaches it; ``certificate``: a file with its authority. ``station``: the
    source of the sandbox's program. ``tell``: argv that, with addresses added, tells a running sandbox where to go.
    ``listen_host``: what the relay listens on inside its sandbox.
    """

    deployment: str
    api_url: str
    station: str
    tell: tuple[str, ...]
    certificate: str | None = None
    listen_host: str = EVERYWHERE
    limits: Limits = field(default_factory=Limits)
    rules: Rules = RULES


class RelayService:
    """Construct, ``start``, ask for tickets from any thread, ``stop``."""

    def __init__(
        self,
        gateway: Callable[[], Relays],
        keys: Keys,
        settings: RelaySettings,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Keep the arguments; nothing runs yet. ``gateway`` is called on the loop's thread. ``clock`` is the epoch's."""
        self._new_gateway = gateway
        self._keys = keys
        self._settings = settings
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._thread = LoopThread("modalflow-relay")
        self._links: dict[str, Link] = {}
        self._seen: tuple[Seen, ...] = ()
        self._waiting: list[Future[None]] = []
        self._trouble = "it is being started"
        self._failed_starts = 0
        self._taken = 0
        self._stopping = False
        self._background: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._filter = Filter(settings.api_url, settings.limits, certificate=settings.certificate)
        self._gate = Gate(keys.of_pass, self._filter.handler, self._addresses, clock=clock)
        self._socket = ""
        self._tls: ssl.SSLContext | None = None
        self._gateway: Relays | None = None

    # From any thread

    def start(self) -> None:
        """Start the loop's thread."""
        self._thread.start(self._main)

    def stop(self, timeout: float) -> None:
        """Let go of the relays, within ``timeout`` seconds. They run on: another scheduler takes over, or the next one."""
        if self._thread.running:
            self._thread.post(self._stop)
            if not self._thread.join(timeout):
                log.warning("modalflow: the relay's thread did not stop within %g s; it ends with the process", timeout)

    def ticket(self, launch_id: str, timeout: float) -> dict[str, object]:
        """Return what a sandbox that may live ``timeout`` seconds needs to come in: a secret, for it alone.

        Without a relay, just now, it has no address; the sandbox is told as soon as there is one.
        """
        now = self._clock()
        name = pass_id(launch_id, now)
        given = [one.address for one in for_task(self._seen, now, timeout)]
        return {"id": name, "key": self._keys.of_pass(name).hex(), "addresses": given}

    async def ready(self) -> None:
        """Return when tasks can be let in, on whichever loop. Raises ``Unavailable`` after ``READY_LIMIT`` seconds."""
        if addresses(self._seen, self._clock()):
            return
        future: Future[None] = Future()
        self._thread.post(partial(self._wait, future))
        try:
            async with asyncio.timeout(READY_LIMIT):
                await asyncio.wrap_future(future)
        except TimeoutError as error:
            raise Unavailable(
                f"the relay to the execution API is not up: {self._trouble}; see docs/explanation/relay.md, or set "
                "[modal_executor] execution_api = direct and execution_api_url to a URL that sandboxes reach"
            ) from error

    def look_soon(self) -> None:
        """Have it look at the relays now, not only when it is time."""
        self._thread.post(self._wake.set)

    def describe(self) -> str:
        """State as text, for a debug dump."""
        now = self._clock()
        requests = f"{self._filter.served} requests served, {self._filter.refused} refused"
        connections = f"{len(self._gate.connections)} connections, {self._gate.turned_away} turned away"
        lines = [f"modalflow: relay: {requests}, {connections}"]
        for one in self._seen:
            state = "held" if one.held else "stand-by" if one.serving else f"not reached ({self._trouble})"
            lines.append(f"  {one.sandbox_id} slot {one.slot}: {state}, ends in {max(0, one.mark.until - now):.0f} s")
        return "\n".join(lines if self._seen else [*lines, f"  no relay: {self._trouble}"])

    @property
    def seen(self) -> tuple[Seen, ...]:
        """The relays as they were seen last."""
        return self._seen

    # On the loop

    def _stop(self) -> None:
        self._stopping = True
        self._wake.set()

    def _wait(self, future: Future[None]) -> None:
        self._waiting.append(future)
        self._changed()

    def _addresses(self) -> Sequence[str]:
        return addresses(self._seen, self._clock())

    async def _main(self) -> None:
        folder = tempfile.mkdtemp(prefix="modalflow-relay-")  # readable by this user alone, who has Airflow's keys
        self._socket = str(Path(folder) / "gate")
        try:
            self._tls = trusting(None)
            await self._filter.open()
            server = await listen(self._gate, self._socket)
            self._gateway = self._new_gateway()
            while not self._stopping:
                await self._look_safely()
                await self._pause()
            server.close()
        finally:
            await self._let_go()
            shutil.rmtree(folder, ignore_errors=True)

    async def _pause(self) -> None:
        await self._sleep(LOOK_AT_MOST_EVERY)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._wake.wait()
        self._wake.clear()

    async def _let_go(self) -> None:
        for link in self._links.values():
            link.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, *(link.task for link in self._links.values()), return_exceptions=True)
        self._gate.close()
        await self._filter.close()
        if self._gateway is not None:
            try:
                await self._gateway.close()
            except GatewayError as error:
                log.warning("modalflow: relay: the connection to Modal was not closed in order: %s", error)

    async def _look_safely(self) -> None:
        try:
            await self._look(self._the_gateway())
        except GatewayError as error:
            self._troubled(str(error))
        except Exception:
            log.exception("modalflow: relay: a look at the relays failed; there will be another")

    def _the_gateway(self) -> Relays:
        if self._gateway is None:
            raise Unavailable("the relay's loop has not begun")
        return self._gateway

    async def _look(self, gateway: Relays) -> None:
        listed = await gateway.list_running({RELAY_OF_TAG: self._settings.deployment})
        self._meet(listed)
        self._changed()
        decision = decide(self._seen, self._clock(), self._settings.rules)
        for number, link in list(self._links.items()):
            if number not in decision.attach:
                log.info("modalflow: relay: leaving %s to its end; its successor serves", link.sandbox_id)
                self._drop(number)
        if decision.start:
            await self._start(gateway, decision.start)
        self._changed()

    def _meet(self, listed: Sequence[SandboxStatus]) -> None:
        """Link to relays that are new, and forget those that are gone."""
        there: set[str] = set()
        for status in listed:
            mark, slot = read_mark(status.tags.get(RELAY_TAG, "")), status.name.rpartition(".")[2]
            ours = status.tags.get(RELAY_OF_TAG) == self._settings.deployment and slot in SLOTS and status.end is None
            if mark is not None and ours:
                there.add(mark.number)
                self._link(mark, slot, status.sandbox_id)
        for number, link in list(self._links.items()):
            if number not in there and not link.serving and self._clock() - link.met > NEW_FOR * (not link.listed):
                log.warning("modalflow: relay: the sandbox %s is gone", link.sandbox_id)
                self._drop(number)
        for number in there & self._links.keys():
            self._links[number].listed = True

    def _link(self, mark: Mark, slot: str, sandbox_id: str) -> Link:
        link = self._links.get(mark.number)
        if link is None:
            if self._tls is None:
                raise Unavailable("the relay's loop has not begun")
            link = Link(
                mark, slot, sandbox_id, self._the_gateway(), self._keys, self._tls, self._socket, self._news,
                clock=self._clock, sleep=self._sleep, jitter=self._jitter,
            )  # fmt: skip
            self._links[mark.number] = link
            link.start()
        return link

    def _drop(self, number: str) -> None:
        link = self._links.pop(number)
        link.stop()

    async def _start(self, gateway: Relays, slots: Sequence[str]) -> None:
        if self._failed_starts:
            await self._sleep(pause_before(self._failed_starts, jitter=self._jitter()))
        self._failed_starts += 1  # until one serves
        settings = self._settings
        ssh_port, task_port = random.sample(PORTS, 2)
        until = int(self._clock() + settings.rules.life)
        mark = Mark(number=secrets.token_hex(12), until=until, ssh_port=ssh_port, task_port=task_port)
        told = {
            "host_key": self._keys.host(mark.number).private,
            "client": self._keys.client(mark.number).public,
            "host": settings.listen_host,
            "ssh_port": ssh_port,
            "task_port": task_port,
            "idle": IDLE_SECONDS,
        }
        # A name that is taken is another scheduler's relay, which the next listing shows; or that of one which is gone from the
        # listing and has not ended, so it is not waited for long.
        slot = slots[min(self._taken // TAKEN_LIMIT, len(slots) - 1)]
        try:
            sandbox_id = await gateway.create_relay(
                name=f"{base_name(settings.deployment)}.{slot}",
                argv=("python", "-c", settings.station),
                secret_env={STATION_VARIABLE: json.dumps(told)},
                tags={RELAY_OF_TAG: settings.deployment, RELAY_TAG: str(mark)},
                ports=(ssh_port, task_port),
                seconds=int(settings.rules.life),
            )
        except NameTaken:
            self._taken += 1
            self._wake.set()
            return
        log.info("modalflow: relay: started %s for the deployment %s", sandbox_id, settings.deployment)
        self._taken = 0
        self._link(mark, slot, sandbox_id)

    def _news(self, link: Link, trouble: str | None) -> None:
        """Hear of a link that a relay's port is ours or another's, or that it cannot be reached."""
        before = self._seen
        self._changed()
        if trouble is not None:
            if not link.starting:
                self._troubled(f"its sandbox {link.sandbox_id} cannot be reached: {trouble}")
            self._wake.set()
            return
        self._failed_starts = 0
        if link.held and must_tell(link.seen(), before, self._clock(), self._settings.rules):
            self._keep(asyncio.create_task(self._tell(), name="modalflow-relay-tell"))

    def _changed(self) -> None:
        self._seen = tuple(link.seen() for link in self._links.values())
        if self._waiting and self._addresses():
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                with suppress(InvalidStateError):  # its launch was cancelled meanwhile
                    future.set_result(None)

    def _troubled(self, why: str) -> None:
        if why != self._trouble:
            self._trouble = why
            log.warning("modalflow: relay: %s", why)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _tell(self) -> None:
        """Tell every running sandbox of this deployment where to go now: an address, which is no secret."""
        gateway, where = self._the_gateway(), self._addresses()
        try:
            running = await gateway.list_running({DEPLOYMENT_TAG: self._settings.deployment})
        except GatewayError as error:
            self._troubled(f"running sandboxes cannot be told of the new relay: {error}")
            return
        ours = [one.sandbox_id for one in running if LAUNCH_TAG in one.tags and one.end is None]
        at_once = asyncio.Semaphore(TELL_AT_ONCE)

        async def tell(sandbox_id: str) -> bool:
            async with at_once:
                try:
                    await gateway.start_in(sandbox_id, (*self._settings.tell, *where))
                except GatewayError as error:  # it may have ended
                    log.info("modalflow: relay: %s could not be told of the new relay: %s", sandbox_id, error)
                    return False
                return True

        told = await asyncio.gather(*map(tell, ours))
        if ours:
            log.warning("modalflow: relay: a relay was lost; %d of %d running sandboxes know the new one", sum(told), len(ours))


def base_name(deployment: str) -> str:
    """How relay sandboxes of a deployment are called, without their slot."""
    return f"relay.{hashlib.sha256(deployment.encode()).hexdigest()[:20]}"
