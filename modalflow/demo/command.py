"""``modalflow demo``: run once, or keep running (``up``) until told to stop (``down``).

Light to import: the ``modalflow`` command loads it to know the arguments; Airflow and the emulator come later.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STATE = Path(".modalflow") / "up.json"
"""Where ``up`` writes what ``down`` needs: in the folder it was called in."""

UP_TIMEOUT = 240.0
DOWN_TIMEOUT = 60.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``run``, ``up`` and ``down``."""
    commands = parser.add_subparsers(dest="demo_command", metavar="run|up|down")
    for name, text in (("run", "run the example DAGs, print the table, stop"), ("up", "start and keep running")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--home", type=Path, help="an empty folder to work in (default: a new temporary one)")
        command.add_argument(
            "--worker-python",
            type=Path,
            default=Path(sys.executable),
            help="Python with Airflow that plays the sandboxes' image (default: this one)",
        )
    commands.add_parser("down", help="stop what `up` started")
    serve = commands.add_parser("serve")
    serve.add_argument("--home", type=Path, required=True)
    serve.add_argument("--worker-python", type=Path, required=True)
    serve.add_argument("--state", type=Path, required=True)


def run(arguments: argparse.Namespace) -> int:
    """Carry out the chosen command; return its exit code."""
    match arguments.demo_command:
        case "up":
            return _up(arguments)
        case "down":
            return _down()
        case "serve":
            return _serve(arguments)
        case _:
            from modalflow.demo.run import run_demo  # noqa: PLC0415 - Airflow's client and the emulator only when needed

            home = getattr(arguments, "home", None) or _new_home()
            python = getattr(arguments, "worker_python", None) or Path(sys.executable)
            return run_demo(home.absolute(), worker_python=python.absolute())


def _new_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="modalflow-demo-"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _running() -> dict[str, str | int] | None:
    """What ``up`` wrote, if that process still lives."""
    if not STATE.exists():
        return None
    state: dict[str, str | int] = json.loads(STATE.read_text())
    return state if _alive(int(state["pid"])) else None


def _up(arguments: argparse.Namespace) -> int:
    if (state := _running()) is not None:
        print(f"already up: {state['url']} (modalflow demo down stops it)")
        return 0
    STATE.parent.mkdir(exist_ok=True)
    STATE.unlink(missing_ok=True)
    home = (arguments.home or _new_home()).absolute()
    log = home.with_name(f"{home.name}.log")
    command = [sys.executable, "-m", "modalflow.cli.main", "demo", "serve", "--home", str(home)]
    command += ["--worker-python", str(arguments.worker_python.absolute()), "--state", str(STATE.absolute())]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
        )
    deadline = time.monotonic() + UP_TIMEOUT
    print("starting the emulator and Airflow (about half a minute)…", flush=True)
    while _running() is None:
        if process.poll() is not None or time.monotonic() > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            print(f"did not start; see {log}", file=sys.stderr)
            return 1
        time.sleep(0.3)
    _print_how_to_log_in(json.loads(STATE.read_text()))
    return 0


def _print_how_to_log_in(state: dict[str, str | int]) -> None:
    print(f"Airflow:  {state['url']}")
    print(f'log in:   user admin, password in {state["password_file"]} (the value after "admin")')
    print(f"DAGs:     {state['dags']}")
    print(f"logs:     {state['log']}")
    print("stop:     modalflow demo down (or make down), from this folder")


def _down() -> int:
    state = _running()
    if state is None:
        print("nothing is up")
        STATE.unlink(missing_ok=True)
        return 0
    pid = int(state["pid"])
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + DOWN_TIMEOUT
    while _alive(pid):
        if time.monotonic() > deadline:
            print(f"process {pid} did not stop within {DOWN_TIMEOUT:.0f} s", file=sys.stderr)
            return 1
        time.sleep(0.2)
    STATE.unlink(missing_ok=True)
    print("stopped")
    return 0


def _serve(arguments: argparse.Namespace) -> int:
    """Hold the deployment until SIGTERM; this is the process that ``up`` leaves behind."""
    from modalflow.demo.deployment import airflow_log, deploy, password_file  # noqa: PLC0415 - the emulator only when needed

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    with deploy(arguments.home, worker_python=arguments.worker_python) as deployment:
        state = {
            "pid": os.getpid(),
            "url": deployment.airflow.url,
            "password_file": str(password_file(arguments.home)),
            "dags": str(arguments.home / "dags"),
            "log": str(airflow_log(arguments.home)),
        }
        partial = arguments.state.with_suffix(".partial")
        partial.write_text(json.dumps(state))
        partial.replace(arguments.state)
        while True:
            deployment.airflow.check_alive()
            time.sleep(1)
