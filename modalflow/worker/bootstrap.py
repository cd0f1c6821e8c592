"""The program of a sandbox: take one workload, run it under Airflow's supervisor, say by exit code how that went.

modalflow brings this file, with those it imports in the places of their imports, as the argument of ``python -c``; the image
needs Airflow and nothing of ours, so everything here is standard library until Airflow is imported. It does what
``airflow.sdk.execution_time.execute_workload`` does (read in Airflow 3.3.2, 2026-11-24), in this one process, without the two
waits that the command has: the supervisor's 0-5 s tail and the interpreter's slow exit.

Flows in: the workload (a JSON document that holds a token) and the environment described in ``docs/explanation/worker.md``.
Flows out: the task's log file and JSON lines on stdout, one readable line on stderr when something is wrong, an exit code.
``launch/outcomes.py`` reads the code. Must run on Python 3.10, which is what Airflow 3.3 needs at least.
"""

# Imports stand where they are used, because what is not needed is not loaded; and pathlib would be one of them.

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from modalflow.worker.errors import EXIT_NOT_SET_UP, SetUpError
from modalflow.worker.set_up import SetUp

STARTED = time.monotonic()

EXIT_REPORTED = 0
"""The supervisor has told Airflow how the task ended, whatever the end was."""
EXIT_CRASHED = 1
"""Anything not foreseen; a traceback is on stderr."""
EXIT_WORKLOAD_UNREADABLE = 64
EXIT_NO_WORKLOAD = 65
"""Nothing came on stdin within the hand-over timeout."""
EXIT_AIRFLOW_UNUSABLE = 66
"""Airflow cannot be imported here, or is another minor version than the scheduler's."""
EXIT_START_REFUSED = 67
"""Airflow's API did not let the task start: it runs elsewhere, was cleared or removed, or the token is too old."""
EXIT_API_UNREACHABLE = 68
EXIT_SIGTERM = 143
"""Ended by SIGTERM before the task ran; while it runs, Airflow's supervisor forwards the signal to it."""

WORKLOAD = "MODALFLOW_WORKLOAD"
WORKLOAD_FD = "MODALFLOW_WORKLOAD_FD"
HANDOVER_TIMEOUT = "MODALFLOW_HANDOVER_TIMEOUT"
LAUNCH_ID = "MODALFLOW_LAUNCH_ID"
LOG_PATH = "MODALFLOW_LOG_PATH"
AIRFLOW_VERSION = "MODALFLOW_AIRFLOW_VERSION"
LOG_FOLDER = "AIRFLOW__LOGGING__BASE_LOG_FOLDER"
SUMMARY = "MODALFLOW_SUMMARY"
"""What Modal was asked for and who decided it: the first line of the task's log."""
SANDBOX_ID = "MODAL_SANDBOX_ID"
"""Set by Modal in every sandbox."""

DEFAULT_HANDOVER_TIMEOUT = 60.0
FLUSH_MILLISECONDS = 5_000
"""Longest time that metrics may take to leave at the end; without an exporter it is none."""
PIPE_BYTES = 16 * 1024
"""What a pipe surely holds without a reader (macOS); Linux has memfd and no such bound."""
COPY_BYTES = 256 * 1024
SERVER_ERROR = 500
HOSTNAME_MODULE = "_modalflow_sandbox"


