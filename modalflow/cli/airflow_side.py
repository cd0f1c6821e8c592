"""``airflow modal …``: the commands of ``modalflow``, with the options of this Airflow as their site.

In: what Airflow's parser read. Out: the end of the process with the command's exit code. ``provider.commands`` names each
function by ``modalflow.cli.airflow_side.<command>``.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable

from modalflow.cli.shared import piped, run_of
from modalflow.provider.command_table import COMMANDS


def __getattr__(name: str) -> Callable[[Namespace], None]:
    command = COMMANDS.get(name)
    if command is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def run(arguments: Namespace) -> None:
        arguments.airflow = True
        raise SystemExit(piped(run_of(command), arguments))

    return run
