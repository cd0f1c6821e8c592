"""Local processes for sandboxes and execs: started and killed through the spawner, their stdio kept in memory.

Flows in: argv, environment and working folder of one process. Flows out: a ``Process`` with its ``Output``, its stdin and its
end. The other side of the socket is ``spawner``; the two kinds of ``containers`` are the users.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modalflow.emulator.machines.output import STDERR, STDOUT, Output, Stream
from modalflow.emulator.machines.spawner import kill_quietly, process_table, remove_groups, scope_of
from modalflow.emulator.machines.terminals import ConsoleSocket, Terminal

_SPAWNER = Path(__file__).with_name("spawner.py")
_DRAIN_SECONDS = 0.5
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class StdinClosedError(Exception):
    """The process no longer reads: it ended, closed its stdin, or was told that no more would come."""


class StdinOffsetError(Exception):
    """A write at an offset past what has been written: bytes are missing in between."""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: ``code`` as a shell would say it (128 + n for signal n), and the ``signal`` if it was one.

    ``error`` tells why it could not be started at all; ``out_of_memory`` that it was killed at its memory limit.
    """

    code: int
    signal: int = 0
    error: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """What an OCI runtime is to find: ``folder`` (in the spawner's memory), ``files`` as JSON, the ``network`` to join."""

    folder: Path
    files: Mapping[str, object]
    network: Path | None = None


