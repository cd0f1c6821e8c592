"""The process that starts every sandbox's processes and outlives none of them.

Run as ``python -I -S spawner.py FD PARENT_PID FOLDER GROUP`` by ``processes``, one per emulator; standard library only
(``processes``, ``cgroups`` and ``leftovers`` borrow its small functions).
A small process that does nothing else can start another in about a millisecond, is the parent that can wait for and kill it
without a race on process ids, and, being their sub-reaper, inherits every daemon that a sandbox leaves behind. When the emulator
goes, however it goes, the socket ends and this process kills all of its descendants, removes the emulator's temporary
folder and control group and exits.

Flows in, one datagram a request (JSON, with descriptors): ``spawn`` (a memory file with argv, env and cwd, then stdin, stdout
and stderr), ``kill``, ``interrupt``. Flows out, one datagram an event: started, failed, exited. A sandbox's environment is only
ever in the memory file, this process's heap while it starts the child, and the child.

With an OCI runtime the order also has ``bundle``, a folder in memory, and ``files`` to be put there: what is started then is the
runtime, which leaves the container's process behind as our child and its id in ``bundle/pid``. That process takes the place of
the runtime, and the bundle goes. A fifth descriptor is the network namespace to join.
This process is then process 1 of a namespace of its own, so that the kernel ends all containers with it, even when it is killed.
"""

import array
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Any, NamedTuple

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_LIBC = ctypes.CDLL(None, use_errno=True)
_MARK = "MODAL_TASK_ID"
_LONGEST = 4000
"""Characters of a reason in an event: a datagram is small, and a reason may name a program whose name is anything."""


class Child(NamedTuple):
    """A process that was asked for: ``scope`` is the task id of its sandbox, ``main`` whether the sandbox ends with it."""

    key: str
    scope: str
    main: bool
    popen: "subprocess.Popen[bytes] | None"
    bundle: "Bundle | None" = None
    """Of a runtime that is starting a container's process."""
    contained: bool = False
    """A process in a container: the kernel ends what it started when the container's first process ends."""


class Bundle(NamedTuple):
    """A container's process that is being started; ``kept`` are descriptors that it needs until then."""

    folder: str
    kept: list[int]


class ProcessRow(NamedTuple):
    """One line of ``/proc``."""

    pid: int
    parent: int
    group: int
    session: int


def die_with_parent() -> None:
    """Run in the child before exec: the kernel kills it when this process goes, and SIGINT means what it means in a container.

    A shell that starts the emulator in the background has it ignored, by all that is started from there.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def prepare_child(order: "dict[str, Any]") -> None:
    """Run in the child before exec: give it what was ordered beside argv: its terminal (stdin) and its memory limit in bytes."""
    die_with_parent()
    if "terminal" in order:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    if "memory" in order:
        # Not the address space, of which many programs reserve more than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (order["memory"], order["memory"]))


def process_table(first: int) -> list[ProcessRow]:
    """All processes with an id of at least ``first`` that are not zombies."""
    rows = []
    for name in os.listdir("/proc"):  # noqa: PTH208 -- Path objects for each of hundreds of entries are the cost here
        if not name.isdigit() or int(name) < first:
            continue
        try:
            text = Path("/proc", name, "stat").read_text(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        fields = text.rpartition(")")[2].split()
        if fields[0] not in "ZX":
            rows.append(ProcessRow(int(name), int(fields[1]), int(fields[2]), int(fields[3])))
    return rows


def kill_quietly(pid: int) -> None:
    """SIGKILL, where "it is gone already" is as good."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_group_quietly(pgid: int) -> None:
    """SIGKILL to a group, where "it is gone already" is as good."""
    try:
        os.killpg(pgid, signal.SIGKILL)
    except ProcessLookupError:
        return


