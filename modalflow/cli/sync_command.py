"""``modalflow sync``, as modalflow 0.3.1 had it: a folder of DAGs, brought to a Modal Volume.

In: the flags of 0.3.1. Out: the folder ``dags-folder`` of that Volume, which ``[modal_executor] dags_volume`` reads. Next:
``modal_gateway.dag_upload``.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from modalflow.launch.gateway import GatewayError
from modalflow.predecessor import DAGS_FOLDER, RELEASE

SHOWN = 5
"""Names shown of what lies at the root of the Volume."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of 0.3.1."""
    parser.add_argument("--dags-path", type=folder, required=True, help="folder of the DAGs")
    parser.add_argument("--dags-volume", required=True, help="Modal Volume to bring them to; created if missing")


def folder(text: str) -> Path:
    """Read a folder that must exist."""
    path = Path(text).resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such folder")
    return path


def run(arguments: argparse.Namespace) -> int:
    """Run the command: 0, or 1 with one sentence on stderr."""
    return sync(arguments.dags_path, arguments.dags_volume)


def sync(path: Path, volume: str) -> int:
    """Bring the folder to the Volume and say what was done."""
    from modalflow.modal_gateway.dag_upload import replace_folder  # noqa: PLC0415 - imports modal

    try:
        done = replace_folder(path, volume, DAGS_FOLDER)
    except GatewayError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"{done.files} files of {path} are in the folder {DAGS_FOLDER} of Volume {volume!r}; {done.removed} that are gone here "
        f"were removed there.\nTasks read them with [modal_executor] dags_volume = {volume}.\n"
    )
    if done.at_root:
        some = ", ".join(done.at_root[:SHOWN]) + (" …" if len(done.at_root) > SHOWN else "")
        sys.stdout.write(
            f"At the root of the Volume are {len(done.at_root)} files ({some}), where modalflow {RELEASE} looked for DAGs. "
            f"Nothing here reads them; `modal volume rm {volume} PATH` removes one.\n"
        )
    return 0