class Failure(Exception):
    """The workload cannot be run; ``code`` is the exit code, the text one readable sentence."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Log:
    """The task's log file: what the bootstrap itself has to say goes there, and all of it is copied to stdout.

    Lines said before the file is known are kept and written once it is; they are on stderr at once, in readable form, and
    so are later ones that tell of trouble.
    ``secret`` is cut out of every line. ``copied`` says whether there is a copy. It is byte for byte: Airflow merges the
    lines of several sources and drops what is equal, and its own second logger for stdout gives the lines of ``print``
    another timestamp (3.3.2).
    """

    def __init__(self) -> None:
        self.path: str | None = None
        self.secret = ""
        self.copied = True
        self._kept: list[str] = []
        self._start = 0
        self._file: Any = None

    def say(self, level: str, text: str) -> None:
        """Write one line at ``level`` (error, warning, info)."""
        if self.secret:
            text = text.replace(self.secret, "***")
        if level != "info" or self.path is None:
            print(f"modalflow: {text}", file=sys.stderr, flush=True)
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        self._kept.append(json.dumps({"timestamp": stamp, "level": level, "event": text, "logger": "modalflow"}))
        self._write()

    def goes_to(self, path: str) -> None:
        """Name the task's log file, absolute. What earlier sandboxes of the same try wrote there is not copied."""
        if self.path is not None:  # another user may not write the first one
            self.copy()
            self._file, self._start = None, 0
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            self._start = os.stat(path).st_size
        self._write()

    def places(self) -> list[str]:
        """Return the log file and its folders, up to the log folder: what another user needs to go on with it."""
        found = [] if self.path is None else [self.path]
        top = os.environ.get(LOG_FOLDER) or ""
        while found and found[-1] != top and len(found[-1]) > len(top):
            found.append(os.path.dirname(found[-1]))
        return [path for path in found if os.path.exists(path)]

    def copy(self) -> None:
        """Copy to stdout what was appended since the last time. Lines are whole: this process alone writes the file.

        Never raises, for it is called within Airflow's supervisor: if stdout is gone, the file is enough.
        """
        if not self.copied or self.path is None:
            return
        try:
            if self._file is None:
                self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - open to the end of the program
                self._file.seek(self._start)
            while part := self._file.read(COPY_BYTES):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        except FileNotFoundError:
            return  # nothing was logged yet
        except (OSError, ValueError) as error:
            self.copied = False
            if self._file is not None:
                self._file.close()
            self.say("warning", f"the log is no longer copied to stdout ({error})")

    def _write(self) -> None:
        if self.path is None or not self._kept:
            return
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in self._kept))
        except OSError as error:
            print(f"modalflow: cannot write {self.path}: {error.strerror}", file=sys.stderr, flush=True)
        self._kept = []


log = Log()


# --- the workload -----------------------------------------------------------------------------------------------------------


def hide_workload() -> NoReturn:
    """Start this program again without the workload in its environment.

    ``/proc/<pid>/environ`` shows what a process image was started with for as long as it lives, and the task could read it.
    The new image finds the workload on an inherited anonymous file.
    """
    environment = dict(os.environ)
    payload = environment.pop(WORKLOAD).encode()
    environment[WORKLOAD_FD] = str(anonymous_file(payload))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606


