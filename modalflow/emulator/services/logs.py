"""Output of sandboxes through the control plane: V1 streams, and the log pages that work while they run and after."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.image_builds import Build
from modalflow.emulator.machines.output import STDERR, STDOUT, LogLine
from modalflow.emulator.services.app_views import find_app
from modalflow.emulator.services.log_following import Follower
from modalflow.emulator.services.sandbox_calls import find
from modalflow.emulator.state.store import Sandbox, Workspace
from modalflow.emulator.wire import Call, Service, fail, streaming, unary

_FDS = {
    api_pb2.FILE_DESCRIPTOR_UNSPECIFIED: (STDOUT, STDERR),
    api_pb2.FILE_DESCRIPTOR_STDOUT: (STDOUT,),
    api_pb2.FILE_DESCRIPTOR_STDERR: (STDERR,),
    api_pb2.FILE_DESCRIPTOR_INFO: (),
}
_DESCRIPTOR = {STDOUT: api_pb2.FILE_DESCRIPTOR_STDOUT, STDERR: api_pb2.FILE_DESCRIPTOR_STDERR}
_FOLLOW_SECONDS = 0.1
"""How often a followed App's output is looked at; many sandboxes may be behind it."""


class Logs(Service):
    """SandboxGetLogs, AppFetchLogs, AppCountLogs, AppGetLogs."""

    @streaming
    async def SandboxGetLogs(self, request: api_pb2.SandboxGetLogsRequest, call: Call) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """Stream one output of a V1 sandbox as text, from ``last_entry_id`` (a byte offset) on, for ``timeout`` seconds.

        An entry id never points into a character: the client continues there after an interruption.
        """
        sandbox = find(call.workspace, request.sandbox_id)
        fds = _FDS[request.file_descriptor] or (STDOUT,)
        stream = self.core.sandboxes.machine(sandbox).output.streams[fds[0]]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        offset = _entry(request.last_entry_id)
        deadline = time.monotonic() + request.timeout if request.timeout else None
        while deadline is None or time.monotonic() < deadline:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if deadline is None else deadline - time.monotonic()):
                    await stream.wait_beyond(offset)
            chunks = stream.available(offset)
            for chunk in chunks:
                offset = chunk.offset + len(chunk.data)
                text = decoder.decode(chunk.data)
                pending = len(decoder.getstate()[0])
                yield _batch(sandbox, [LogLine(fds[0], text, chunk.time_ns)], str(offset - pending), precise=False)
            if stream.ended and (offset >= stream.size or not chunks):
                if cut := decoder.decode(b"", final=True):
                    yield _batch(sandbox, [LogLine(fds[0], cut, time.time_ns())], str(offset), precise=False)
                yield api_pb2.TaskLogsBatch(task_id=sandbox.task_id, entry_id=str(offset), eof=True)
                return

    @unary
    async def AppFetchLogs(self, request: api_pb2.AppFetchLogsRequest, call: Call) -> api_pb2.AppFetchLogsResponse:
        """Return the newest ``limit`` lines of a time range, the oldest of them first."""
        found = self._lines(call.workspace, request)
        low, high = _ns(request, "since", 0), _ns(request, "until", time.time_ns() + 1_000_000_000)
        found = [(sandbox, line) for sandbox, line in found if low <= line.time_ns < high]
        if request.limit:
            found = found[-request.limit :]
        return api_pb2.AppFetchLogsResponse(batches=list(_batches(found)))

    @unary
    async def AppCountLogs(self, request: api_pb2.AppCountLogsRequest, call: Call) -> api_pb2.AppCountLogsResponse:
        """Count the lines of a time range by buckets of ``bucket_secs``, aligned to the epoch."""
        width = (request.bucket_secs or 60) * 1_000_000_000
        low, high = _ns(request, "since", 0), _ns(request, "until", time.time_ns() + 1)
        buckets: dict[int, api_pb2.AppCountLogsResponse.LogBucket] = {}
        for _, line in self._lines(call.workspace, request):
            if not low <= line.time_ns < high:
                continue
            start = line.time_ns // width * width
            bucket = buckets.setdefault(
                start, api_pb2.AppCountLogsResponse.LogBucket(bucket_start_at=Timestamp(seconds=start // 1_000_000_000))
            )
            if line.fd == STDOUT:
                bucket.stdout_logs += 1
            else:
                bucket.stderr_logs += 1
        return api_pb2.AppCountLogsResponse(app_id=request.app_id, buckets=[buckets[start] for start in sorted(buckets)])

    @streaming
    async def AppGetLogs(self, request: api_pb2.AppGetLogsRequest, call: Call) -> AsyncIterator[api_pb2.TaskLogsBatch]:
        """Follow an App, or one of its sandboxes, line by line for ``timeout`` seconds."""
        last = _entry(request.last_entry_id)
        follower = Follower(_FDS[request.file_descriptor], last)
        deadline = time.monotonic() + request.timeout
        while True:
            chosen = self._chosen(call.workspace, request)
            ended = self._all_ended(call.workspace, request, chosen)
            fresh: list[tuple[_Writer, LogLine]] = [
                (sandbox, line)
                for sandbox in chosen
                for line in follower.fresh(sandbox.sandbox_id, self.core.sandboxes.machine(sandbox).output)
                if request.search_text in line.text
            ]
            fresh.sort(key=lambda pair: pair[1].time_ns)
            for batch in _batches(fresh):
                yield batch
            last = max([last, *(line.time_ns for _, line in fresh)])
            if ended:
                yield api_pb2.TaskLogsBatch(entry_id=str(last), app_done=True)
                return
            if time.monotonic() >= deadline:
                return
            await asyncio.sleep(_FOLLOW_SECONDS)

    def _chosen(self, workspace: Workspace, request: _LogRequest) -> list[Sandbox]:
        """Return the sandboxes that are meant; a container or sandbox need not be told with its App."""
        if request.app_id or not (request.task_id or request.sandbox_id):
            find_app(workspace, request.app_id)
        if request.function_id or request.function_call_id:
            return []
        return [
            sandbox
            for sandbox in workspace.sandboxes.values()
            if request.app_id in ("", sandbox.app_id)
            and request.task_id in ("", sandbox.task_id)
            and request.sandbox_id in ("", sandbox.sandbox_id)
        ]

    def _all_ended(self, workspace: Workspace, request: api_pb2.AppGetLogsRequest, chosen: Sequence[Sandbox]) -> bool:
        """Whether nothing more can come: the App was stopped, or one container is asked for; and what ran has ended."""
        if not (request.task_id or request.sandbox_id) and workspace.apps[request.app_id].stopped_at is None:
            return False
        return all(sandbox.result is not None for sandbox in chosen)

    def _lines(
        self, workspace: Workspace, request: api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest
    ) -> list[tuple[_Writer, LogLine]]:
        fds = _FDS[request.source]
        build = self.core.builds.of_task(workspace, request.task_id) if request.task_id else None
        if build is not None and build.app_id == request.app_id:
            return [(build, line) for line in build.log.since(0) if line.fd in fds and request.search_text in line.text]
        found: list[tuple[_Writer, LogLine]] = [
            (sandbox, line)
            for sandbox in self._chosen(workspace, request)
            for line in self.core.sandboxes.machine(sandbox).output.lines(fds)
            if request.search_text in line.text
        ]
        return sorted(found, key=lambda pair: pair[1].time_ns)


_Writer = Sandbox | Build
"""What has a task id and a log."""

_LogRequest = api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest | api_pb2.AppGetLogsRequest


def _ns(request: api_pb2.AppFetchLogsRequest | api_pb2.AppCountLogsRequest, field: str, default: int) -> int:
    if not request.HasField(field):  # type: ignore[arg-type]
        return default
    stamp: Timestamp = getattr(request, field)
    return stamp.ToNanoseconds()


def _batches(found: Sequence[tuple[_Writer, LogLine]]) -> Iterator[api_pb2.TaskLogsBatch]:
    for sandbox, group in groupby(found, key=lambda pair: pair[0]):
        lines = [line for _, line in group]
        yield _batch(sandbox, lines, str(lines[-1].time_ns))


def _batch(sandbox: _Writer, lines: Sequence[LogLine], entry_id: str, *, precise: bool = True) -> api_pb2.TaskLogsBatch:
    """``precise``: with nanoseconds, which JavaScript clients to 0.7.6 cannot read: beyond what a number of theirs holds."""
    return api_pb2.TaskLogsBatch(
        task_id=sandbox.task_id,
        sandbox_id=sandbox.sandbox_id,
        entry_id=entry_id,
        items=[
            api_pb2.TaskLogs(
                data=line.text,
                file_descriptor=_DESCRIPTOR[line.fd],
                timestamp=line.time_ns / 1_000_000_000,
                timestamp_ns=line.time_ns if precise else 0,
                container_id=sandbox.task_id,
            )
            for line in lines
        ],
    )


def _entry(entry_id: str) -> int:
    """Return the number that an entry id is, 0 for none; INVALID_ARGUMENT for what we never gave out.

    The JavaScript client names the start ``0-0`` (npm modal 0.11.1).
    """
    if entry_id == "0-0":
        return 0
    if not (entry_id or "0").isdecimal():
        fail(Status.INVALID_ARGUMENT, f"last_entry_id: expected what an entry came with, got {entry_id!r}")
    return int(entry_id or 0)
