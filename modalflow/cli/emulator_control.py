"""``modalflow emulator status`` and its neighbours: what is done to a running emulator from a shell.

Flows in: arguments, and where the emulator is (``MODALFLOW_EMULATOR_CONTROL``, which ``start`` prints and ``run`` sets). Flows
out: requests to its control endpoint, and its answers as YAML on stdout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence

import yaml

VARIABLE = "MODALFLOW_EMULATOR_CONTROL"
_SECONDS = 60.0

Commands = argparse._SubParsersAction


class ControlError(Exception):
    """The endpoint is not there, or refused; the text is fit for a user."""


def add_control(commands: Commands[argparse.ArgumentParser]) -> None:
    """Declare the commands."""
    status = commands.add_parser("status", help="what a running emulator has in force: isolation, capacity, faults, sandboxes")
    _does(status, lambda _: ("GET", "/status", None))
    _add_faults(commands.add_parser("faults", help="failures of a running emulator: add, list, clear"))
    capacity = commands.add_parser("capacity", help="change the stock and the delays of a running emulator")
    capacity.add_argument("action", choices=["set"])
    capacity.add_argument("settings", nargs="+", metavar="NAME=VALUE", help="such as cpus=16 or 'give_up={H100: 30}'")
    _does(capacity, lambda arguments: ("POST", "/capacity", _settings(arguments.settings)))
    clock = commands.add_parser("clock", help="drive the time of a running emulator")
    clock.add_argument("action", choices=["advance", "freeze", "resume"])
    clock.add_argument("seconds", nargs="?", type=float, help="of advance")
    _does(clock, lambda arguments: ("POST", "/clock", {"do": arguments.action, "seconds": arguments.seconds}))
    preempt = commands.add_parser("preempt", help="preempt a sandbox: SIGINT, and the end a while later")
    preempt.add_argument("sandbox_id")
    preempt.add_argument("--grace", type=float, metavar="SECONDS", help="until the end (default: that of the capacity)")
    _does(preempt, lambda arguments: ("POST", f"{_sandbox(arguments)}/preempt", {"grace": arguments.grace}))
    end = commands.add_parser("end", help="end a sandbox with any status, such as MEMORY_MANAGER_EVICTION")
    end.add_argument("sandbox_id")
    end.add_argument("status")
    end.add_argument("--exitcode", type=int)
    end.add_argument("--exception", metavar="TEXT", help="the reason that clients read")
    _does(end, lambda arguments: ("POST", f"{_sandbox(arguments)}/end", _named(arguments, "status", "exitcode", "exception")))
    connections = commands.add_parser("connections", help="close or refuse connections, or leave calls without an answer")
    connections.add_argument("action", choices=["close", "refuse", "accept", "freeze", "thaw"])
    _does(connections, lambda arguments: ("POST", "/connections", {"do": arguments.action}))
    restart = commands.add_parser("restart", help="restart on the same port with the same token; sandboxes end")
    restart.add_argument("--without-state", action="store_true", help="come back empty")
    _does(restart, lambda arguments: ("POST", "/restart", {"keep_state": not arguments.without_state}))


def _add_faults(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="add|list|clear", required=True)
    add = actions.add_parser("add", help="have something happen to calls of a method")
    add.add_argument("method", help="an RPC such as SandboxCreateV2, with wildcards, or of the block store: 'GET /block'")
    add.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="such as status=UNAVAILABLE, times=2, 'delay=[0.1, 0.5]'")
    _does(add, lambda arguments: ("POST", "/faults", {"method": arguments.method, **_settings(arguments.settings)}))
    _does(actions.add_parser("list", help="show them, and what they did"), lambda _: ("GET", "/faults", None))
    clear = actions.add_parser("clear", help="drop one, or all")
    clear.add_argument("number", nargs="?", type=int, help="of the fault, as in the list")
    _does(clear, lambda arguments: ("DELETE", "/faults" if arguments.number is None else f"/faults/{arguments.number}", None))


def _does(parser: argparse.ArgumentParser, request: object) -> None:
    parser.set_defaults(run=_run, request=request)


def _run(arguments: argparse.Namespace) -> int:
    """Ask the endpoint and print its answer."""
    try:
        answer = _asked(*arguments.request(arguments))
    except ControlError as error:
        sys.stderr.write(f"modalflow emulator: {error}\n")
        return 1
    if answer:
        sys.stdout.write(yaml.safe_dump(answer, sort_keys=False, allow_unicode=True))
    return 0


def _asked(method: str, path: str, body: object) -> object:
    address = urllib.parse.urlsplit(os.environ.get(VARIABLE, ""))
    try:
        port = address.port
    except ValueError:
        port = None
    if address.scheme != "http" or not address.username or not address.hostname or port is None:
        raise ControlError(
            f"{VARIABLE} does not say where an emulator is; `modalflow emulator start` prints it, `run` sets it for its command"
        )
    url = f"http://{address.hostname}:{port}{path}"
    headers = {"Authorization": f"Bearer {address.username}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        raise ControlError(_reason(error)) from error
    except OSError as error:
        raise ControlError(f"no emulator answers at http://{address.hostname}:{port}: {error}") from error


def _reason(error: urllib.error.HTTPError) -> str:
    content = error.read()
    try:
        return str(json.loads(content)["error"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}"


def _sandbox(arguments: argparse.Namespace) -> str:
    return f"/sandboxes/{urllib.parse.quote(arguments.sandbox_id, safe='')}"


def _named(arguments: argparse.Namespace, *names: str) -> dict[str, object]:
    return {name: getattr(arguments, name) for name in names}


def _settings(texts: Sequence[str]) -> dict[str, object]:
    """Read ``NAME=VALUE`` entries, the values in YAML. The endpoint says what it does not know."""
    found: dict[str, object] = {}
    for entry in texts:
        name, equals, value = entry.partition("=")
        if not equals:
            raise ControlError(f"expected NAME=VALUE such as times=2, got {entry!r}")
        try:
            found[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # YAML's timestamps are refused by datetime
            raise ControlError(f"{name}: {value!r} is not YAML: {' '.join(str(error).split())}") from error
    return found
