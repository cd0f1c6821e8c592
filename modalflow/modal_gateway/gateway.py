"""``launch.gateway.Gateway`` with the real client: plans in, Modal calls out, each of them bounded and with our errors.

``parameters``, ``images`` and ``kept`` turn plans into arguments; ``errors`` maps what goes wrong; ``endings`` reads how a
sandbox ended. Only here does modalflow create or end anything on Modal.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Self

from modal import Client, CloudBucketMount, Sandbox, Secret, Volume
from modal import exception as modal_errors
from modal.stream_type import StreamType

from modalflow.launch.credentials import ReadStored
from modalflow.launch.gateway import (
    GatewayError,
    InvalidRequest,
    NotFound,
    SandboxEnd,
    SandboxStatus,
    Unauthenticated,
    Unavailable,
)
from modalflow.modal_gateway import client_thread
from modalflow.modal_gateway.endings import end_of
from modalflow.modal_gateway.errors import bounded, ended_before_it_ran
from modalflow.modal_gateway.given_up import leaving_nothing
from modalflow.modal_gateway.kept import KeptObjects
from modalflow.modal_gateway.listing import Infos, pages, status_of
from modalflow.modal_gateway.looks import ended
from modalflow.modal_gateway.parameters import inline_secret, sandbox_kwargs
from modalflow.modal_gateway.session import Session, renewing
from modalflow.settings import LaunchSettings
from modalflow.translation.plan import MODALFLOWS, Home, SandboxPlan

log = logging.getLogger(__name__)

BUILD_LIMIT = 3600.0
"""Seconds that building one image may take: Modal's own builds end within an hour."""
TAIL_LIMIT = 10.0
"""Seconds spent on reading a failed sandbox's last output: worth waiting for, but the launch's end waits with it."""
LOG_VOLUME_VERSION = 2
"""Version 1 is not made for hundreds of writers."""

HANDLES = 256
"""Sandbox handles kept from one call to the next, about 10 KiB each: more than are waited for at the same time."""


