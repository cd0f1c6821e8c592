"""``modalflow deploy``, as modalflow 0.3.1 had it: it deploys nothing, says what to write instead, and uploads DAGs where asked.

In: the flags of 0.3.1. Out: the options that stand for them, and what is no longer needed. Next: ``sync_command``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from importlib.metadata import version

from modalflow.cli.sync_command import folder, sync
from modalflow.predecessor import DEFAULT_ENV, RELEASE, bundle_of

SOURCES = ("local", "volume", "cloud-bucket")
NEEDED = {
    "local": ("dags_path",),
    "volume": ("dags_path", "dags_volume"),
    "cloud-bucket": ("dags_bucket", "dags_bucket_secret"),
}
"""Flags that 0.3.1 asked for, by source."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of 0.3.1."""
    parser.add_argument("--env", default=DEFAULT_ENV, help=f"suffix of the App of modalflow {RELEASE} (default: {DEFAULT_ENV})")
    parser.add_argument("--dags-source", choices=SOURCES, required=True, help="where the DAGs are for tasks")
    parser.add_argument("--dags-path", type=folder, help="folder of the DAGs (local, volume)")
    parser.add_argument("--dags-volume", help="Modal Volume for the DAGs (volume)")
    parser.add_argument("--dags-bucket", help="s3://BUCKET/PREFIX of the DAGs (cloud-bucket)")
    parser.add_argument("--dags-bucket-secret", help="Modal Secret with the keys of the bucket (cloud-bucket)")
    parser.add_argument("--airflow-version", help="without effect: tasks run the scheduler's Airflow")


def run(arguments: argparse.Namespace) -> int:
    """Run the command: 0, 2 for flags that 0.3.1 refused, or 1 with one sentence on stderr."""
    for name in NEEDED[arguments.dags_source]:
        if not getattr(arguments, name):
            flag = "--" + name.replace("_", "-")
            sys.stderr.write(f"{flag} is required when --dags-source is '{arguments.dags_source}'\n")
            return 2
    sys.stdout.write("".join(f"{line}\n" for line in _report(arguments)))
    if arguments.dags_source == "volume":
        return sync(arguments.dags_path, arguments.dags_volume)
    return 0


def _report(arguments: argparse.Namespace) -> Iterator[str]:
    yield "modalflow deploys nothing any more: its App, image and Volumes are made when the first task needs them."
    yield "Write this into airflow.cfg, for the scheduler and the API server:"
    yield ""
    yield from (f"    {line}" for line in _options(arguments))
    yield ""
    yield "No longer needed:"
    yield from (f"  {line}" for line in _not_needed(arguments))
    yield ""
    yield f"When the last task of modalflow {RELEASE} has ended, remove what it made:"
    yield f"  modal app stop modalflow-{arguments.env}"
    yield f"  modal dict delete airflow-state-{arguments.env}"
    yield f"  modal volume delete airflow-logs-{arguments.env}    (its logs, which are not read any more)"


def _options(arguments: argparse.Namespace) -> Iterator[str]:
    yield "[core]"
    yield "executor = modalflow.executor.ModalExecutor"
    yield "[logging]"
    yield "logging_config_class = modalflow.provider.logging_config.LOGGING_CONFIG"
    if arguments.dags_source == "cloud-bucket":
        yield "[dag_processor]"
        yield f"dag_bundle_config_list = {bundle_of(arguments.dags_bucket)}"
    yield "[modal_executor]"
    yield f"app_name = modalflow-{arguments.env}"
    if arguments.dags_source == "volume":
        yield f"dags_volume = {arguments.dags_volume}"
    elif arguments.dags_source == "cloud-bucket":
        yield f"secrets = {arguments.dags_bucket_secret}"


def _not_needed(arguments: argparse.Namespace) -> Iterator[str]:
    yield f"--env {arguments.env}: it only named things. app_name keeps the App; a Modal environment is the option `environment`."
    if arguments.dags_source == "local":
        yield (
            f"--dags-source local: the scheduler brings its folder of DAGs to Modal whenever that changes; if that is not "
            f"{arguments.dags_path}, write [core] dags_folder = {arguments.dags_path}."
        )
    if arguments.dags_source == "volume":
        yield (
            "--dags-volume, with modalflow sync: without dags_volume, the scheduler brings its folder of DAGs to Modal whenever "
            "that changes."
        )
    if arguments.dags_source == "cloud-bucket":
        yield (
            "--dags-bucket: tasks fetch the DAGs by a bundle, which needs apache-airflow-providers-amazon beside the scheduler; "
            "the tasks' image then has it too."
        )
    if arguments.airflow_version:
        own = version("apache-airflow-core")
        yield f"--airflow-version {arguments.airflow_version}: tasks run the scheduler's Airflow, which is {own} here."
    yield "MODALFLOW_ENV and the other MODALFLOW_… variables: the scheduler's log says at start which it finds."
