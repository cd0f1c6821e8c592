"""``modalflow emulator coverage``: what the emulator serves of the installed modal client's protocol.

Flows in: ``modalflow.emulator.coverage``. Flows out: a table on stdout, or JSON; with ``--check`` an exit code.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modalflow.emulator.coverage import Coverage


def add_coverage(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare ``coverage``."""
    parser = commands.add_parser(
        "coverage", help="what is served of the installed modal client's protocol, and what is new in it"
    )
    parser.add_argument("--json", action="store_true", help="every RPC with its state, for programs")
    parser.add_argument(
        "--check", action="store_true", help="exit with 1 if the client has RPCs that this modalflow does not know"
    )
    parser.set_defaults(run=run_coverage)


def run_coverage(arguments: argparse.Namespace) -> int:
    """Print the coverage; 1 with ``--check`` if the client differs from the one that we know."""
    from modalflow.emulator.coverage import coverage  # noqa: PLC0415 -- heavy

    found = coverage()
    sys.stdout.write(_json(found) if arguments.json else _text(found))
    return int(arguments.check and bool(found.new or found.gone))


def _json(found: Coverage) -> str:
    return json.dumps({**asdict(found), "rpcs": [asdict(rpc) for rpc in found.rpcs]}, indent=2) + "\n"


def _text(found: Coverage) -> str:
    lines = [f"modal {found.client}; this modalflow knows modal {found.known_client}", ""]
    for service in found.services:
        lines.append(f"{service:<24}  served  partly  not served")
        for family in found.families(service):
            served, partly, missing = (len(found.of(service, family, state)) for state in ("served", "partly", "not served"))
            lines.append(f"  {family:<22}  {served:>6}  {partly:>6}  {missing:>10}")
        lines.append("")
    lines += [f"partly: {rpc.name}: {rpc.missing}" for rpc in found.rpcs if rpc.missing]
    lines += [f"new:  {name}" for name in found.new] + [f"gone: {name}" for name in found.gone]
    return "\n".join(lines).rstrip("\n") + "\n"
