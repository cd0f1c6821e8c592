"""``modalflow demo``: run once, or keep running (``up``) until told to stop (``down``).

Flows in: arguments, and for ``down`` the file that ``up`` left in ``.modalflow``. Flows out: an exit code, and while something
is up ``.modalflow/up.env``, which gives a shell the environment of that deployment. ``run`` and ``deployment`` come next.

Light to import: the ``modalflow`` command loads it to know the arguments; Airflow and the emulator come later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from modalflow.cli.exports import export_lines, write_private

STATE = Path(".modalflow") / "up.json"
"""Where ``up`` writes what ``down`` needs: in the folder it was called in."""

UP_TIMEOUT = 240.0
DOWN_TIMEOUT = 60.0
INTERRUPTED = 128 + signal.SIGINT

PREAMBLE = """\
# The environment of the Airflow and the emulated Modal that `modalflow demo up` started; read it with the shell's `.` command.
# It holds credentials of that deployment. Airflow and Modal settings of your own are unset, so that none of them mixes in.
for name in $(env | sed -n -e 's/^\\(AIRFLOW_[A-Za-z0-9_]*\\)=.*/\\1/p' -e 's/^\\(MODAL_[A-Za-z0-9_]*\\)=.*/\\1/p'); do
  unset "$name"
done
unset name
"""

State = dict[str, str | int]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``run``, ``up`` and ``down``."""
    commands = parser.add_subparsers(dest="demo_command", metavar="run|up|down")
    for name, text in (("run", "run the example DAGs, print the table, stop (the default)"), ("up", "start and keep running")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--home", type=Path, help="a new or empty folder to work in (default: a new temporary one)")
        command.add_argument(
            "--worker-python",
            type=Path,
            default=Path(sys.executable),
            help="Python with Airflow that plays the sandboxes' image (default: this one)",
        )
        _add_isolation(command)
    commands.add_parser("down", help="stop what `up` started in this folder")
    serve = commands.add_parser("serve")
    serve.add_argument("--home", type=Path, required=True)
    serve.add_argument("--worker-python", type=Path, required=True)
    serve.add_argument("--state", type=Path, required=True)
    _add_isolation(serve)


def _add_isolation(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--isolation",
        choices=("auto", "container", "process"),
        default="auto",
        help="run sandboxes as containers, as processes, or as containers where this machine allows it (default: auto)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out the chosen command; return its exit code. Whatever it started has ended when Ctrl-C ends it."""
    try:
        match arguments.demo_command:
            case "up":
                return _up(arguments)
            case "down":
                return _down()
            case "serve":
                return _serve(arguments)
            case _:
                return _run(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    home: Path | None = getattr(arguments, "home", None)
    python: Path = getattr(arguments, "worker_python", None) or Path(sys.executable)
    if (wrong := _wrong(home, python)) is not None:
        return _failed(wrong)
    from modalflow.demo.run import run_demo  # noqa: PLC0415 - Airflow's client and the emulator only when needed

    isolation: str = getattr(arguments, "isolation", "auto")
    return run_demo((home or _new_home()).absolute(), worker_python=python.absolute(), isolation=isolation)


def _wrong(home: Path | None, python: Path) -> str | None:
    """What the arguments have wrong, before anything is started."""
    if home is not None and home.exists() and (not home.is_dir() or any(home.iterdir())):
        return f"--home: {home} is not an empty folder; name a new one"
    if not os.access(python, os.X_OK) or python.is_dir():
        return f"--worker-python: {python} is not an executable file; name the python of an environment with Airflow"
    return None


def _failed(text: str) -> int:
    print(f"modalflow demo: {text}", file=sys.stderr)
    return 2


def _new_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="modalflow-demo-"))


def _started_at(pid: int) -> int | None:
    """When a process started, in clock ticks since boot: tells it from a later one of the same number. None if it has ended."""
    try:
        # The second field is the command in parentheses and may hold anything; proc(5).
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _alive(state: State) -> bool:
    started_at = _started_at(int(state["pid"]))
    return started_at is not None and started_at == state.get("started_at")


def _running() -> State | None:
    """What ``up`` wrote, if that process still lives."""
    if not STATE.exists():
        return None
    state: State = json.loads(STATE.read_text())
    return state if _alive(state) else None


def _env_file(state_file: Path) -> Path:
    return state_file.with_suffix(".env")


def _forget() -> None:
    STATE.unlink(missing_ok=True)
    _env_file(STATE).unlink(missing_ok=True)


def _up(arguments: argparse.Namespace) -> int:
    if (state := _running()) is not None:
        print("already up")
        _print_how_to_use(state)
        return 0
    if (wrong := _wrong(arguments.home, arguments.worker_python)) is not None:
        return _failed(wrong)
    STATE.parent.mkdir(exist_ok=True)
    _forget()
    home = (arguments.home or _new_home()).absolute()
    home.mkdir(parents=True, exist_ok=True)
    log = home / "deployment.log"
    command = [sys.executable, "-m", "modalflow.cli.main", "demo", "serve", "--home", str(home)]
    command += ["--worker-python", str(arguments.worker_python.absolute()), "--state", str(STATE.absolute())]
    command += ["--isolation", arguments.isolation]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    print("starting the emulator and Airflow (half a minute to a minute)…", flush=True)
    up = False
    try:
        up = _wait_until_up(process)
    finally:
        if not up:  # also after Ctrl-C: what started in a session of its own would live on unseen
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            process.wait(DOWN_TIMEOUT)
    if not up:
        told = log.read_text(errors="replace").strip().splitlines()
        print(f"did not start: {told[-1] if told else 'it said nothing'}\nmore in {home}", file=sys.stderr)
        return 1
    _print_how_to_use(json.loads(STATE.read_text()))
    return 0


def _wait_until_up(process: subprocess.Popen[bytes]) -> bool:
    deadline = time.monotonic() + UP_TIMEOUT
    while _running() is None:
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.3)
    return True