def anonymous_file(payload: bytes) -> int:
    """Return an inheritable descriptor from which ``payload`` can be read and that has no name anywhere."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("workload", 0)
        with open(fd, "wb", closefd=False) as file:
            file.write(payload)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    if len(payload) > PIPE_BYTES:
        text = f"this system has no memfd, and a workload of {len(payload)} bytes does not fit a pipe"
        raise Failure(EXIT_WORKLOAD_UNREADABLE, text)
    read, write = os.pipe()
    os.write(write, payload)
    os.close(write)
    os.set_inheritable(read, True)  # noqa: FBT003
    return read


def inherited_workload() -> bytes | None:
    """Return the workload that ``hide_workload`` left, or ``None`` when it comes on stdin."""
    fd = os.environ.pop(WORKLOAD_FD, None)
    if fd is None:
        return None
    with open(int(fd), "rb") as file:
        return file.read()


def stdin_is_ready(seconds: float) -> bool:
    """Tell whether stdin has bytes or its end, waiting at most ``seconds``."""
    import select

    return bool(select.select([0], [], [], max(0.0, seconds))[0])


def workload_from_stdin() -> bytes:
    """Read stdin to its end, at most until the hand-over timeout, counted from the start of this program."""
    timeout = float(os.environ.get(HANDOVER_TIMEOUT) or DEFAULT_HANDOVER_TIMEOUT)
    received = bytearray()
    # One look is always taken: importing Airflow from a cold disk may have used the time up while the bytes lie ready.
    while stdin_is_ready(STARTED + timeout - time.monotonic()):
        part = os.read(0, 65536)
        if part:
            received += part
        elif received:
            return bytes(received)
        else:
            raise Failure(EXIT_NO_WORKLOAD, "stdin was closed without a workload")
    got = f"{len(received)} bytes came, and no end" if received else "nothing came"
    raise Failure(EXIT_NO_WORKLOAD, f"no workload on stdin within {timeout:g} s ({got})")


def decode(raw: bytes) -> dict[str, Any]:
    """Return the workload as plain data. The text of an error never quotes it: it holds a token."""
    try:
        workload = json.loads(raw)
    except ValueError as error:
        place = getattr(error, "pos", None)
        where = f"at character {place} of" if place is not None else "in"
        raise Failure(EXIT_WORKLOAD_UNREADABLE, f"the workload is not JSON ({where} {len(raw)} bytes)") from None
    if not isinstance(workload, dict) or not isinstance(workload.get("type"), str):
        raise Failure(EXIT_WORKLOAD_UNREADABLE, "the workload is not a JSON object with a type")
    log.secret = str(workload.get("token") or "")
    return workload


# --- the place --------------------------------------------------------------------------------------------------------------


def usable(folder: str) -> bool:
    """Tell whether ``folder`` exists or can be made, and takes new files."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def writable(path: str) -> bool:
    """Tell whether a file can be added to; one that does not exist is a matter of its folder."""
    return os.access(path, os.W_OK) if os.path.exists(path) else os.access(os.path.dirname(path), os.W_OK | os.X_OK)


def private_folder(prefix: str) -> str:
    """Make a folder of our own, which goes with the sandbox."""
    import tempfile

    return tempfile.mkdtemp(prefix=prefix)


def prepare_home() -> str:
    """Give Airflow a folder it can write: ``AIRFLOW_HOME``, else its default, else one of our own. Return it."""
    named = os.environ.get("AIRFLOW_HOME")
    home = named or os.path.join(os.path.expanduser("~"), "airflow")
    if not usable(home):
        refused, home = home, private_folder("airflow-")
        os.environ["AIRFLOW_HOME"] = home
        if named:
            log.say("warning", f"AIRFLOW_HOME: cannot write {refused}; using {home}")
    return home


def prepare_log(relative: str, home: str) -> None:
    """Decide on the task's log file, ``relative`` to the log folder.

    A log folder that cannot be written (a Volume that is mounted read-only, or not at all) must not stop the task: its log
    then goes to a private folder, and to stdout as always.
    """
    if os.path.isabs(relative) or ".." in relative.split("/"):
        raise Failure(EXIT_WORKLOAD_UNREADABLE, f"log path: expected a path inside the log folder, got {relative!r}")
    folder = os.environ.get(LOG_FOLDER) or os.path.join(home, "logs")
    place = os.path.join(folder, relative)
    if not (usable(os.path.dirname(place)) and writable(place)):
        refused, folder = folder, private_folder("airflow-logs-")
        text = f"cannot write the log folder {refused}; this log is on stdout, and in {folder}, which goes with the sandbox"
        log.say("warning", text)
    os.environ[LOG_FOLDER] = folder
    log.goes_to(os.path.join(folder, relative))


