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

from modalflow.worker.api_failures import api_failure
from modalflow.worker.ending import let_stop
from modalflow.worker.errors import (
    EXIT_AIRFLOW_UNUSABLE,
    EXIT_CALLBACK_FAILED,
    EXIT_CRASHED,
    EXIT_NOT_SET_UP,
    EXIT_REPORTED,
    EXIT_SIGTERM,
    EXIT_WORKLOAD_UNREADABLE,
    Failure,
    SetUpError,
)
from modalflow.worker.keeping import Keeping
from modalflow.worker.relay import go_by_relay
from modalflow.worker.set_up import SetUp
from modalflow.worker.syncing import Syncing
from modalflow.worker.task_log import LOG_FOLDER, Log
from modalflow.worker.workload import WORKLOAD, hide_workload, inherited_workload, stdin_is_ready, workload_from_stdin

LAUNCH_ID = "MODALFLOW_LAUNCH_ID"
LOG_PATH = "MODALFLOW_LOG_PATH"
AIRFLOW_VERSION = "MODALFLOW_AIRFLOW_VERSION"
EXECUTORS = "MODALFLOW_EXECUTORS"
"""The names that tasks of this deployment may give as their ``executor``, as ``[core] executor`` would say them."""
SUMMARY = "MODALFLOW_SUMMARY"
"""What Modal was asked for and who decided it: the first line of the task's log."""
SANDBOX_ID = "MODAL_SANDBOX_ID"
"""Set by Modal in every sandbox."""

FLUSH_MILLISECONDS = 5_000
"""Longest time that metrics may take to leave at the end; without an exporter it is none."""
HOSTNAME_MODULE = "_modalflow_sandbox"


log = Log()
syncing = Syncing(log.say)


# --- the workload -----------------------------------------------------------------------------------------------------------


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


def own_file(log_path: str | None) -> str | None:
    """Return the file of this sandbox beside the try's ``log_path``; the path itself if this is no sandbox.

    A try may have several sandboxes (resumed after deferral, rescheduled, relaunched), and one may start before the last one's
    files are committed. Of two that write one file of a Volume, the last to commit wins and the other's lines are lost. The
    name begins with ``log_path``, which is how it is found, and sorts by its start (UTC).
    """
    sandbox_id = os.environ.get(SANDBOX_ID)
    if not log_path or not sandbox_id:
        return log_path
    return f"{log_path}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.{sandbox_id}.log"


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
    else:
        syncing.mount = folder
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
    """Make Airflow's ``[core] hostname_callable`` answer launch id and sandbox id.

    Airflow takes two workers with the same hostname, user and pid for one and lets both run a task; pids are small and
    repeat in containers, and a launch whose first sandbox was lost has a second. The callable must be importable by name, and
    the image has nothing of ours: hence the module.
    """
    launch_id = os.environ.get(LAUNCH_ID)
    if not launch_id:
        return
    import types

    from airflow.configuration import conf as core_conf
    from airflow.sdk.configuration import conf as sdk_conf

    module = types.ModuleType(HOSTNAME_MODULE)
    sandbox_id = os.environ.get(SANDBOX_ID)
    hostname = f"{launch_id}/{sandbox_id}" if sandbox_id else launch_id
    module.__dict__["hostname"] = lambda: hostname
    sys.modules[HOSTNAME_MODULE] = module
    # An environment variable would win over this, and would reach `airflow` commands of the task, which have no such module.
    os.environ.pop("AIRFLOW__CORE__HOSTNAME_CALLABLE", None)
    for conf in (core_conf, sdk_conf):
        conf.set("core", "hostname_callable", HOSTNAME_MODULE + ".hostname")


def know_executors() -> None:
    """Have Airflow know the executors' names, in this process only: it refuses a DAG whose tasks name another one (3.3.2).

    The classes are not in this image, and ``airflow`` commands of the task shall not look for them: hence no variable.
    """
    names = os.environ.get(EXECUTORS)
    if not names:
        return
    from airflow.configuration import conf

    os.environ.pop("AIRFLOW__CORE__EXECUTOR", None)  # it would win
    conf.set("core", "executor", names)


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


def run(workload: dict[str, Any], log_path: str | None, supervisor: Any, ending: Any, keeping: Keeping) -> None:
    """Run one workload to its end under Airflow's supervisor; every foreseen end that is not a report is a ``Failure``.

    ``ending`` says how it ends if it is to stop, ``keeping`` what follows if it fails.
    """
    from airflow.sdk.log import configure_logging
    from airflow.settings import dispose_orm

    dispose_orm(do_log=False)
    configure_logging(output=sys.stdout.buffer, json_output=True)
    server = execution_api_url()
    is_task = workload["type"] == "ExecuteTask"
    # Airflow itself writes the lines of callbacks to stdout, always; those of tasks only if it is told to.
    log.copied = is_task and log_path is not None
    log.copied = skip_tail(supervisor, served) and log.copied
    let_stop(supervisor, ending, log.say)
    kept = is_task and keeping.watch(supervisor, log.say)
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
    if kept:
        keeping.stay(workload["ti"], log.say, flush_and_commit)


def served() -> None:
    """Bring on its way what the supervisor has just written."""
    log.copy()
    syncing.look(log.path)


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
    try:
        BaseExecutor.run_workload(decoded, server=server, subprocess_logs_to_stdout=True)
    except RuntimeError as error:
        # The words of ``supervise_callback`` (3.3.2) for a callback that raised, whose traceback it has logged.
        if workload["type"] != "ExecuteCallback" or not str(error).startswith("Callback subprocess exited"):
            raise
        raise Failure(EXIT_CALLBACK_FAILED, f"the callback {decoded.display_name} failed ({error})") from None


def set_title(title: str) -> None:
    """Name the process, where the image can."""
    if sys.platform == "darwin":
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(title)


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
    log_path = own_file(os.environ.get(LOG_PATH) or (workload or {}).get("log_path"))
    setup = SetUp(os.environ, log.say)
    syncing.take(os.environ)
    keeping = Keeping(os.environ)
    set_up(setup, log_path)
    if workload is not None:
        go_by_relay(workload, log.say)
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
        go_by_relay(workload, log.say)
        if not log_path and workload.get("log_path"):
            log_path = own_file(workload["log_path"])
            prepare_log(log_path or "", home)
            introduce()
    use_launch_id_as_hostname()
    know_executors()
    run(workload, log_path, supervisor, setup.ending, keeping)


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


def flush() -> None:
    """Copy and send what was written."""
    log.copy()
    if "logging" in sys.modules:
        for handler in sys.modules["logging"].getLogger().handlers:
            handler.flush()
    metrics = sys.modules.get("opentelemetry.metrics")
    send = getattr(metrics.get_meter_provider(), "force_flush", None) if metrics else None
    if send is not None:
        send(FLUSH_MILLISECONDS)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    syncing.finish(log.path)


def flush_and_commit() -> None:
    """Have all of it be seen while the sandbox runs on."""
    flush()
    log.commit()


def leave(code: int) -> NoReturn:
    """Flush what was written and end without the interpreter's teardown, which takes long with all of Airflow loaded.

    The log Volume is committed here; Modal commits it once more when the sandbox ends.
    """
    if "logging" in sys.modules:
        sys.modules["logging"].shutdown()
    flush()
    os._exit(code)


if __name__ == "__main__":
    main()