def _print_how_to_use(state: State) -> None:
    print(f"Airflow:  {state['url']}")
    print(f'log in:   user admin, password in {state["password_file"]} (the value after "admin")')
    print(f"DAGs:     {state['dags']}")
    print(f"logs:     {state['log']}")
    print(state["isolation"])
    print(f"shell:    . {shlex.quote(str(_env_file(STATE)))}   (then `airflow` and `modal` in that shell mean this deployment)")
    print("stop:     modalflow demo down (or make down), from this folder")


def _down() -> int:
    state = _running()
    if state is None:
        print("nothing is up in this folder")
        _forget()
        return 0
    pid = int(state["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    while _alive(state):
        if time.monotonic() > deadline:
            print(f"process {pid} did not stop within {DOWN_TIMEOUT:.0f} s", file=sys.stderr)
            return 1
        time.sleep(0.2)
    _forget()
    print(f"stopped; its DAGs, database and logs are still in {state['home']}")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    """Hold the deployment until SIGTERM; this is the process that ``up`` leaves behind."""
    from modalflow.demo.deployment import DeploymentError, deploy, isolation_line  # noqa: PLC0415 - only when needed
    from modalflow.emulator import EmulatorConfigError  # noqa: PLC0415

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        with deploy(arguments.home, worker_python=arguments.worker_python, isolation=arguments.isolation) as deployment:
            told = isolation_line(deployment)
            _write_state(arguments.state, arguments.home, deployment.airflow.url, deployment.env, isolation=told)
            while True:
                deployment.airflow.check_alive()
                time.sleep(1)
    except (DeploymentError, EmulatorConfigError) as error:
        print(error, file=sys.stderr)  # the last line of the log, which `up` repeats
        return 1


def _write_state(file: Path, home: Path, url: str, env: dict[str, str], *, isolation: str) -> None:
    """Write the environment first: the state file says that all is ready."""
    from modalflow.demo.deployment import airflow_log, client_environment, password_file  # noqa: PLC0415

    path = f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"\n'
    write_private(_env_file(file), PREAMBLE + export_lines(client_environment(env)) + path)
    pid = os.getpid()
    state = {
        "pid": pid,
        "started_at": _started_at(pid),
        "url": url,
        "isolation": isolation,
        "home": str(home),
        "password_file": str(password_file(home)),
        "dags": str(home / "dags"),
        "log": str(airflow_log(home)),
    }
    write_private(file, json.dumps(state))