class _OutputPipe(asyncio.Protocol):
    """Reads one output of a process. ``open_pipes`` holds it as long as it is open."""

    def __init__(self, stream: Stream, open_pipes: set[_OutputPipe]) -> None:
        self._stream = stream
        self._open_pipes = open_pipes
        self._transport: asyncio.BaseTransport | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._open_pipes.add(self)

    def close(self) -> None:
        """Read no more."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._stream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- the protocol's signature
        self._open_pipes.discard(self)
        self._stream.end()
        if not self.closed.done():
            self.closed.set_result(None)


class Process:
    """One process, from the request on: it may not have started yet."""

    def __init__(self, key: str, spawner: Spawner, stdin_fd: int | None, output: Output) -> None:
        loop = asyncio.get_running_loop()
        self.key = key
        self.output = output
        self.exited: asyncio.Future[Exit] = loop.create_future()
        self.started = asyncio.Event()
        """It runs, or has ended or failed."""
        self.pid: int | None = None
        """Its id as the spawner sees it."""
        self.verdict: Callable[[Exit], Exit] = lambda end: end
        """Called once with how it ended; returns the same with what else is known of it."""
        self._spawner = spawner
        self.overdue_at: float | None = None
        """When it was killed since its time was over, on the loop's clock."""
        self._stdin_fd = stdin_fd
        self._stdin_lock = asyncio.Lock()
        self.stdin_offset = 0
        self.stdin_closed = False
        self.terminal: Terminal | None = None
        self.adopted: asyncio.Future[None] | None = None
        """A terminal that is made elsewhere was taken over and has ended."""

    async def write_stdin(self, offset: int, data: bytes, *, eof: bool) -> None:
        """Write ``data`` that belongs at byte ``offset`` of stdin; what is there already is skipped, so a retry is harmless."""
        async with self._stdin_lock:
            if offset > self.stdin_offset:
                raise StdinOffsetError(f"stdin is at byte {self.stdin_offset}, got data for byte {offset}")
            fresh = data[self.stdin_offset - offset :]
            if fresh:
                await self._write(fresh)
            if eof:
                self.close_stdin()

    async def _write(self, data: bytes) -> None:
        if self._stdin_fd is None or self.exited.done():
            raise StdinClosedError("the process no longer reads its stdin")
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._stdin_fd, view)
                # Counted at once: a client that is cut off in the middle comes back with the whole.
                self.stdin_offset += written
                view = view[written:]
            except BlockingIOError:
                await self._writable()
            except BrokenPipeError as error:
                self.close_stdin()
                raise StdinClosedError("the process closed its stdin") from error

    async def _writable(self) -> None:
        """Return when the pipe takes more, or the process has ended."""
        loop = asyncio.get_running_loop()
        fd = self._stdin_fd
        if fd is None:
            raise StdinClosedError("the process no longer reads its stdin")
        ready = loop.create_future()
        loop.add_writer(fd, _set, ready)
        try:
            await asyncio.wait([ready, self.exited], return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_writer(fd)
        if self.exited.done():
            raise StdinClosedError("the process has ended")

    def close_stdin(self) -> None:
        """No more will be written; the process reads end of file, which on a terminal is Control-D."""
        self.stdin_closed = True
        if self._stdin_fd is not None:
            if self.terminal is not None and not self.exited.done():
                with contextlib.suppress(OSError):  # it is full, or hung up
                    os.write(self._stdin_fd, b"\x04")
            os.close(self._stdin_fd)
            self._stdin_fd = None

    def interrupt(self) -> None:
        """SIGINT to the process alone. No effect after its end."""
        if not self.exited.done():
            self._spawner.request({"op": "interrupt", "key": self.key})

    def attach(self, stdin_fd: int) -> None:
        """Write stdin there from now on."""
        self._stdin_fd = stdin_fd

    def kill(self) -> None:
        """SIGKILL to the process and its group. No effect after its end."""
        if not self.exited.done():
            self._spawner.request({"op": "kill", "key": self.key})


class Spawner:
    """The emulator's end of the spawner process."""

    def __init__(self) -> None:
        self._popen: subprocess.Popen[bytes] | None = None
        self._group = ""
        self._control: socket.socket | None = None
        self._processes: dict[str, tuple[Process, list[asyncio.Future[None]]]] = {}
        self._backlog: list[tuple[bytes, list[int]]] = []
        self._keys = itertools.count()
        self._open_pipes: set[_OutputPipe] = set()
        self._finishing: set[asyncio.Future[None]] = set()

    async def start(self, folder: Path, *, wrapper: Sequence[str] = (), group: str = "") -> None:
        """Start the spawner process, by ``wrapper`` if there is one, which ends with exec.

        It removes ``folder`` and the control group ``group`` should the emulator be killed.
        """
        self._group = group
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # The environment is empty: nothing of the emulator's may leak into what it starts.
            self._popen = subprocess.Popen(  # noqa: S603, ASYNC220 -- once, at start
                [*wrapper, sys.executable, "-I", "-S", str(_SPAWNER), str(theirs.fileno()), str(os.getpid()), str(folder), group],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={"PATH": _SYSTEM_PATH},
                start_new_session=True,
            )
        ours.setblocking(False)  # noqa: FBT003
        self._control = ours
        asyncio.get_running_loop().add_reader(ours, self._receive)

    async def stop(self) -> None:
        """Kill every process and return when the spawner is gone."""
        self._lost()
        if self._popen is not None:
            await asyncio.to_thread(self._popen.wait)
            self._popen = None
            if self._group:  # the spawner has done it, unless it was killed
                await asyncio.to_thread(remove_groups, self._group)
        for pipe in list(self._open_pipes):
            pipe.close()
        await asyncio.sleep(0)  # they tell so in the loop's next turn

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        scope: str,
        main: bool,
        output: Output,
        bundle: Bundle | None = None,
        terminal: Terminal | None = None,
        memory: int = 0,
    ) -> Process:
        """Ask for a process in a session of its own. Returns at once; a failure to start shows as its end, code 127 or 126.

        With a ``bundle`` ``argv`` is an OCI runtime that leaves its process's id in the bundle: that one is meant from then on.
        A ``terminal`` is its stdin, stdout and stderr; in a container it is the runtime that makes it (``adopt``).
        ``memory``: bytes that it may allocate, 0 for any; each of its children as many.
        """
        self._check()
        content: dict[str, object] = {"argv": list(argv), "env": dict(env), "cwd": str(cwd)}
        if bundle is not None:
            content |= {"bundle": str(bundle.folder), "files": dict(bundle.files)}
        elif terminal is not None:
            content["terminal"] = True
        if memory:
            content["memory"] = memory
        with contextlib.ExitStack() as opened:
            child_ends, our_ends = _open_stdio(opened, terminal, made_elsewhere=bundle is not None)
            order = os.memfd_create("order", os.MFD_CLOEXEC)
            opened.callback(os.close, order)
            _write_all(order, json.dumps(content).encode())
            if bundle is not None and bundle.network is not None:
                child_ends.append(os.open(bundle.network, os.O_RDONLY | os.O_CLOEXEC))
            opened.pop_all()
        stdin, outputs = (our_ends[0] if our_ends else None), our_ends[1:]
        if stdin is not None:
            os.set_blocking(stdin, False)
        process = Process(f"{scope}.{next(self._keys)}", self, stdin, output)
        process.terminal = terminal
        pipes: list[asyncio.Future[None]] = []
        try:
            for fd, stream in zip(outputs, (STDOUT, STDERR), strict=False):  # a terminal has but one
                pipes.append(await self._connect(fd, output.streams[stream]))
            self._check()  # it may have died meanwhile
        except BaseException:  # also if the caller gives up
            process.close_stdin()
            # asyncio closes the one that it was at; those before it end with the child's ends.
            _close_all([order, *child_ends, *outputs[len(pipes) + 1 :]])
            raise
        if not outputs:
            process.adopted = asyncio.get_running_loop().create_future()
            pipes.append(process.adopted)
        self._processes[process.key] = (process, pipes)
        self.request({"op": "spawn", "key": process.key, "scope": scope, "main": main}, [order, *child_ends])
        return process

    async def adopt(self, process: Process, console: ConsoleSocket) -> None:
        """Take the terminal that the runtime made for the process, once it runs; output and stdin are there."""
        assert process.adopted is not None  # noqa: S101 -- it was spawned with a terminal and a bundle
        assert process.terminal is not None  # noqa: S101
        await process.started.wait()
        fd = console.take()
        if fd is None:
            _set(process.adopted)
            return
        process.terminal.resize(fd)
        if not process.exited.done():
            writing = os.dup(fd)
            os.set_blocking(writing, False)
            process.attach(writing)
        closed, adopted = await self._connect(fd, process.output.streams[STDOUT]), process.adopted
        closed.add_done_callback(lambda _: _set(adopted))

    def _check(self) -> None:
        if self._control is None:
            raise ConnectionError("the emulator's process spawner is gone")

    async def _connect(self, fd: int, stream: Stream) -> asyncio.Future[None]:
        """Read ``fd`` into ``stream``; the future is done when it has ended."""
        file = os.fdopen(fd, "rb", buffering=0)
        _, pipe = await asyncio.get_running_loop().connect_read_pipe(lambda: _OutputPipe(stream, self._open_pipes), file)
        return pipe.closed

    def request(self, message: Mapping[str, object], fds: list[int] | None = None) -> None:
        """Send one request; the descriptors are closed here once they are on their way."""
        self._backlog.append((json.dumps(message).encode(), fds or []))
        self._flush()

    def _flush(self) -> None:
        control = self._control
        if control is None:
            for _, fds in self._backlog:
                _close_all(fds)
            self._backlog.clear()
            return
        loop = asyncio.get_running_loop()
        while self._backlog:
            data, fds = self._backlog[0]
            try:
                socket.send_fds(control, [data], fds)
            except BlockingIOError:
                loop.add_writer(control, self._flush)
                return
            except (BrokenPipeError, ConnectionResetError):
                self._lost()
                return
            self._backlog.pop(0)
            _close_all(fds)
        loop.remove_writer(control)

    def _receive(self) -> None:
        control = self._control
        while control is not None and control is self._control:
            try:
                data = control.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            if not data:
                self._lost()
                return
            self._handle(json.loads(data))

    def _handle(self, event: dict[str, object]) -> None:
        key = str(event["key"])
        process, drained = self._processes[key]
        process.started.set()
        if "pid" in event:
            process.pid = int(str(event["pid"]))
            return
        del self._processes[key]
        if "error" in event:
            code = 127 if event["errno"] == 2 else 126  # noqa: PLR2004 -- ENOENT, as a shell
            end = Exit(code, error=str(event["error"]))
            if process.terminal is not None or "told" not in event:
                process.output.streams[STDERR if process.terminal is None else STDOUT].write(f"{event['error']}\n".encode())
        else:
            raw = int(str(event["code"]))
            end = Exit(raw) if raw >= 0 else Exit(128 - raw, signal=-raw)
        finishing = asyncio.ensure_future(self._finish(process, drained, end))
        self._finishing.add(finishing)
        finishing.add_done_callback(self._finishing.discard)

    async def _finish(self, process: Process, drained: list[asyncio.Future[None]], end: Exit) -> None:
        """Tell the end once all output is in. Pipes that an exec's daemon holds open are not waited for."""
        if drained:
            await asyncio.wait(drained, timeout=_DRAIN_SECONDS)
        self._ended(process, end)

    def _ended(self, process: Process, end: Exit) -> None:
        process.started.set()
        process.output.end()
        if not process.exited.done():
            process.exited.set_result(process.verdict(end))
        process.close_stdin()

    def _lost(self) -> None:
        """Leave the spawner, which then ends, or has ended: what ran is dead or about to be, and nothing is started any more."""
        if self._control is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._control)
            loop.remove_writer(self._control)
            self._control.close()
            self._control = None
        self._flush()
        self._all_lost()

    def _all_lost(self) -> None:
        processes, self._processes = self._processes, {}
        # With the spawner the kernel kills only its own children, not theirs.
        _kill_marked({key.rpartition(".")[0] for key in processes})
        for process, _ in processes.values():
            self._ended(process, Exit(137, signal=9, error="the emulator's process spawner is gone"))