# --- Airflow ----------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector out, and away from what the block made.

    Imported modules live to the end. Measured (Airflow 3.3.2, Python 3.11): the collector costs 0.13 s of 1.45 s of imports,
    and about 0.1 s more in the task's forked process, where looking at an object copies its page.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def import_airflow() -> Any:
    """Import Airflow and return its supervisor module; ``Failure`` tells the cause and what the image has."""
    wanted = os.environ.get(AIRFLOW_VERSION) or ""
    try:
        import airflow

        found = str(airflow.__version__)
    except Exception as error:
        text = (
            f"Airflow cannot be imported in this image ({type(error).__name__}: {error}); it needs "
            f"apache-airflow=={wanted or '3.*'}; this is Python {sys.version.split()[0]} at {sys.executable}"
        )
        raise Failure(EXIT_AIRFLOW_UNUSABLE, text) from error
    if wanted and wanted.split(".")[:2] != found.split(".")[:2]:
        text = f"this image has Airflow {found}, the scheduler has {wanted}; they must be of the same minor version"
        raise Failure(EXIT_AIRFLOW_UNUSABLE, text)
    try:
        from airflow.sdk.execution_time import supervisor
    except Exception as error:
        text = f"Airflow {found} in this image has no usable task SDK ({type(error).__name__}: {error})"
        raise Failure(EXIT_AIRFLOW_UNUSABLE, text) from error
    return supervisor


def import_ahead() -> None:
    """Import what the task's process will need to read the DAG, while there is nothing else to do."""
    try:
        import airflow.dag_processing.dagbag  # noqa: F401
    except Exception as error:
        text = f"Airflow in this image cannot read DAGs ({type(error).__name__}: {error})"
        raise Failure(EXIT_AIRFLOW_UNUSABLE, text) from error


def use_launch_id_as_hostname() -> None:
    """Make Airflow's ``[core] hostname_callable`` answer the launch id.

    Airflow takes two workers with the same hostname, user and pid for one and lets both run a task; pids are small and
    repeat in containers. The callable must be importable by name, and the image has nothing of ours: hence the module.
    """
    launch_id = os.environ.get(LAUNCH_ID)
    if not launch_id:
        return
    import types

    from airflow.configuration import conf as core_conf
    from airflow.sdk.configuration import conf as sdk_conf

    module = types.ModuleType(HOSTNAME_MODULE)
    module.__dict__["hostname"] = lambda: launch_id
    sys.modules[HOSTNAME_MODULE] = module
    # An environment variable would win over this, and would reach `airflow` commands of the task, which have no such module.
    os.environ.pop("AIRFLOW__CORE__HOSTNAME_CALLABLE", None)
    for conf in (core_conf, sdk_conf):
        conf.set("core", "hostname_callable", HOSTNAME_MODULE + ".hostname")


def skip_tail(supervisor: Any, after: Callable[[], None]) -> bool:
    """Make the supervisor notice the end of its child at once, and call ``after`` each time that it has served the child.

    Tell whether that could be done.

    Airflow's supervisor (3.3.2), when all pipes of the child are closed but the child is not yet reaped, sleeps in
    ``select`` for up to ``[workers] min_heartbeat_interval`` (5 s): nothing is left that could wake it. Waiting for the
    process itself instead, for as long as that, ends with the process.
    """
    watched = getattr(supervisor, "WatchedSubprocess", None)
    original = getattr(watched, "_service_subprocess", None)
    fields = {field.name for field in getattr(watched, "__attrs_attrs__", ())}
    if watched is None or original is None or not {"_open_sockets", "_process", "_exit_code"} <= fields:
        log.say("info", "this Airflow's supervisor is not the one whose last wait modalflow can shorten; it runs as it is")
        return False

    def _service_subprocess(self: Any, max_wait_time: float, *args: Any, **kwargs: Any) -> Any:
        if self._exit_code is None and not self._open_sockets:
            with contextlib.suppress(self._process.TimeoutExpired, self._process.ProcessNotFound):
                self._process.wait(timeout=max(0.01, max_wait_time))
            max_wait_time = 0
        try:
            return original(self, max_wait_time, *args, **kwargs)
        finally:
            after()

    watched._service_subprocess = _service_subprocess
    return True


def execution_api_url() -> str:
    """Return the address of the execution API as this sandbox reaches it."""
    from airflow.sdk.configuration import conf

    url = conf.get("core", "execution_api_server_url", fallback=None)
    return str(url or conf.get("api", "base_url", fallback="").rstrip("/") + "/execution/")


