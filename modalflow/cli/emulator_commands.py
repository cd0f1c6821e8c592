"""``modalflow emulator start`` and ``modalflow emulator run -- COMMAND``; ``coverage`` is ``emulator_coverage``'s.

Flows in: arguments, and the credentials to accept from the environment (never from argv, which every user of the machine can
read). Flows out: an emulator that runs until it is told to stop, or a command's exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from modalflow.cli.emulator_control import add_control
from modalflow.cli.emulator_coverage import add_coverage
from modalflow.cli.exports import export_lines, write_private

if TYPE_CHECKING:
    from modalflow.emulator import EmulatorConfig
    from modalflow.emulator.state.conditions import Conditions

TOKEN_ID = "MODALFLOW_EMULATOR_TOKEN_ID"  # noqa: S105 -- the name of a variable
TOKEN_SECRET = "MODALFLOW_EMULATOR_TOKEN_SECRET"  # noqa: S105 -- the name of a variable


Handler = Callable[[int, FrameType | None], object]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare ``start``, ``run`` and ``coverage``."""
    commands = parser.add_subparsers(title="commands", metavar="start|run|status|...", required=True)
    start = commands.add_parser("start", help="start, print the environment to export, run until Ctrl-C")
    _add_options(start)
    start.add_argument("--env-file", type=Path, help="also write the export lines to this file (readable by you only)")
    start.add_argument(
        "--print-url",
        action="store_true",
        help="print the address as one line on stdout, nothing else; with --any-token, --env-file or a token in the environment",
    )
    start.set_defaults(run=run_start)
    run = commands.add_parser("run", help="run a command in the environment of an emulator that lives as long as it does")
    _add_options(run)
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments")
    run.set_defaults(run=run_command)
    add_coverage(commands)
    add_control(commands)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        f"The emulator accepts one token, random unless {TOKEN_ID} and {TOKEN_SECRET} are set. "
        "With the same ones and the same --port a restart looks the same to its clients."
    )
    parser.add_argument("--port", type=int, default=0, help="port of the control plane (default: a free one)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--allow-remote", action="store_true", help="allow a --host that others can reach: they can run commands")
    parser.add_argument("--gpus", metavar="A10G=2,H100=8", help="GPUs in stock (default: unlimited; empty text: none)")
    parser.add_argument("--cpus", metavar="16", help="cores in stock (default: unlimited)")
    parser.add_argument("--memory", metavar="64GiB", help="memory in stock (default: unlimited)")
    parser.add_argument(
        "--capacity",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another condition of the data centre, such as scheduling_delay=[1, 5] or create_rate_v2=20 (repeatable)",
    )
    parser.add_argument("--latency", type=float, default=0.0, metavar="MS", help="milliseconds added to every call (default: 0)")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="YAML file of faults that are in force from the start")
    parser.add_argument("--state-dir", type=Path, help="keep the state here over restarts (default: a temporary folder)")
    parser.add_argument(
        "--bucket", action="append", default=[], metavar="NAME=FOLDER", help="local folder that plays a cloud bucket (repeatable)"
    )
    parser.add_argument("--python", type=Path, help="interpreter or environment that plays every image (default: this one)")
    parser.add_argument(
        "--image-builds",
        choices=("auto", "run", "record"),
        default="auto",
        help="what image builds do: run their commands, or record them (default: run them if sandboxes are containers)",
    )
    parser.add_argument(
        "--network",
        choices=("auto", "own", "host"),
        default="auto",
        help="give each sandbox a network of its own, or this machine's (default: auto, its own if it is a container)",
    )
    parser.add_argument(
        "--network-range", default="198.18.0.0/15", metavar="CIDR", help="private addresses for networks (default: 198.18.0.0/15)"
    )
    parser.add_argument(
        "--isolation",
        choices=("auto", "container", "process"),
        default="auto",
        help="run sandboxes as containers, or as processes; auto takes containers where the machine allows it",
    )
    parser.add_argument("--any-token", action="store_true", help="accept any token, each a workspace of its own (loopback only)")


def run_start(arguments: argparse.Namespace) -> int:
    """Start an emulator, say how to reach it, and run until SIGINT or SIGTERM."""
    from modalflow.emulator import EmulatorConfigError, EmulatorThread  # noqa: PLC0415 -- heavy

    if arguments.print_url and not (arguments.any_token or arguments.env_file or os.environ.get(TOKEN_ID)):
        return _failed(
            ValueError(f"--print-url: nobody would know the token; add --any-token or --env-file FILE, or set {TOKEN_ID}")
        )
    _raise_file_limit()
    try:
        with _told_to_stop() as told, EmulatorThread(_config(arguments)) as emulator:
            exports = export_lines(_outliving(emulator.environment()))
            stdout = f"{emulator.url}\n" if arguments.print_url else exports
            if arguments.env_file:
                write_private(arguments.env_file, exports)
            _explain(emulator.url, emulator.isolation.words, emulator.network.words, arguments)
            sys.stdout.write(stdout)
            sys.stdout.flush()
            told.recv(1)
    except (EmulatorConfigError, OSError) as error:
        return _failed(error)
    return 0


