"""The program of a sandbox: take one workload, run it under Airflow's supervisor, say by exit code how that went.

modalflow brings this file as the argument of ``python -c``; the image needs Airflow and nothing of ours, so everything here is
standard library until Airflow is imported. It does what ``airflow.sdk.execution_time.execute_workload`` does (read in Airflow
3.3.2, 2026-11-24), in this one process, without the two waits that the command has: the supervisor's 0-5 s tail and the
interpreter's slow exit.

Flows in: the workload (a JSON document that holds a token) and the environment described in ``docs/explanation/worker.md``.
Flows out: the task's log file and JSON lines on stdout, one readable line on stderr when something is wrong, an exit code.
"""

from __future__ import annotations

import os
import sys
import time

STARTED = time.monotonic()

EXIT_REPORTED = 0
"""The supervisor has told Airflow how the task ended, whatever the end was."""
EXIT_UNEXPECTED = 1
"""Anything not foreseen; a traceback is on stderr."""
EXIT_WORKLOAD_UNREADABLE = 64
EXIT_NO_WORKLOAD = 65
"""Nothing came on stdin within the hand-over timeout."""
EXIT_NO_AIRFLOW = 66
"""Airflow cannot be imported here, or is another minor version than the scheduler's."""
EXIT_REFUSED = 67
"""Airflow's API did not let the task start: it runs elsewhere, was cleared or removed, or the token is too old."""
EXIT_API_UNREACHABLE = 68

WORKLOAD = "MODALFLOW_WORKLOAD"
WORKLOAD_FD = "MODALFLOW_WORKLOAD_FD"
HANDOVER_TIMEOUT = "MODALFLOW_HANDOVER_TIMEOUT"
LAUNCH_ID = "MODALFLOW_LAUNCH_ID"
LOG_PATH = "MODALFLOW_LOG_PATH"
AIRFLOW_VERSION = "MODALFLOW_AIRFLOW_VERSION"
LOG_FOLDER = "AIRFLOW__LOGGING__BASE_LOG_FOLDER"

DEFAULT_HANDOVER_TIMEOUT = 60.0
PIPE_BYTES = 16 * 1024
"""What a pipe surely holds without a reader (macOS); Linux has memfd and no such bound."""
HOSTNAME_MODULE = "_modalflow_sandbox"


class Failure(Exception):
    """The workload cannot be run; ``code`` is the exit code, the text one readable sentence."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


class Log:
    """What the bootstrap itself has to say: readable on stderr, and a JSON line in the task's own log file.

    Lines said before the file is known are kept and written once it is.
    """

    def __init__(self):
        self.path = None
        self._kept = []

    def say(self, level, text):
        """Write one line at ``level`` (error, warning, info)."""
        import json

        print(f"modalflow: {text}", file=sys.stderr, flush=True)
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        self._kept.append(json.dumps({"timestamp": stamp, "level": level, "event": text, "logger": "modalflow"}))
        self._write()

    def goes_to(self, path):
        """Name the task's log file, absolute."""
        self.path = path
        self._write()

    def _write(self):
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