def run(workload: dict[str, Any], log_path: str | None, supervisor: Any) -> None:
    """Run one workload to its end under Airflow's supervisor; every foreseen end that is not a report is a ``Failure``."""
    from airflow.sdk.log import configure_logging
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)
    configure_logging(output=sys.stdout.buffer, json_output=True)
    server = execution_api_url()
    is_task = workload["type"] == "ExecuteTask"
    # Airflow itself writes the lines of callbacks to stdout, always; those of tasks only if it is told to.
    log.copied = is_task and log_path is not None
    log.copied = skip_tail(supervisor, log.copy) and log.copied
    try:
        if is_task:
            run_task(workload, log_path, supervisor, server)
        else:
            run_other(workload, log_path, server)
    except Exception as error:
        failure = api_failure(error, server)
        if failure is None:
            raise
        raise failure from error


def run_task(workload: dict[str, Any], log_path: str | None, supervisor: Any, server: str) -> None:
    """Supervise a task.

    The task SDK's own models are enough for that and are loaded already; the executor's would bring more of the ORM.
    """
    import pydantic
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance

    try:
        ti = TaskInstance.model_validate(workload["ti"])
        arguments = {
            "ti": ti,
            "bundle_info": BundleInfo.model_validate(workload["bundle_info"]),
            "dag_rel_path": workload["dag_rel_path"],
            "token": workload["token"],
        }
    except (KeyError, pydantic.ValidationError):
        # The executor's models are the judge: they run it, or say what is wrong with it.
        run_other(workload, log_path, server)
        return
    set_title(f"airflow supervisor: {ti.id}")
    supervisor.supervise_task(
        **arguments,
        server=server,
        log_path=log_path,
        subprocess_logs_to_stdout=not log.copied,
        sentry_integration=workload.get("sentry_integration") or "",
    )


def run_other(workload: dict[str, Any], log_path: str | None, server: str) -> None:
    """Run a callback, a connection test, or whatever this Airflow knows, as ``execute_workload`` does."""
    import pydantic
    from airflow.executors import workloads
    from airflow.executors.base_executor import BaseExecutor

    if log_path is not None and "log_path" in workload:
        workload = {**workload, "log_path": log_path}
    try:
        decoded = pydantic.TypeAdapter[Any](workloads.All).validate_python(workload)
    except pydantic.ValidationError as error:
        # Places and reasons only: one of the values is the token.
        found = error.errors(include_input=False, include_url=False, include_context=False)
        places = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in found)
        text = f"the workload is not one that this Airflow knows ({places})"
        raise Failure(EXIT_WORKLOAD_UNREADABLE, text) from None
    BaseExecutor.run_workload(decoded, server=server, subprocess_logs_to_stdout=True)


def set_title(title: str) -> None:
    """Name the process, where the image can."""
    if sys.platform == "darwin":
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(title)


def api_failure(error: BaseException, server: str) -> Failure | None:
    """Return what an exception of the supervisor says about the execution API, or ``None`` if it says nothing."""
    import urllib.parse

    import httpx

    parts = urllib.parse.urlsplit(server)
    # Not the whole URL: behind the relay its path is a secret.
    api = f"the execution API at {parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    found = next((one for one in chain_of(error) if isinstance(one, (httpx.HTTPStatusError, httpx.RequestError))), None)
    if found is None:
        return None
    starting = not request_path(found) or request_path(found).endswith("/run")
    if isinstance(found, httpx.RequestError):
        what = "could not be reached" if starting else "could not be reached when the task had ended"
        return Failure(EXIT_API_UNREACHABLE, f"{api} {what} ({type(found).__name__}: {found})")
    status = found.response.status_code
    said = str(getattr(found, "detail", None) or found.response.reason_phrase)[:300]
    if status >= SERVER_ERROR:
        return Failure(EXIT_API_UNREACHABLE, f"{api} failed ({status}: {said})")
    if starting:
        why = REFUSALS.get(status, "it was refused")
        return Failure(EXIT_START_REFUSED, f"Airflow did not let the task start: {why} ({status}: {said})")
    return Failure(EXIT_CRASHED, f"{api} refused a report about the task ({status}: {said})")