def remove_groups(group: str) -> None:
    """Remove the control group, a path below each hierarchy, and those below it; what still has a process stays."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            for folder, _, _ in os.walk(place + group, topdown=False):
                remove_group(folder)


def remove_group(folder: str) -> None:
    """Remove one control group. A process that was just reaped may hold it for a moment longer."""
    for _ in range(1000):
        try:
            os.rmdir(folder)  # noqa: PTH106
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            time.sleep(0.002)
        else:
            return


def scope_of(pid: int) -> str:
    """Return the task id that the process was started with in its environment, if any."""
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return ""
    mark = f"{_MARK}=".encode()
    return next((variable[len(mark) :].decode(errors="replace") for variable in variables if variable.startswith(mark)), "")


def has_ended(pid: int) -> bool:
    """Whether a child is waiting to be reaped."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def complaint(bundle: str) -> str:
    """Return the last error that the runtime wrote into its log."""
    try:
        lines = Path(bundle, "log").read_text().splitlines()
    except FileNotFoundError:
        return "the container runtime could not be started"
    errors = [json.loads(line) for line in lines]
    return next(
        (str(one["msg"]) for one in reversed(errors) if one["level"] in ("error", "fatal")), "the container could not start"
    )


def first_child(pid: int) -> int:
    """Return the oldest child of a process; 0 if it has none. The kernel lists them in the order in which it got them."""
    try:
        return int((Path(f"/proc/{pid}/task/{pid}/children").read_text().split() or ["0"])[0])
    except OSError:
        return 0


def interrupt_quietly(pid: int, leader: int) -> None:
    """SIGINT to ``leader``, or to a child of it that may have ended."""
    if not pid:
        return
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        # The id may be somebody else's by now; what the handle stands for it cannot lose any more.
        if pid == leader or pid == first_child(leader):
            signal.pidfd_send_signal(handle, signal.SIGINT)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