class ModalGateway:
    """Talks to Modal with the credentials of one account, opened at the first call. Used on one loop.

    ``read`` reads the Airflow connection that has them; without, or where there is none, the environment's or profile's serve.
    ``client`` is for callers that have one (it is then not closed here).
    """

    def __init__(self, settings: LaunchSettings, *, read: ReadStored | None = None, client: Client | None = None) -> None:
        """Keep the settings; nothing is connected yet."""
        self._given_settings = settings
        self._read = read
        self._given_client = client
        self._sandboxes: dict[str, Sandbox] = {}
        self._unanswered: asyncio.AbstractEventLoop | None = None
        self.session = Session(settings, read=read, given=client, changed=self._sandboxes.clear)

    @property
    def _settings(self) -> LaunchSettings:
        return self.session.settings

    @renewing
    async def check(self) -> str:
        """See ``Gateway.check``."""
        kept = await self._objects()
        async with bounded("check the credentials", self._settings.rpc_timeout):
            await kept.client.hello.aio()  # type: ignore[no-untyped-call]
            await kept.app()
        return self.session.in_words()

    @renewing
    async def prepare(self, plan: SandboxPlan) -> None:
        """Look up or create the App, and build the image."""
        kept = await self._objects()
        async with bounded("look up the App", self._settings.rpc_timeout):
            await kept.app(plan.home)
        async with bounded(f"make the image {plan.image.in_words}", BUILD_LIMIT):
            await kept.image(plan.image, plan.home, anew=plan.image.force_build)

    @renewing
    async def create(
        self,
        plan: SandboxPlan,
        *,
        name: str,
        gpu: str | None,
        argv: Sequence[str],
        secret_env: Mapping[str, str],
    ) -> str:
        """See ``Gateway.create``. A V1 create is bounded by the caller: it waits for a GPU."""
        try:
            return await self._create(plan, name, gpu, argv, secret_env)
        except NotFound:
            # Either what the plan names is missing, or what we keep is of a server that was reset. A second try tells.
            (await self._objects()).forget()
        await self.prepare(plan)
        return await self._create(plan, name, gpu, argv, secret_env)

    async def _create(
        self, plan: SandboxPlan, name: str, gpu: str | None, argv: Sequence[str], secret_env: Mapping[str, str]
    ) -> str:
        kept = await self._objects()
        bound = None if gpu else self._settings.create_timeout
        async with bounded("create the sandbox", bound), ended_before_it_ran(v1=gpu is not None):
            secrets = await kept.secrets(plan.secrets, plan.home)
            if secret_env:
                secrets.append(Secret.from_dict(inline_secret(secret_env)))  # last: nothing of the user's may replace it
            create = Sandbox.create.aio(
                *argv,
                app=await kept.app(plan.home),
                image=await kept.image(plan.image, plan.home),
                secrets=secrets,
                volumes=await _mounts(kept, plan),
                client=kept.client,
                **sandbox_kwargs(plan, gpu, name=name),
            )
            is_known = partial(self._is_known, name, kept.at_home(plan.home))
            sandbox = await (create if gpu is None else leaving_nothing(create, is_known))
        self._keep_handle(sandbox.object_id, sandbox)
        return sandbox.object_id

    async def _is_known(self, name: str, home: Home) -> bool:
        """Whether Modal knows a sandbox of this name that has not ended. An answer that does not come is a no."""
        try:
            async with bounded(f"look for the sandbox {name}", self._settings.rpc_timeout):
                await Sandbox.from_name.aio(home.app or "", name, environment_name=home.environment, client=self.session.client)
        except GatewayError:
            return False
        return True

    @renewing
    async def hand_over(self, sandbox_id: str, payload: bytes) -> None:
        """Write ``payload`` to stdin and close it. Repeating it is harmless: Modal drops what it has at that offset."""
        await self._objects()  # none that was given up hands anything over
        # A handle keeps the offset it reached: a second try must begin anew, so the handle is taken out until this succeeded.
        sandbox = self._sandboxes.pop(sandbox_id, None) or await self._look_up(sandbox_id, "hand the workload over")
        async with bounded("hand the workload over", self._settings.rpc_timeout):
            try:
                sandbox.stdin.write(payload)
                sandbox.stdin.write_eof()
                await sandbox.stdin.drain.aio()
            except ValueError as error:
                raise InvalidRequest(f"the sandbox {sandbox_id} takes no input any more: {error}") from error
            finally:
                # V2 writes through a connection of its own per sandbox; waiting needs none.
                await sandbox.detach.aio()  # type: ignore[no-untyped-call]
        self._keep_handle(sandbox_id, sandbox)

    @renewing
    async def find(self, name: str) -> SandboxStatus | None:
        """See ``Gateway.find``, in all Apps of the settings.

        Of V1 (GPU) sandboxes Modal finds only running ones by name.
        """
        kept = await self._objects()
        async with bounded(f"look for the sandbox {name}", self._settings.rpc_timeout):
            for home in map(kept.at_home, self._settings.homes):
                for include_terminated in (True, False):  # the first looks at V2 only, the second at running ones of both
                    try:
                        sandbox = await Sandbox.from_name.aio(
                            home.app or "",
                            name,
                            environment_name=home.environment,
                            include_terminated=include_terminated,
                            client=kept.client,
                        )
                        await sandbox.poll.aio()
                    except modal_errors.NotFoundError:
                        continue
                    return await _status(sandbox, name)
        return None

    @renewing
    async def status(self, sandbox_id: str) -> SandboxStatus | None:
        """See ``Gateway.status``. The name is not read. One call if it has ended, three if it runs."""
        kept = await self._objects()
        try:
            async with bounded(f"look at the sandbox {sandbox_id}", self._settings.rpc_timeout):
                end = await ended(kept.client, sandbox_id)
                if end is not None:
                    return SandboxStatus(sandbox_id=sandbox_id, name="", tags={}, end=end)
                return await _status(await Sandbox.from_id.aio(sandbox_id, client=kept.client), "")
        except NotFound:
            return None

    @renewing
    async def wait(self, sandbox_id: str) -> SandboxEnd:
        """Wait for the end, by the client's own long polls of 10 s."""
        sandbox = self._sandboxes.pop(sandbox_id, None) or await self._look_up(sandbox_id, "wait for")
        async with bounded(f"wait for the sandbox {sandbox_id}", None):
            with suppress(modal_errors.SandboxTimeoutError):  # an end like any other, read below
                await sandbox.wait.aio(raise_on_termination=False)
        end = end_of(sandbox)
        if end is None:
            raise Unavailable(f"could not wait for the sandbox {sandbox_id}: Modal gave no result")
        return end

    @renewing
    async def terminate(self, sandbox_id: str) -> None:
        """End a sandbox and wait until it has ended. One that Modal does not know has ended."""
        try:
            sandbox = await self._look_up(sandbox_id, "end")
            async with bounded(f"end the sandbox {sandbox_id}", self._settings.rpc_timeout):
                await sandbox.terminate.aio(wait=True)
        except NotFound:
            pass
        self._sandboxes.pop(sandbox_id, None)

    @renewing
    async def start_in(self, sandbox_id: str, argv: Sequence[str]) -> None:
        """Start a further process in a running sandbox. Its output goes nowhere: nobody would read it."""
        sandbox = await self._look_up(sandbox_id, "start a process in")
        async with bounded(f"start a process in the sandbox {sandbox_id}", self._settings.rpc_timeout):
            try:
                await sandbox.exec.aio(*argv, stdout=StreamType.DEVNULL, stderr=StreamType.DEVNULL)
            finally:
                await sandbox.detach.aio()  # type: ignore[no-untyped-call]

    @renewing
    async def list_running(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """All running sandboxes with these tags, in all Apps of the settings: a call a page."""
        return [status_of(info) async for page in self._pages(tags, with_tags=True) for info in page]

    async def running_ids(self, tags: Mapping[str, str]) -> AsyncGenerator[list[str], None]:
        """See ``Gateway.running_ids``. Where other credentials come into force meanwhile, it is for the caller to begin anew."""
        used = self.session.kept
        try:
            async for page in self._pages(tags, with_tags=False):
                yield [info.id for info in page]
        except Unauthenticated as error:
            if await self.session.renewed(used):
                raise Unavailable(f"{error}; others are in force now") from error
            raise self.session.explained(error) from error

    @renewing
    async def list_launch(self, tags: Mapping[str, str]) -> list[SandboxStatus]:
        """See ``Gateway.list_launch``: in all Apps of the settings, then in all of their environments.

        The second finds what runs in an App that was taken out of `namespaces` meanwhile.
        """
        found = [status_of(info) async for page in self._pages(tags, with_tags=True, ended_too=True) for info in page]
        homes = [] if found else self._settings.homes
        for environment in {home.environment or self._settings.environment for home in homes}:
            try:
                found += await self._in_all_apps(environment, tags)
            except NotFound:
                if environment == self._settings.environment:
                    raise  # of `namespaces`, one that is gone has none
        return found

    async def _in_all_apps(self, environment: str | None, tags: Mapping[str, str]) -> list[SandboxStatus]:
        kept, seconds = await self._objects(), self._settings.rpc_timeout
        async with bounded("look for a sandbox in all Apps", None):
            listing = pages(kept.client, "", tags, seconds=seconds, with_tags=True, environment=environment or "", ended_too=True)
            return [status_of(info) async for page in listing for info in page]

    async def _pages(self, tags: Mapping[str, str], *, with_tags: bool, ended_too: bool = False) -> AsyncIterator[Infos]:
        """Yield the pages of all Apps. One whose environment is gone has none; if another cannot be listed, all fails."""
        for home in self._settings.homes:
            listing = self._pages_of(home, tags, with_tags=with_tags, ended_too=ended_too)
            while True:
                try:
                    async with bounded("list the running sandboxes", None):  # each page has its own bound
                        page = await anext(listing)
                except StopAsyncIteration:
                    break
                except NotFound:
                    if home == MODALFLOWS:
                        raise
                    break
                yield page

    async def _pages_of(self, home: Home, tags: Mapping[str, str], *, with_tags: bool, ended_too: bool) -> AsyncIterator[Infos]:
        kept, seconds = await self._objects(), self._settings.rpc_timeout
        async with asyncio.timeout(seconds):
            app = await kept.app(home)
        try:
            async for page in pages(
                kept.client, app.app_id or "", tags, seconds=seconds, with_tags=with_tags, ended_too=ended_too
            ):
                yield page
        except modal_errors.NotFoundError:
            kept.forget()  # the App is not the one of before: the next listing looks it up again
            raise

    async def output_tail(self, sandbox_id: str, *, max_bytes: int) -> str:
        """The last ``max_bytes`` of stdout, then of stderr. Empty when Modal has none or does not answer soon."""
        kept: list[deque[str]] = [deque(), deque()]
        try:
            async with bounded(f"read the output of the sandbox {sandbox_id}", TAIL_LIMIT):
                sandbox = await self._look_up(sandbox_id, "read the output of")
                try:
                    await asyncio.gather(
                        _keep_last(aiter(sandbox.stdout), kept[0], max_bytes),
                        _keep_last(aiter(sandbox.stderr), kept[1], max_bytes),
                    )
                finally:
                    await sandbox.detach.aio()  # type: ignore[no-untyped-call]
        except (GatewayError, UnicodeDecodeError):
            pass  # what was read until then is all there is; the exit code tells the rest
        return "".join(part for lines in kept for part in lines)

    @renewing
    async def append_log(self, volume: str, path: str, text: str) -> None:
        """Add ``text`` to the file ``path`` of the log Volume: read, changed, written. The Volume is created if missing."""
        try:
            await self._append(volume, path, text)
        except NotFound:
            (await self._objects()).forget()  # the server was reset, or the Volume deleted
        else:
            return
        await self._append(volume, path, text)

    async def _append(self, volume: str, path: str, text: str) -> None:
        kept = await self._objects()
        async with bounded(f"write to Volume {volume}", self._settings.rpc_timeout):
            handle = await kept.whole_volume(volume, version=LOG_VOLUME_VERSION, create_if_missing=True)
            try:
                before = b"".join([chunk async for chunk in handle.read_file.aio(path)])
            except FileNotFoundError:
                before = b""
            async with handle.batch_upload.aio(force=True) as batch:
                batch.put_file(io.BytesIO(before + text.encode()), path)

    def ping(self, answer: Callable[[], None]) -> None:
        """See ``Gateway.ping``: the client makes all its calls on a thread of its own."""

        def answered() -> None:
            self._unanswered = None
            answer()

        self._unanswered = client_thread.current()
        client_thread.ask(answered)

    def stack(self) -> str:
        """See ``Gateway.stack``."""
        return client_thread.stack()

    def successor(self) -> ModalGateway:
        """See ``Gateway.successor``: what this one has on the way to Modal is cut off before the successor connects."""
        self.session.give_up()
        if self._unanswered is not None:
            log.error("modalflow: the thread of Modal's client answers no more; another one takes its place")
            client_thread.replace(self._unanswered)
            self.session.lose()  # there is nothing that could be cut off
            return ModalGateway(self._given_settings, read=self._read)
        following = ModalGateway(self._given_settings, read=self._read, client=self._given_client)
        following.session.succeed(self.session)
        return following

    async def close(self) -> None:
        """Close the client, if it is ours."""
        self._sandboxes.clear()
        await self.session.close()

    async def __aenter__(self) -> Self:
        await self._objects()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def rpc_timeout(self) -> float:
        """Seconds that a single call to Modal may take."""
        return self._settings.rpc_timeout

    async def objects(self) -> KeptObjects:
        """Return what is kept of this connection, for what speaks to Modal beside this class (``code_volume``)."""
        return await self._objects()

    async def _objects(self) -> KeptObjects:
        return await self.session.objects()

    def _keep_handle(self, sandbox_id: str, sandbox: Sandbox) -> None:
        """Keep a handle for the next call, which saves it a look-up; of many sandboxes only the latest ``HANDLES``."""
        self._sandboxes[sandbox_id] = sandbox
        if len(self._sandboxes) > HANDLES:
            del self._sandboxes[next(iter(self._sandboxes))]

    async def _look_up(self, sandbox_id: str, doing: str) -> Sandbox:
        kept = await self._objects()
        async with bounded(f"{doing} the sandbox {sandbox_id}", self._settings.rpc_timeout):
            return await Sandbox.from_id.aio(sandbox_id, client=kept.client)


async def _status(sandbox: Sandbox, name: str) -> SandboxStatus:
    """Return what is known of a sandbox; its tags only while it runs, which is when they are of use."""
    end = end_of(sandbox)
    tags: dict[str, str] = {}
    if end is None:
        with suppress(modal_errors.NotFoundError):  # ended meanwhile
            tags = await sandbox.get_tags.aio()
    return SandboxStatus(sandbox_id=sandbox.object_id, name=name, tags=tags, end=end)


async def _mounts(kept: KeptObjects, plan: SandboxPlan) -> dict[str | os.PathLike[str], Volume | CloudBucketMount]:
    """Return what is mounted, by path."""
    mounts: dict[str | os.PathLike[str], Volume | CloudBucketMount] = {}
    for volume in plan.volumes:
        mounts[volume.mount_path] = await kept.volume(volume, plan.home)
    for bucket in plan.buckets:
        mounts[bucket.mount_path] = await kept.bucket(bucket.bucket, plan.home)
    return mounts


async def _keep_last(stream: AsyncIterator[str], kept: deque[str], max_bytes: int) -> None:
    """Read a stream to its end and keep about the last ``max_bytes`` (characters, which is close enough)."""
    size = 0
    async for part in stream:
        kept.append(part[-max_bytes:])
        size += len(kept[-1])
        while size > max_bytes and len(kept) > 1:
            size -= len(kept.popleft())