def _open_stdio(opened: contextlib.ExitStack, terminal: Terminal | None, *, made_elsewhere: bool) -> tuple[list[int], list[int]]:
    """Return the child's ends of stdin, stdout and stderr, and ours; all are closed again should one more fail to open.

    A terminal that is ``made_elsewhere`` comes later; until then there is nothing of ours.
    """
    if terminal is not None and made_elsewhere:
        nothing = [os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC) for _ in range(3)]
        for fd in nothing:
            opened.callback(os.close, fd)
        return nothing, []
    if terminal is not None:
        ours, theirs = terminal.pair()
        ends = [theirs, os.dup(theirs), os.dup(theirs)], [os.dup(ours), ours]
        for fd in (*ends[0], *ends[1]):
            opened.callback(os.close, fd)
        return ends
    pairs = []
    for _ in range(3):
        pair = os.pipe2(os.O_CLOEXEC)
        for fd in pair:
            opened.callback(os.close, fd)
        pairs.append(pair)
    (stdin_read, stdin_write), (stdout_read, stdout_write), (stderr_read, stderr_write) = pairs
    return [stdin_read, stdout_write, stderr_write], [stdin_write, stdout_read, stderr_read]


def _kill_marked(scopes: set[str]) -> None:
    """Kill every process that carries the task id of one of these sandboxes, until a look finds none."""
    for _ in range(100 if scopes else 0):
        marked = [row.pid for row in process_table(0) if scope_of(row.pid) in scopes]
        if not marked:
            return
        for pid in marked:
            kill_quietly(pid)


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