class Spawner:
    """The loop. One per process."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control
        self.children: dict[int, Child] = {}
        self.newest = 0
        self.condemned: set[str] = set()
        self.interrupted: set[str] = set()
        self.told_to_end = False

    # -- requests

    def receive(self) -> bool:
        """Serve one request; ``False`` when the emulator is gone."""
        # Descriptors must be close-on-exec from the first instant, or the next child would inherit another's stdout.
        try:
            data, ancillary, _flags, _ = self.control.recvmsg(4096, socket.CMSG_SPACE(5 * 4), socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:  # it was killed before it had read what we told it
            return False
        if not data:
            return False
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        request = json.loads(data)
        if request["op"] == "spawn":
            try:
                self.spawn(request["key"], request["scope"], request["main"], list(fds))
            finally:
                for fd in fds:
                    os.close(fd)
        elif request["op"] == "kill":
            self.kill(request["key"])
        elif request["op"] == "interrupt":
            self.interrupt(request["key"])
        return True

    def spawn(self, key: str, scope: str, main: bool, fds: list[int]) -> None:  # noqa: FBT001
        """Start one process in a session of its own and say so."""
        os.lseek(fds[0], 0, os.SEEK_SET)
        with os.fdopen(os.dup(fds[0]), "rb") as file:
            order = json.loads(file.read())
        bundle = None
        try:
            bundle = self.prepare(order, fds) if "bundle" in order else None
            popen = subprocess.Popen(  # noqa: S603
                order["argv"],
                env=order["env"],
                cwd=order["cwd"],
                stdin=fds[1],
                stdout=fds[2],
                stderr=fds[3],
                start_new_session=True,
                preexec_fn=lambda: prepare_child(order),  # noqa: PLW1509 -- this process has one thread
            )
        except OSError as error:
            self.refuse(key, f"{order['argv'][0]}: {error.strerror}", error.errno or errno.EINVAL, bundle)
            return
        except (ValueError, IndexError, subprocess.SubprocessError) as error:  # a NUL in argv or env, no argv; prepare_child
            self.refuse(key, str(error), errno.EINVAL, bundle)
            return
        self.children[popen.pid] = Child(key, scope, main, popen, bundle)
        self.newest = popen.pid
        if bundle is None:
            self.send({"key": key, "pid": popen.pid})

    def refuse(self, key: str, error: str, number: int, bundle: "Bundle | None") -> None:
        """Say that a process could not be started, and why."""
        self.send({"key": key, "error": error[-_LONGEST:], "errno": number})
        self.discard(bundle)

    def prepare(self, order: "dict[str, Any]", fds: list[int]) -> Bundle:
        """Write the files of a container's process into its bundle, which is in memory."""
        Path(order["bundle"]).mkdir(0o700)
        kept = [os.dup(fd) for fd in fds[4:]]
        for name, content in order["files"].items():
            if kept and name == "config.json":
                path = f"/proc/{os.getpid()}/fd/{kept[0]}"
                content["linux"]["namespaces"].append({"type": "network", "path": path})
            Path(order["bundle"], name).write_text(json.dumps(content))
        return Bundle(order["bundle"], kept)

    def discard(self, bundle: "Bundle | None") -> None:
        """Remove a bundle and close what it kept."""
        if bundle is not None:
            for fd in bundle.kept:
                os.close(fd)
            shutil.rmtree(bundle.folder)

    def kill(self, key: str) -> None:
        """Kill the process of that key with its group; the rest of a sandbox follows when its main process is seen to end."""
        for pid, child in self.children.items():
            if child.key == key and child.bundle is None:
                kill_group_quietly(pid)
            elif child.key == key:  # the runtime would leave things half done: as soon as it is through
                self.condemned.add(key)

    def interrupt(self, key: str) -> None:
        """Send SIGINT to the process of that key; in a container to the command, which process 1 runs for it."""
        for pid, child in self.children.items():
            if child.key == key and child.bundle is not None:  # it is being started: as soon as it is
                self.interrupted.add(key)
            elif child.key == key:
                interrupt_quietly(first_child(pid) if child.contained and child.main else pid, pid)

    def send(self, event: dict[str, object]) -> None:
        """Tell the emulator; if it is gone, the main loop notices."""
        try:
            self.control.send(json.dumps(event).encode())
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED):
                raise

    # -- ends

    def reap(self) -> None:
        """Take in every child that ended: ours are reported, adopted ones only buried."""
        while self.reap_once():  # a container's process may have ended before its runtime did
            pass
        if not any(child.bundle for child in self.children.values()):  # or it might be one that is about to be named to us
            self.bury_adopted()

    def reap_once(self) -> bool:
        """Take in those that ended; whether a runtime was among them."""
        ended = [pid for pid in self.children if has_ended(pid)]
        # While they are zombies their ids, and so their groups' ids, cannot be given to anybody else.
        leaders = [(pid, child) for pid, child in self.among(ended) if child.main and not child.contained and not child.bundle]
        self.kill_rest({pid: child.scope for pid, child in leaders})
        started = False
        for pid, child in self.among(ended):
            del self.children[pid]
            _, status = os.waitpid(pid, 0)
            code = os.waitstatus_to_exitcode(status)
            if child.popen is not None:
                child.popen.returncode = code
            if child.bundle is None:
                self.send({"key": child.key, "code": code})
            else:
                started = True
                self.take_over(child, child.bundle, code)
        return started

    def among(self, pids: list[int]) -> "list[tuple[int, Child]]":
        """Return the children with these ids."""
        return [(pid, self.children[pid]) for pid in pids]

    def take_over(self, child: Child, bundle: Bundle, code: int) -> None:
        """The runtime has ended: the container's process that it started is ours to watch now."""
        try:
            if code:
                text = complaint(bundle.folder)
                missing = "executable file not found" in text or "no such file" in text
                # The runtime has written it to the process's stderr as well.
                number = errno.ENOENT if missing else errno.EACCES
                self.send({"key": child.key, "error": text[-_LONGEST:], "errno": number, "told": True})
                return
            pid = int(Path(bundle.folder, "pid").read_text())
            self.children[pid] = Child(child.key, child.scope, child.main, None, contained=True)
            if child.key in self.interrupted:
                self.interrupted.discard(child.key)
                self.interrupt(child.key)
            self.send({"key": child.key, "pid": pid})
            if child.key in self.condemned:
                kill_group_quietly(pid)
        finally:
            self.condemned.discard(child.key)
            self.discard(bundle)

    def kill_rest(self, leaders: dict[int, str]) -> None:
        """Kill everything of the sandboxes whose main processes (by scope) have ended.

        What an exec leaves running stays until then, as in a container.
        """
        if not leaders:
            return
        scopes = set(leaders.values())
        for pid, child in self.children.items():
            if child.scope in scopes:
                kill_group_quietly(pid)
        me = os.getpid()
        # Process ids grow until they wrap; before that, nothing of a sandbox is older than its main process.
        first = min(leaders) if self.newest >= max(leaders) else 0
        for _ in range(50):
            strays = [
                row.pid
                for row in process_table(first)
                if row.parent == me
                and row.pid not in self.children
                and (row.group in leaders or row.session in leaders or scope_of(row.pid) in scopes)
            ]
            if not strays:
                return
            for pid in strays:
                kill_quietly(pid)

    def bury_adopted(self) -> None:
        """Reap the adopted processes that ended."""
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None or ended.si_pid in self.children:  # the latter ended just now: the next signal's turn
                return
            os.waitpid(ended.si_pid, 0)

    def kill_everything(self) -> None:
        """Kill all descendants: of a killed parent the children come to us, so repeat until there are none."""
        for pid in self.children:
            kill_group_quietly(pid)
        me = os.getpid()
        while True:
            mine = [row.pid for row in process_table(0) if row.parent == me]
            if not mine:
                return
            for pid in mine:
                kill_quietly(pid)
            time.sleep(0.002)
            self.bury()

    def bury(self) -> None:
        """Reap whatever ended, reporting nothing."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return

    def end(self, *_: object) -> None:
        """SIGTERM: leave the loop. Nothing is raised, which could cut the killing short."""
        self.told_to_end = True

    def run(self) -> None:
        """Serve until the emulator is gone, then leave nothing behind."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poll = select.poll()
        poll.register(self.control, select.POLLIN | select.POLLHUP)
        poll.register(wake_read, select.POLLIN)
        signal.signal(signal.SIGTERM, self.end)
        try:
            while not self.told_to_end:
                ready = dict(poll.poll())
                if wake_read in ready:
                    os.read(wake_read, 4096)
                    self.reap()
                if self.control.fileno() in ready and not self.receive():
                    return
        finally:
            self.kill_everything()


def unmount(folder: str) -> bool:
    """Take away what is mounted right in ``folder``, seen by this process alone; whether nothing is left."""
    if not Path(folder).is_dir():
        return False
    mounted = [entry.path for entry in os.scandir(folder) if os.path.ismount(entry.path)]
    return not mounted or subprocess.run(["umount", "--lazy", "--", *mounted], check=False).returncode == 0  # noqa: S603, S607


def main() -> None:
    """Set this process up and run the loop; SIGTERM (also sent by the kernel when the parent's thread goes) ends it."""
    fd, parent, folder, group = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is for the emulator, which then ends us
    if os.getpid() != 1:  # else our parent is `unshare`, which has told the kernel to kill us with it
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it went before the kernel was told to watch it
            return
    os.set_inheritable(fd, False)  # noqa: FBT003
    try:
        Spawner(socket.socket(fileno=fd)).run()
    finally:
        if group:
            remove_groups(group)
        if unmount(folder):
            # shutil.rmtree of Python 3.11 gives up on the depth of trees that a sandbox can make.
            subprocess.run(["/bin/rm", "-rf", "--", folder], check=False)  # noqa: S603


if __name__ == "__main__":
    main()