def hide_workload():
    """Start this program again without the workload in its environment.

    ``/proc/<pid>/environ`` shows what a process image was started with for as long as it lives, and the task could read it.
    The new image finds the workload on an inherited anonymous file. Does not return.
    """
    environment = dict(os.environ)
    payload = environment.pop(WORKLOAD).encode()
    environment[WORKLOAD_FD] = str(anonymous_file(payload))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def anonymous_file(payload):
    """Return an inheritable descriptor from which ``payload`` can be read and that has no name anywhere."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("workload", 0)
        with open(fd, "wb", closefd=False) as file:
            file.write(payload)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd
    if len(payload) > PIPE_BYTES:
        raise Failure(EXIT_WORKLOAD_UNREADABLE, f"this system has no memfd, and {len(payload)} bytes of workload do not fit a pipe")
    read, write = os.pipe()
    os.write(write, payload)
    os.close(write)
    os.set_inheritable(read, True)
    return read


def inherited_workload():
    """Return the workload that ``hide_workload`` left, or ``None`` when it comes on stdin."""
    fd = os.environ.pop(WORKLOAD_FD, None)
    if fd is None:
        return None
    with open(int(fd), "rb") as file:
        return file.read()


def workload_from_stdin():
    """Read stdin to its end, at most until the hand-over timeout, counted from the start of this program."""
    import select

    timeout = float(os.environ.get(HANDOVER_TIMEOUT) or DEFAULT_HANDOVER_TIMEOUT)
    parts = []
    while True:
        # One look is always taken: importing Airflow from a cold disk may have used the time up while the bytes lie ready.
        ready, _, _ = select.select([0], [], [], max(0.0, STARTED + timeout - time.monotonic()))
        if not ready:
            raise Failure(
                EXIT_NO_WORKLOAD,
                f"no workload came on stdin within {timeout:g} s ({sum(map(len, parts))} bytes, not closed); "
                "the executor creates another sandbox if the task is still its own",
            )
        part = os.read(0, 65536)
        if not part:
            break
        parts.append(part)
    if not parts:
        raise Failure(EXIT_NO_WORKLOAD, "stdin was closed without a workload")
    return b"".join(parts)


def decode(raw):
    """Return the workload as plain data. The text of an error never quotes it: it holds a token."""
    import json

    try:
        workload = json.loads(raw)
    except ValueError as error:
        position = getattr(error, "pos", "?")
        raise Failure(EXIT_WORKLOAD_UNREADABLE, f"the workload is not JSON (at character {position} of {len(raw)} bytes)") from None
    if not isinstance(workload, dict) or not isinstance(workload.get("type"), str):
        raise Failure(EXIT_WORKLOAD_UNREADABLE, "the workload is not a JSON object with a type") from None
    return workload


# --- the place --------------------------------------------------------------------------------------------------------------


def prepare_home():
    """Give Airflow a folder it can write: ``AIRFLOW_HOME`` if set and usable, else one of our own."""
    home = os.environ.get("AIRFLOW_HOME") or os.path.join(os.path.expanduser("~"), "airflow")
    if not usable(home):
        import tempfile

        os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-")
        if os.environ.get("AIRFLOW_HOME"):
            log.say("warning", f"AIRFLOW_HOME: cannot write {home}; using {os.environ['AIRFLOW_HOME']}")


def usable(folder):
    """Tell whether ``folder`` exists or can be made, and takes new files."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def prepare_log(relative):
    """Decide on the task's log file, ``relative`` to the log folder, and return the path for the supervisor.

    A log folder that cannot be written (a Volume that is mounted read-only, or not at all) must not stop the task: its log
    then goes to a private folder, and to stdout as always.
    """
    parts = relative.replace("\\", "/").split("/")
    if os.path.isabs(relative) or ".." in parts:
        raise Failure(EXIT_WORKLOAD_UNREADABLE, f"log path: expected a path inside the log folder, got {relative!r}")
    folder = os.environ.get(LOG_FOLDER)
    if folder is None:
        home = os.environ.get("AIRFLOW_HOME") or os.path.join(os.path.expanduser("~"), "airflow")
        folder = os.environ[LOG_FOLDER] = os.path.join(home, "logs")
    if not usable(os.path.dirname(os.path.join(folder, relative))):
        import tempfile

        private = os.environ[LOG_FOLDER] = tempfile.mkdtemp(prefix="airflow-logs-")
        log.say("warning", f"cannot write the log folder {folder}: this log is on stdout and in {private}, which goes with the sandbox")
        folder = private
    log.goes_to(os.path.join(folder, relative))
    return relative


# --- Airflow ----------------------------------------------------------------------------------------------------------------


def import_airflow():
    """Import Airflow's supervisor; raises ``Failure`` with the cause and what the image has."""
    try:
        import airflow

        found = airflow.__version__
    except Exception as error:
        raise Failure(
            EXIT_NO_AIRFLOW,
            f"Airflow cannot be imported in this image ({type(error).__name__}: {error}); the image needs "
            f"apache-airflow=={os.environ.get(AIRFLOW_VERSION) or '3.*'}, this is Python {sys.version.split()[0]} at {sys.executable}",
        ) from error
    wanted = os.environ.get(AIRFLOW_VERSION)
    if wanted and wanted.split(".")[:2] != found.split(".")[:2]:
        raise Failure(
            EXIT_NO_AIRFLOW,
            f"this image has Airflow {found}, the scheduler has {wanted}: they must be of the same minor version",
        )
    try:
        from airflow.sdk.execution_time import supervisor
    except Exception as error:
        raise Failure(
            EXIT_NO_AIRFLOW,
            f"Airflow {found} in this image has no usable task SDK ({type(error).__name__}: {error})",
        ) from error
    return supervisor


def use_launch_id_as_hostname():
    """Make Airflow's ``[core] hostname_callable`` answer the launch id.

    Airflow takes two workers with the same hostname, user and pid for one and lets both run a task; pids are small and
    repeat in containers. The callable must be importable by name, and the image has nothing of ours: hence the module made here.
    """
    launch_id = os.environ.get(LAUNCH_ID)
    if not launch_id:
        return
    import types

    from airflow.configuration import conf as core_conf
    from airflow.sdk.configuration import conf as sdk_conf

    module = types.ModuleType(HOSTNAME_MODULE)
    module.hostname = lambda: launch_id
    sys.modules[HOSTNAME_MODULE] = module
    # An environment variable would win over what is set here, and would break `airflow` commands that the task starts.
    os.environ.pop("AIRFLOW__CORE__HOSTNAME_CALLABLE", None)
    for conf in (core_conf, sdk_conf):
        conf.set("core", "hostname_callable", HOSTNAME_MODULE + ".hostname")


