"""What modalflow 0.3.1, the release before this code base, was told by, and what each of it is here.

In: the environment and options of a process that may still have them. Out: a sentence for each that is of 0.3.1, so that nothing
is dropped in silence. Facts read from the 0.3.1 wheel of 2026-03 (``cli.py``, ``modal_app.py``, ``executor/modal_executor.py``).
``executor.launching`` says the sentences at start, ``cli.deploy_command`` and ``cli.sync_command`` are the two commands, and
``docs/coming-from-modalflow-0.3.md`` has the tables, which a test holds to these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

RELEASE = "0.3.1"
DEFAULT_ENV = "main"
"""Of ``MODALFLOW_ENV`` and ``--env``: without it, 0.3.1 used the App ``modalflow-main``."""
DAGS_FOLDER = "dags-folder"
"""Airflow's own name of the bundle for ``[core] dags_folder``; ``dags_volume`` has one folder per bundle."""
FUNCTION = "execute_modal_task"
LOGS_VOLUME = "airflow-logs-"
S3_BUNDLE = "airflow.providers.amazon.aws.bundles.s3.S3DagBundle"


@dataclass(frozen=True, kw_only=True, slots=True)
class Former:
    """One thing of 0.3.1: its name, what it did, and what it is here, in Markdown."""

    name: str
    was: str
    here: str


DEPLOY_FLAGS: tuple[Former, ...] = (
    Former(
        name="--env",
        was="Suffix of the App, Dict and Volume. Not a Modal environment, though it was called so.",
        here="Accepted, nothing is named by it. `app_name = modalflow-ENV` keeps the App; `environment` is a Modal environment.",
    ),
    Former(
        name="--dags-source",
        was="`local`: baked into the image; `volume`: a Modal Volume; `cloud-bucket`: a bucket of S3, mounted.",
        here="Accepted, still required; says which options to write for it: none for `local`, because the scheduler brings its "
        "folder of DAGs to Modal whenever that changes (`dag_source`).",
    ),
    Former(name="--dags-path", was="The folder of the DAGs.", here="Accepted; with `volume` it is uploaded, as by `sync`."),
    Former(
        name="--dags-volume",
        was="The Volume with the DAGs at its root.",
        here="Accepted; the DAGs are put into its folder `dags-folder`, where `dags_volume` looks for them. Without that option "
        "none is needed.",
    ),
    Former(
        name="--dags-bucket",
        was="`s3://BUCKET/PREFIX`, mounted in every task.",
        here="Accepted; says which DAG bundle to write (`S3DagBundle` of apache-airflow-providers-amazon).",
    ),
    Former(
        name="--dags-bucket-secret",
        was="A Modal Secret with the bucket's keys.",
        here="Accepted; says `secrets = NAME`, by which every task has its keys.",
    ),
    Former(
        name="--airflow-version",
        was="Airflow of the tasks' image, 3.1.5 unless said.",
        here="Accepted, without effect: `image = auto` has exactly the scheduler's Airflow and providers.",
    ),
)
SYNC_FLAGS: tuple[Former, ...] = (
    Former(name="--dags-path", was="The folder of the DAGs.", here="Accepted, with the same meaning."),
    Former(
        name="--dags-volume",
        was="The Volume whose root was emptied, then filled.",
        here="Accepted; its folder `dags-folder` is filled, then what is gone here is removed there. Its root is left alone.",
    ),
)
VARIABLES: tuple[Former, ...] = (
    Former(
        name="MODALFLOW_ENV",
        was="Suffix of the App, Dict and Volume.",
        here="Reported at start. Write `app_name = modalflow-ENV` to keep the App.",
    ),
    Former(name="MODALFLOW_DAGS_DIR", was="`--dags-path`.", here="Reported at start. Write nothing (`dag_source`)."),
    Former(
        name="MODALFLOW_DAGS_VOLUME",
        was="`--dags-volume`.",
        here="Reported at start. Write nothing (`dag_source`); or `dags_volume`, filled by `sync`: DAGs are in a folder of it.",
    ),
    Former(name="MODALFLOW_DAGS_BUCKET", was="`--dags-bucket`.", here="Reported at start, with the DAG bundle to write instead."),
    Former(name="MODALFLOW_DAGS_BUCKET_SECRET", was="`--dags-bucket-secret`.", here="Reported at start. Write `secrets = NAME`."),
    Former(
        name="MODALFLOW_AIRFLOW_VERSION",
        was="`--airflow-version`.",
        here="Reported at start. Write nothing: `image = auto` has the scheduler's Airflow.",
    ),
    Former(
        name="AIRFLOW__CORE__EXECUTION_API_SERVER_URL",
        was="The execution API; `/execution/` was added where it was missing.",
        here="Accepted. One that does not end in `/execution/` stops the start with what to write.",
    ),
)
OBJECTS: tuple[Former, ...] = (
    Former(
        name="App `modalflow-ENV`",
        was="Held the deployed Function.",
        here="Not used unless `app_name` says so. `modal app stop modalflow-ENV` removes it.",
    ),
    Former(
        name=f"Function `{FUNCTION}`",
        was="Ran every task, in one container each.",
        here="Not called: each task has a sandbox of its own. In `[modal_executor] functions` it is reported at start.",
    ),
    Former(
        name="Dict `airflow-state-ENV`",
        was="The state and output of tasks.",
        here="Not used. `modal dict delete airflow-state-ENV` removes it.",
    ),
    Former(
        name="Volume `airflow-logs-ENV`",
        was="Logs, mounted at `/opt/airflow/logs`.",
        here="Not used; new logs are on `logs_volume`. As `logs_volume` it is reported at start: it is of version 1, which is "
        "not made for many writers. Old logs that 0.3.1 copied to `[logging] base_log_folder` are shown as before.",
    ),
    Former(
        name="`/opt/airflow/dags`, `/opt/airflow/logs`",
        was="Where a task found DAGs and logs.",
        here="A bundle is where Airflow's configuration has it, or below `/mnt/modalflow`: ask `__file__`, not a path.",
    ),
    Former(
        name="`modalflow.executor.ModalExecutor`, `modalflow.executor.modal_executor.ModalExecutor`",
        was="The executor's names in `[core] executor`.",
        here="Both are still its names.",
    ),
    Former(
        name="`modalflow.modal_app`",
        was="What `modal deploy` was given.",
        here="Raises an error that says so: there is nothing to deploy.",
    ),
)


