"""Task logs as Modal has them: the files of the log Volume, and what a running sandbox has printed.

For processes that show or keep logs: the API server, the triggerer. Flows in: a log path or a sandbox id. Flows out: lines, and
only ``GatewayError`` when something is wrong. Everything is plain functions, bounded in time, callable from any thread;
``provider.remote_task_log`` and ``provider.task_logs`` call them. Tasks write their logs to the Volume's mount themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import IO, Any, TypeVar

from modal import Client, Sandbox, Volume

from modalflow.launch.credentials import ReadStored
from modalflow.launch.gateway import GatewayError, NotFound, Unauthenticated, Unavailable
from modalflow.modal_gateway.connection import Credentials, open_client, read_credentials
from modalflow.modal_gateway.errors import bounded
from modalflow.settings import LaunchSettings

log = logging.getLogger(__name__)

T = TypeVar("T")

IN_MEMORY = 4 * 1024 * 1024
"""Bytes of one log file that are kept in memory; a larger one goes through a temporary file. Modal's blocks are 8 MiB."""
LOG_VOLUME_VERSION = 2
LOOK_UP = 10.0
"""Seconds for each look at what there is: a page is waiting."""
REST = 15.0
"""Seconds after Modal did not answer in which nobody asks it again: the log pages of all tasks come here, Modal's or not."""
FIRST_OUTPUT = 2.0
"""Seconds that a running sandbox has to answer with the first of its output."""
NEXT_OUTPUT = 0.25
"""Seconds without more output after which we have all that there is now: the stream of a running sandbox does not end."""
ALL_OUTPUT = 5.0
"""Seconds for all of it; the page that shows a log asks again every few seconds."""
SUPERVISOR_LOGGERS = frozenset({"supervisor", "airflow.sdk.api.client"})
"""Loggers of Airflow's supervisor itself (3.3.2). Its lines are on stdout but not in the task's log file, and must not show
while a task runs: the page counts lines, and would skip as many once the file alone is shown."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LogFile:
    """One file of the log Volume, already here. ``lines`` may be called once."""

    path: str
    content: IO[bytes]

    def lines(self) -> Iterator[str]:
        """Yield its lines without their ends; bytes that are not UTF-8 are replaced."""
        with self.content as content:
            content.seek(0)
            for line in content:
                yield line.decode(errors="replace").rstrip("\n")


class LogAccess:
    """Modal as one process reads logs from it: one connection, opened on first need and anew after a failure or a fork.

    ``read`` reads the Airflow connection with the token, anew where Modal refuses it.
    """

    def __init__(self, settings: LaunchSettings, read: ReadStored | None = None) -> None:
        self._settings = settings
        self._read = read
        self._credentials: Credentials | None = None
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._pid = 0
        self._resting_until = 0.0
        self._last_failure = ""

    @property
    def _look_up(self) -> float:
        return min(LOOK_UP, self._settings.rpc_timeout)

    def files(self, log_path: str, *, seen: set[str] | None = None) -> list[LogFile]:
        """Return the files of the log Volume whose names begin with ``log_path``, that one first; none if there are none.

        That is how Airflow's own reader looks on disk: ``<log_path>``, ``<log_path>.<start>.<sandbox id>.log`` in the order of
        their starts, ``<log_path>.modalflow.log``, ``<log_path>.trigger.<n>.log``. Raises ``GatewayError``.

        ``seen`` has the ids of Volumes that were read already, and gets this one's: two tokens may lead to the same.
        """
        path = PurePosixPath(log_path)
        return self._run(f"read the log {path}", self._settings.rpc_timeout, lambda client: self._files(client, path, seen))

    def output(self, sandbox_id: str) -> list[str]:
        """Return the log lines that a running sandbox has printed so far, as Modal still has them. Raises ``GatewayError``."""
        doing = f"read the output of {sandbox_id}"
        return log_lines(self._run(doing, self._look_up + ALL_OUTPUT, lambda client: _output(client, sandbox_id)))

    def write(self, log_path: str, content: bytes) -> None:
        """Put one whole file on the log Volume, which is created if missing. Raises ``GatewayError``."""
        doing = f"write the log {log_path}"
        self._run(doing, self._settings.rpc_timeout, lambda client: self._write(client, log_path, content))

    def close(self) -> None:
        """Close the connection; the next call opens another. Raises ``GatewayError``."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None and self._pid == os.getpid():
            in_thread(_close(client))

    async def _volume(self, client: Client, *, create: bool = False) -> Volume:
        volume = Volume.from_name(
            self._settings.logs_volume or "",
            environment_name=self._settings.environment or (self._credentials.environment if self._credentials else None),
            create_if_missing=create,
            version=LOG_VOLUME_VERSION if create else None,
        )
        await volume.hydrate.aio(client)
        return volume

    async def _files(self, client: Client, log_path: PurePosixPath, seen: set[str] | None) -> list[LogFile]:
        try:
            async with bounded(f"look for the log {log_path}", self._look_up):
                volume, names = await self._list(client, str(log_path.parent), seen)
        except (NotFound, FileNotFoundError):  # nothing ran yet in this folder, or at all
            return []
        paths = [str(log_path.parent / name) for name in sorted(names) if name.startswith(log_path.name)]
        return [file for path in paths if (file := await _file(volume, path)) is not None]

    async def _list(self, client: Client, folder: str, seen: set[str] | None) -> tuple[Volume, list[str]]:
        volume = await self._volume(client)
        if seen is not None:
            if volume.object_id in seen:
                return volume, []
            seen.add(volume.object_id)
        entries = await volume.listdir.aio(folder)
        return volume, [PurePosixPath(entry.path).name for entry in entries if entry.type.name == "FILE"]

    async def _write(self, client: Client, log_path: str, content: bytes) -> None:
        volume = await self._volume(client, create=True)
        async with volume.batch_upload.aio(force=True) as batch:
            batch.put_file(BytesIO(content), log_path)

    def _run(self, doing: str, seconds: float, make: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        async def run(client: Client) -> T:
            async with bounded(doing, seconds):
                return await make(client)

        try:
            return self._with_valid_token(run)
        except Unavailable as error:
            self.close()
            with self._lock:
                self._resting_until = time.monotonic() + REST
                self._last_failure = str(error)
            raise

    def _with_valid_token(self, run: Callable[[Client], Coroutine[Any, Any, T]]) -> T:
        """Run it; once more if Modal refuses the token and the connection holds another by now."""
        client, used = self._connected()
        try:
            return in_thread(run(client))
        except Unauthenticated as error:
            self.close()
            client, found = self._connected()
            if found == used:
                raise used.explained(error) from error
        try:
            return in_thread(run(client))
        except Unauthenticated as error:
            raise found.explained(error) from error

    def _connected(self) -> tuple[Client, Credentials]:
        async def connect() -> tuple[Client, Credentials]:
            found = await read_credentials(self._read, self._look_up)
            async with bounded("connect to Modal", self._look_up):
                return await open_client(found), found

        with self._lock:
            if time.monotonic() < self._resting_until:
                raise Unavailable(f"Modal is left alone for a moment: {self._last_failure}")
            if self._client is None or self._credentials is None or self._pid != os.getpid():
                (self._client, self._credentials), self._pid = in_thread(connect()), os.getpid()
            return self._client, self._credentials


class LogsOfAccounts:
    """The logs of several accounts: a task's are in the one that it ran in, and the executor's lines in the first."""

    def __init__(self, accounts: Sequence[LogAccess]) -> None:
        """Look in these, the deployment's own first."""
        self._accounts = tuple(accounts)

    def files(self, log_path: str) -> list[LogFile]:
        """See ``LogAccess.files``: of all accounts that answer. Raises ``GatewayError`` if one does not and no other has any."""
        found: list[LogFile] = []
        failed: list[GatewayError] = []
        seen: set[str] = set()
        for account in self._accounts:
            try:
                found += account.files(log_path, seen=seen)
            except GatewayError as error:
                log.warning("modalflow: one of several accounts: %s", error)
                failed.append(error)
        if failed and not found:
            raise failed[0]
        return found

    def output(self, sandbox_id: str) -> list[str]:
        """See ``LogAccess.output``: of the account that knows the sandbox."""
        failed: list[GatewayError] = []
        for account in self._accounts:
            try:
                return account.output(sandbox_id)
            except GatewayError as error:
                failed.append(error)
        raise next((error for error in failed if not isinstance(error, NotFound)), failed[0])

    def write(self, log_path: str, content: bytes) -> None:
        """See ``LogAccess.write``: in the deployment's own account."""
        self._accounts[0].write(log_path, content)

    def close(self) -> None:
        """Close all."""
        for account in self._accounts:
            account.close()


def in_thread(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own in a thread of its own, and wait for it: the caller may be on a loop itself."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(asyncio.run(coroutine))
        except BaseException as error:  # the caller gets it from the future
            done.set_exception(error)

    threading.Thread(target=run, daemon=True, name="modalflow-logs").start()
    return done.result()


async def _close(client: Client) -> None:
    async with bounded("close the connection to Modal", LOOK_UP):
        await client.close.aio()


async def _file(volume: Volume, path: str) -> LogFile | None:
    """Fetch one file block by block; ``None`` if it is gone."""
    content: IO[bytes] = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - LogFile.lines closes it
    try:
        async for block in volume.read_file.aio(path):
            content.write(block)
    except FileNotFoundError:
        content.close()
        return None
    except BaseException:
        content.close()
        raise
    return LogFile(path=path, content=content)


async def _output(client: Client, sandbox_id: str) -> str:
    sandbox = await Sandbox.from_id.aio(sandbox_id, client=client)
    try:
        return "".join([part async for part in available(aiter(sandbox.stdout))])
    finally:
        detach: Any = sandbox.detach  # its stub has no types (modal 1.6.4)
        await detach.aio()


async def available(stream: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield what a stream has now: until it ends, pauses for ``NEXT_OUTPUT`` seconds, or ``ALL_OUTPUT`` have gone by.

    The clock is looked at: ``asyncio.timeout`` around ``wait_for`` is lost where a part comes in the same turn of the loop, for
    ``wait_for`` then gives the part and drops the cancellation (Python 3.11).
    """
    clock = asyncio.get_running_loop().time
    end, wait = clock() + ALL_OUTPUT, FIRST_OUTPUT
    with suppress(TimeoutError, StopAsyncIteration):
        while (left := end - clock()) > 0:
            part = await asyncio.wait_for(anext(stream), min(wait, left))
            wait = NEXT_OUTPUT
            yield part


def log_lines(output: str) -> list[str]:
    """Return the lines of a sandbox's stdout that are in the task's log file too: whole JSON records of the task."""
    lines = output.split("\n")[:-1]
    return [line for line in lines if _is_of_the_task(line)]


def _is_of_the_task(line: str) -> bool:
    try:
        record = json.loads(line)
    except ValueError:
        return False
    return isinstance(record, dict) and record.get("logger") not in SUPERVISOR_LOGGERS