def skip_tail(supervisor):
    """Make the supervisor notice the end of its child at once; return whether it could be done.

    Airflow 3.3's supervisor, when all pipes of the child are closed but the child is not yet reaped, sleeps in ``select``
    for up to ``[workers] min_heartbeat_interval`` (5 s), because nothing is left that could wake it. Waiting for
    the process itself, for as long as that, ends with the process.
    """
    watched = getattr(supervisor, "WatchedSubprocess", None)
    original = getattr(watched, "_service_subprocess", None)
    fields = {field.name for field in getattr(watched, "__attrs_attrs__", ())}
    if original is None or not {"_open_sockets", "_process", "_exit_code"} <= fields:
        log.say("info", "this Airflow's supervisor is not the one whose wait modalflow knows to shorten; it runs as it is")
        return False

    def _service_subprocess(self, max_wait_time, *args, **kwargs):
        if self._exit_code is None and not self._open_sockets:
            try:
                self._process.wait(timeout=max(0.01, max_wait_time))
            except (self._process.TimeoutExpired, self._process.ProcessNotFound):
                pass
            max_wait_time = 0
        return original(self, max_wait_time, *args, **kwargs)

    watched._service_subprocess = _service_subprocess
    return True


def execution_api_url():
    """Return the address of the execution API as this sandbox reaches it."""
    from airflow.sdk.configuration import conf

    url = conf.get("core", "execution_api_server_url", fallback=None)
    return url or conf.get("api", "base_url", fallback="/").rstrip("/") + "/execution/"


def run(workload, log_path, supervisor):
    """Run one workload to its end under Airflow's supervisor."""
    from airflow.sdk.log import configure_logging

    server = execution_api_url()
    configure_logging(output=sys.stdout.buffer, json_output=True)
    if workload["type"] == "ExecuteTask":
        run_task(workload, log_path, supervisor, server)
    else:
        run_other(workload, log_path, server)


def run_task(workload, log_path, supervisor, server):
    """Supervise a task, with the models that the worker speaks anyway rather than the executor's, which load the ORM."""
    from airflow.sdk.api.datamodels._generated import BundleInfo, TaskInstance

    set_title("airflow supervisor: " + workload["ti"]["id"])
    supervisor.supervise_task(
        ti=TaskInstance.model_validate(workload["ti"]),
        bundle_info=BundleInfo.model_validate(workload["bundle_info"]),
        dag_rel_path=workload["dag_rel_path"],
        token=workload["token"],
        server=server,
        log_path=log_path,
        subprocess_logs_to_stdout=True,
        sentry_integration=workload.get("sentry_integration") or "",
    )


def run_other(workload, log_path, server):
    """Run a callback or a connection test as ``execute_workload`` does."""
    import pydantic
    from airflow.executors import workloads
    from airflow.executors.base_executor import BaseExecutor

    if log_path is not None:
        workload = {**workload, "log_path": log_path}
    try:
        decoded = pydantic.TypeAdapter(workloads.All).validate_python(workload)
    except pydantic.ValidationError as error:
        raise unreadable(error) from None
    BaseExecutor.run_workload(decoded, server=server, subprocess_logs_to_stdout=True)


def unreadable(error):
    """Turn a pydantic error into ours, without the values: one of them is the token."""
    places = "; ".join(".".join(map(str, found["loc"])) + ": " + found["msg"] for found in error.errors(include_input=False))
    return Failure(EXIT_WORKLOAD_UNREADABLE, f"the workload is not one that this Airflow knows ({places})")


def set_title(title):
    """Name the process, where the image can."""
    if sys.platform == "darwin":
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(title)


# --- the whole --------------------------------------------------------------------------------------------------------------


def work():
    """Take the workload and run it; raises ``Failure`` for every end that is foreseen."""
    if WORKLOAD in os.environ:
        hide_workload()
    raw = inherited_workload()
    workload = None if raw is None else decode(raw)
    prepare_home()
    relative = os.environ.get(LOG_PATH) or (workload or {}).get("log_path")
    if relative:
        prepare_log(relative)
    supervisor = import_airflow()
    if workload is None:
        workload = decode(workload_from_stdin())
        relative = relative or workload.get("log_path")
        if relative and log.path is None:
            prepare_log(relative)
    use_launch_id_as_hostname()
    skip_tail(supervisor)
    run(workload, relative, supervisor)


def main():
    """Run ``work`` and leave with its exit code, at once."""
    try:
        work()
        code = EXIT_REPORTED
    except Failure as failure:
        log.say("error", str(failure))
        code = failure.code
    leave(code)


def leave(code):
    """Flush what was written and end without the interpreter's teardown, which takes long with all of Airflow loaded."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