def bundle_of(bucket: str) -> str:
    """Return the ``dag_bundle_config_list`` that reads the bucket ``s3://NAME/PREFIX``, as one line."""
    name, _, prefix = bucket.removeprefix("s3://").partition("/")
    kwargs = {"bucket_name": name, **({"prefix": prefix.strip("/")} if prefix.strip("/") else {})}
    return json.dumps([{"name": DAGS_FOLDER, "classpath": S3_BUNDLE, "kwargs": kwargs}])


_INSTEAD: Mapping[str, Callable[[str], str]] = {
    "MODALFLOW_ENV": lambda env: (
        f"it named the App modalflow-{env}, the Dict airflow-state-{env} and the Volume airflow-logs-{env}. To keep the App, "
        f"write [modal_executor] app_name = modalflow-{env}; a Modal environment is [modal_executor] environment"
    ),
    "MODALFLOW_DAGS_DIR": lambda path: (
        f"the scheduler brings its own folder of DAGs to Modal whenever that changes; if that is not {path}, write [core] "
        f"dags_folder = {path}"
    ),
    "MODALFLOW_DAGS_VOLUME": lambda volume: (
        "the scheduler brings its folder of DAGs to Modal whenever that changes. To go on filling a Volume yourself, write "
        f"[modal_executor] dags_volume = {volume} and run `modalflow sync --dags-path FOLDER --dags-volume {volume}`: the DAGs "
        f"are in its folder {DAGS_FOLDER} now"
    ),
    "MODALFLOW_DAGS_BUCKET": lambda bucket: f"write [dag_processor] dag_bundle_config_list = {bundle_of(bucket)}",
    "MODALFLOW_DAGS_BUCKET_SECRET": lambda secret: f"write [modal_executor] secrets = {secret}, by which every task has its keys",
    "MODALFLOW_AIRFLOW_VERSION": lambda _: "tasks run the scheduler's Airflow ([modal_executor] image = auto)",
}


def notices(environ: Mapping[str, str], *, logs_volume: str | None = None, functions: Iterable[str] = ()) -> Iterator[str]:
    """Yield a sentence for each variable of 0.3.1 that is set, and each of its objects that an option names."""
    for name, instead in _INSTEAD.items():
        if value := environ.get(name):
            yield f"{name} = {value} is of modalflow {RELEASE} and has no effect here: {instead(value)}. Then remove the variable"
    if logs_volume is not None and logs_volume.startswith(LOGS_VOLUME):
        yield (
            f"[modal_executor] logs_volume = {logs_volume} is called as modalflow {RELEASE} called its Volume of logs, which is "
            "of version 1 and not made for many writers: write another name, such as modalflow-logs"
        )
    if FUNCTION in functions:
        yield (
            f"[modal_executor] functions names {FUNCTION}, the Function of modalflow {RELEASE}: it cannot run the tasks of this "
            "release. Remove it from the option"
        )