def run_command(arguments: argparse.Namespace) -> int:
    """Run the command with an emulator beside it; return its exit code (128 + n after signal n)."""
    from modalflow.emulator import EmulatorConfigError, EmulatorThread  # noqa: PLC0415 -- heavy

    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        return _failed(ValueError("no command; write: modalflow emulator run -- COMMAND"))
    _raise_file_limit()
    try:
        with EmulatorThread(_config(arguments)) as emulator:
            child = subprocess.Popen(command, env={**os.environ, **emulator.environment()})  # noqa: S603 -- the user's own
            # A Ctrl-C at the terminal reaches the child by itself; what is sent to us alone is passed on.
            with _signals(lambda number, _: child.send_signal(number) if number == signal.SIGTERM else None):
                code = child.wait()
    except (EmulatorConfigError, OSError) as error:
        return _failed(error)
    return code if code >= 0 else 128 - code


def _outliving(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what may stay exported in a shell when the emulator has gone: without its certificates no TLS would work there."""
    return {name: value for name, value in environment.items() if name not in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")}


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each running sandbox takes three, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _config(arguments: argparse.Namespace) -> EmulatorConfig:
    from modalflow.emulator.config import EmulatorConfig, parse_buckets, parse_gpus  # noqa: PLC0415 -- heavy

    return EmulatorConfig(
        port=arguments.port,
        host=arguments.host,
        allow_remote=arguments.allow_remote,
        gpus=None if arguments.gpus is None else parse_gpus(arguments.gpus),
        conditions=_conditions(arguments),
        control=True,
        latency=arguments.latency / 1000,
        faults=arguments.faults,
        state_dir=arguments.state_dir,
        python=arguments.python,
        token_id=os.environ.get(TOKEN_ID) or None,
        token_secret=os.environ.get(TOKEN_SECRET) or None,
        any_token=arguments.any_token,
        isolation=arguments.isolation,
        network=arguments.network,
        network_range=arguments.network_range,
        buckets=parse_buckets(arguments.bucket),
        image_builds=arguments.image_builds,
    )


def _conditions(arguments: argparse.Namespace) -> Conditions:
    from modalflow.emulator.conditions_data import parse_settings  # noqa: PLC0415 -- heavy
    from modalflow.emulator.config import EmulatorConfigError  # noqa: PLC0415 -- heavy
    from modalflow.emulator.state.conditions import Conditions  # noqa: PLC0415 -- heavy

    named = {"cpus": arguments.cpus, "memory_mb": arguments.memory}
    texts = [*(f"{name}={value}" for name, value in named.items() if value is not None), *arguments.capacity]
    try:
        return Conditions(**parse_settings(texts))
    except ValueError as error:
        raise EmulatorConfigError(str(error)) from error


@contextlib.contextmanager
def _signals(handler: Handler) -> Iterator[None]:
    """Handle SIGINT and SIGTERM by one function for a while."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def _told_to_stop() -> Iterator[socket.socket]:
    """Yield a socket that has something to read once SIGINT or SIGTERM has come.

    Not an event that their handler sets: a signal just before the wait for it would not be noticed, and one within it could
    block on the event's own lock.
    """
    told, tell = socket.socketpair()
    with told, tell:
        tell.setblocking(False)  # noqa: FBT003
        before = signal.set_wakeup_fd(tell.fileno())
        try:
            with _signals(lambda *_: None):
                yield told
        finally:
            signal.set_wakeup_fd(before)


def _explain(url: str, isolation: str, network: str, arguments: argparse.Namespace) -> None:
    """Say on stderr what runs and what is isolated; stdout holds the export lines only, for ``eval``."""
    gpus = "unlimited" if arguments.gpus is None else arguments.gpus or "none"
    state = arguments.state_dir or "temporary, removed at the end"
    said = {"GPUs": gpus, "State": state, "Isolation": isolation, "Network": network}
    lines = (f"Modal emulator at {url}", *(f"{name}: {words}" for name, words in said.items()), "Ctrl-C stops it.")
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    sys.stderr.flush()


def _failed(error: Exception) -> int:
    sys.stderr.write(f"modalflow emulator: {error}\n")
    return 1 if isinstance(error, OSError) else 2