REFUSALS = {
    401: "the token was not accepted",
    403: (
        "the token was not accepted, as when scheduler and API server differ in [api_auth] jwt_secret (each makes up its own "
        "where none is set), or when it is older than [scheduler] task_queued_timeout"
    ),
    404: "it is not there any more, as after a clear",
    409: "it runs or ended elsewhere",
    410: "it was replaced by a newer try",
}


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and those it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def request_path(error: Any) -> str:
    """Return the path that an HTTP error was about, or nothing where the request never came to be."""
    try:
        return str(error.request.url.path)
    except RuntimeError:
        return ""


# --- the whole --------------------------------------------------------------------------------------------------------------


def introduce() -> None:
    """Open the log with what this sandbox is, if the executor told it."""
    if summary := os.environ.get(SUMMARY):
        log.say("info", f"{summary}; this is sandbox {os.environ.get(SANDBOX_ID, 'of unknown id')}")


def set_up(setup: SetUp, log_path: str | None) -> None:
    """Do what the pod asked for. Its lines go to the task's log, so that comes first where it is known where it is."""
    if setup.asked and log_path and os.environ.get(LOG_FOLDER):
        prepare_log(log_path, "")
        introduce()
    try:
        setup.make()
        setup.run()
        setup.become(log.places())
    except SetUpError as error:
        text = f"the pod's set-up failed: {error}" if error.code == EXIT_NOT_SET_UP else str(error)
        raise Failure(error.code, text) from None


def work() -> None:
    """Take the workload and run it; raises ``Failure`` for every end that is foreseen."""
    if not hasattr(sys, "orig_argv"):
        text = f"this image has Python {sys.version.split()[0]} at {sys.executable}; Airflow 3.3 needs 3.10 or later"
        raise Failure(EXIT_AIRFLOW_UNUSABLE, text)
    if WORKLOAD in os.environ:
        hide_workload()
    raw = inherited_workload()
    workload = None if raw is None else decode(raw)
    log_path = os.environ.get(LOG_PATH) or (workload or {}).get("log_path")
    set_up(SetUp(os.environ, log.say), log_path)
    home = prepare_home()
    if log_path and (log.path is None or not writable(log.path)):
        first = log.path is None
        prepare_log(log_path, home)
        if first:
            introduce()
    # Nothing to import is in the way of a workload that is still to come.
    with without_collector():
        supervisor = import_airflow()
        if workload is None and not stdin_is_ready(0):
            import_ahead()
    if workload is None:
        workload = decode(workload_from_stdin())
        if not log_path and workload.get("log_path"):
            log_path = workload["log_path"]
            prepare_log(log_path, home)
            introduce()
    use_launch_id_as_hostname()
    run(workload, log_path, supervisor)


def main() -> None:
    """Run ``work`` and leave with its exit code, at once."""
    import signal

    # As the first process of a container we would not be ended by SIGTERM without a handler.
    signal.signal(signal.SIGTERM, lambda *_: stop())
    code = EXIT_REPORTED
    try:
        work()
    except Failure as failure:
        log.say("error", str(failure))
        code = failure.code
    except BaseException:
        import traceback

        log.say("error", "unexpected end of the sandbox's program:\n" + traceback.format_exc())
        code = EXIT_CRASHED
    leave(code)


def stop() -> NoReturn:
    """End at once on SIGTERM. It may strike within any import, so nothing of Airflow's is touched: it holds no word yet."""
    log.copy()
    os._exit(EXIT_SIGTERM)


def leave(code: int) -> NoReturn:
    """Flush what was written and end without the interpreter's teardown, which takes long with all of Airflow loaded.

    Files are not synced here: the log Volume is mounted with background commits, and Modal commits it once more when
    the sandbox ends.
    """
    log.copy()
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    metrics = sys.modules.get("opentelemetry.metrics")
    flush = getattr(metrics.get_meter_provider(), "force_flush", None) if metrics else None
    if flush is not None:
        flush(FLUSH_MILLISECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
