"""What Airflow inside a sandbox is configured with: the documented allow-list, and the folders it is given.

In: Airflow's configuration (once, at start) and the facts of one workload. Out: its ``TaskContext``. A worker gets the
execution API's URL, the DAG bundles, the log folder, ``[workers]``, ``[secrets]`` and ``[modal_executor] worker_env``.
It never gets the database URL, the fernet key, the JWT secret, the executor or a logging class: the first three would
give a task more than its own rights, the last two would fail the import of Airflow in an image that lacks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from modalflow.executor.configuration import ConfigurationView
from modalflow.executor.dag_bundles import Bundles
from modalflow.executor.relaying import RETRIES, RETRIES_BY_RELAY
from modalflow.executor.workloads import WorkloadFacts
from modalflow.option_table import SECTION
from modalflow.settings import Settings, SettingsError
from modalflow.translation.control_plane import SECRETS
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import VolumePlan

LOGS_MOUNT = "/mnt/modalflow/logs"
PRIVATE_LOGS = "/tmp/modalflow/logs"  # noqa: S108 - inside the sandbox, which holds one task

COPIED_SECTIONS = ("workers", "secrets")
"""Sections whose explicitly set options a worker gets as they are."""

NEVER = (
    *SECRETS,
    "AIRFLOW__CORE__EXECUTOR",
    "AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS",
    "MODAL_TOKEN_",
    "MODALFLOW_",
)
"""Beginnings of names that ``worker_env`` may not set (indirect spellings, ``_CMD`` and ``_SECRET``, included)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerEnvironment:
    """What every sandbox of this deployment gets; ``context`` adds what is one workload's own."""

    env: Mapping[str, str]
    deployment: str
    logs_volume: str | None = None
    log_sync_interval: float = 0.0
    volumes: tuple[VolumePlan, ...] = ()
    code: Mapping[str, VolumePlan] = field(default_factory=dict)
    """By bundle, the Volume that its code is brought to."""

    def context(self, launch_id: str, facts: WorkloadFacts) -> TaskContext:
        """Environment, Volumes and tags of one launch. No I/O."""
        env = {**self.env, "MODALFLOW_LAUNCH_ID": launch_id, "AIRFLOW__LOGGING__BASE_LOG_FOLDER": PRIVATE_LOGS}
        volumes = self.volumes
        if facts.bundle is not None and facts.bundle in self.code:
            volumes = (*volumes, self.code[facts.bundle])  # a task sees the code of its own bundle only
        if self.logs_volume and facts.log_path:
            path = PurePosixPath(facts.log_path)
            # A sandbox mounts the folder of its own log only, so a task cannot read or change the logs of others.
            env |= {"MODALFLOW_LOG_PATH": path.name, "AIRFLOW__LOGGING__BASE_LOG_FOLDER": LOGS_MOUNT}
            if self.log_sync_interval:
                env["MODALFLOW_LOG_SYNC"] = f"{self.log_sync_interval:g}"
            folder = str(path.parent) if path.parent != PurePosixPath() else None
            logs = VolumePlan(
                mount_path=LOGS_MOUNT,
                name=self.logs_volume,
                sub_path=folder,
                version=2,
                create_if_missing=True,
                is_ours=True,
            )
            volumes = (*volumes, logs)
        tags = {"deployment": self.deployment, "launch": launch_id, **facts.tags}
        return TaskContext(queue=facts.queue, env=env, volumes=volumes, tags=tags, task=facts.task)


def build_worker_environment(
    view: ConfigurationView,
    settings: Settings,
    bundles: Bundles,
    *,
    api_url: str,
    airflow_version: str,
    executors: str = "",
    by_relay: bool = False,
) -> WorkerEnvironment:
    """Collect the allow-list. ``api_url`` as ``execution_api_url`` returned it. Raises ``SettingsError``.

    ``by_relay``: the sandbox's program gives Airflow an address of the sandbox's own, and a gap of a minute is to be bridged.

    ``executors``: the names that tasks may use, as ``routing.names_for_workers`` writes them; no executor is loaded by them.
    """
    check_worker_env(settings.worker_env)
    env = {
        **({RETRIES: RETRIES_BY_RELAY} if by_relay else {"AIRFLOW__CORE__EXECUTION_API_SERVER_URL": api_url}),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "MODALFLOW_HANDOVER_TIMEOUT": f"{settings.launch.handover_timeout:g}",
        "MODALFLOW_STOP_GRACE": str(settings.launch.stop_grace),
        "MODALFLOW_AIRFLOW_VERSION": airflow_version,
        **({"MODALFLOW_EXECUTORS": executors} if executors else {}),
        **bundles.env,
        **dict(_copied(view)),
        **settings.worker_env,
    }
    return WorkerEnvironment(
        env=env,
        deployment=settings.launch.deployment,
        logs_volume=settings.launch.logs_volume,
        volumes=bundles.volumes,
        code=bundles.code,
        log_sync_interval=settings.log_sync_interval,
    )


def check_worker_env(worker_env: Mapping[str, str]) -> None:
    """Refuse a name that a task must not see or that modalflow sets. Raises ``SettingsError``; never prints a value."""
    for name in worker_env:
        if name.upper().startswith(NEVER):
            raise SettingsError(
                f"[{SECTION}] worker_env: {name} is refused: a task could read it, or Airflow in the sandbox would fail to "
                f"start with it; a worker needs neither database, fernet key, signing keys, executor nor logging class. "
                f"Remove it"
            )


def execution_api_url(view: ConfigurationView, settings: Settings) -> str:
    """URL of the execution API as sandboxes reach it, with its final slash. Raises ``SettingsError`` naming the option.

    ``[modal_executor] execution_api_url``, else ``[core] execution_api_server_url``, else ``[api] base_url`` with
    ``/execution/`` added, as Airflow itself resolves it (3.3.2).
    """
    if settings.execution_api_url:
        return _checked(f"[{SECTION}] execution_api_url", settings.execution_api_url)
    if configured := view.get("core", "execution_api_server_url"):
        return _checked("[core] execution_api_server_url", configured)
    base = view.get("api", "base_url") or "/"
    if base.startswith("/"):
        base = f"http://localhost:8080{base}"
    return _checked("[api] base_url", f"{base.rstrip('/')}/execution/")


def _checked(option: str, url: str) -> str:
    parts = urlsplit(url.strip())
    path = parts.path.rstrip("/")
    if parts.scheme not in {"http", "https"} or not parts.hostname or not path.endswith("/execution") or parts.query:
        raise SettingsError(
            f"{option}: expected an http(s) URL ending in /execution/, e.g. https://airflow.example.com/execution/; got {url!r}"
        )
    return parts._replace(path=path + "/").geturl()


def _copied(view: ConfigurationView) -> Iterator[tuple[str, str]]:
    explicit = view.conf.as_dict(display_source=True, display_sensitive=True)
    for section in COPIED_SECTIONS:
        for option, found in explicit.get(section, {}).items():
            value, source = found
            if source != "default" and not option.endswith(("_cmd", "_secret")):
                yield f"AIRFLOW__{section.upper()}__{option.upper()}", str(value)
