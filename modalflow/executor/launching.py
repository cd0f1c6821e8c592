"""What ``start`` builds: the loop that launches, and the requests it is given.

In: Airflow's configuration, workloads. Out: ``LaunchRequest`` whose closures the loop's thread calls when it gets to them.
Imported by the scheduler only. Next: ``launch.backend``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modalflow import predecessor
from modalflow.executor.auto_image import describe_auto_image
from modalflow.executor.callbacks_left import CallbacksLeft, callbacks_for
from modalflow.executor.configuration import (
    ConfigurationView,
    check_gpu_wait,
    load_settings,
    logging_warning,
    reachability_warning,
    with_longest_gpu_wait,
    without_functions,
)
from modalflow.executor.dag_bundles import read_bundles
from modalflow.executor.dag_code import dag_code_of
from modalflow.executor.hooks import with_hooks
from modalflow.executor.journal import Journal
from modalflow.executor.kubernetes_options import kubernetes_notice
from modalflow.executor.modal_connections import build_gateway
from modalflow.executor.observers import build_observer
from modalflow.executor.ownership import ask_database
from modalflow.executor.recall import recalled
from modalflow.executor.refusal import internal_error, not_a_sandbox, refused_config
from modalflow.executor.relaying import build_relay, with_ticket
from modalflow.executor.routing import answer_to_class_name, configured_executors, ids_are_new, names_for_workers
from modalflow.executor.summary import summary
from modalflow.executor.unheard import Unheard, still_held
from modalflow.executor.version_compat import check_airflow_version
from modalflow.executor.worker_environment import WorkerEnvironment, build_worker_environment, execution_api_url
from modalflow.executor.workloads import WorkloadFacts, WorkloadHead, facts_of, workload_json
from modalflow.launch.dag_code import MakeDagCode, no_dag_code
from modalflow.launch.events import AdoptRequest, LaunchEvent, LaunchRequest
from modalflow.launch.observe import NOBODY, Observer
from modalflow.launch.sweep import Claims

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.tokens import JWTGenerator
    from airflow.executors.base_executor import BaseExecutor

    from modalflow.launch.gateway import Gateway
    from modalflow.launch.recall import Recall
    from modalflow.relay.service import RelayService
    from modalflow.settings import Settings
    from modalflow.translation.inputs import TaskContext
    from modalflow.translation.result import Translation

log = logging.getLogger(__name__)

SUMMARY_VARIABLE = "MODALFLOW_SUMMARY"
"""Read by the sandbox's program (``worker.bootstrap``)."""

LONGEST_LIFE = 86_400
"""Seconds that a sandbox may live on Modal."""

Translate = Callable[[object, "TaskContext"], "Translation"]
"""``executor_config`` and context to a translation, with options and templates already bound."""


class Backend(Protocol):
    """What the executor asks of ``launch.backend.LaunchBackend``; no method blocks or does I/O, but ``stop`` waits."""

    def start(self) -> None:
        """Start the loop's thread."""

    def submit(self, *requests: LaunchRequest) -> None:
        """Take launches."""

    def adopt(self, requests: list[AdoptRequest]) -> None:
        """Take over launches of an earlier scheduler."""

    def revoke(self, launch_id: str, reason: str) -> None:
        """End a launch; its events no longer matter."""

    def drain(self) -> list[LaunchEvent]:
        """What happened since the last call."""

    def describe(self) -> str:
        """State of all launches as text."""

    def stop(self, timeout: float) -> None:
        """Stop the loop, at most ``timeout`` seconds from now; sandboxes run on."""


@dataclass(frozen=True, kw_only=True)
class Launching:
    """The running half of the executor: backend, worker environment, translation, tokens.

    ``ids_are_new`` is whether the id that a task carries was made when it was queued this time (``routing``).
    ``queued_timeout`` is in how many seconds Airflow takes back a task that is still queued; ``None`` leaves its end unannounced.
    ``callbacks_left`` finds deadline callbacks of earlier schedulers, where any could be ours; ``unheard`` follows up failures.
    """

    backend: Backend
    environment: WorkerEnvironment
    translate: Translate
    jwt_generator: JWTGenerator | None
    ids_are_new: bool = True
    queued_timeout: float | None = None
    callbacks_left: CallbacksLeft | None = None
    unheard: Unheard | None = None
    relay: RelayService | None = None

    def stop(self, timeout: float) -> None:
        """Stop launching, then let go of the relay, each within half of ``timeout`` seconds; sandboxes run on."""
        self.backend.stop(timeout if self.relay is None else timeout / 2)
        if self.relay is not None:
            self.relay.stop(timeout / 2)

    def describe(self) -> str:
        """State of all launches, and of the relay, as text."""
        parts = [self.backend.describe(), *([] if self.relay is None else [self.relay.describe()])]
        return "\n".join(parts)

    def request(self, launch_id: str, key: Hashable, workload: Any, head: WorkloadHead) -> LaunchRequest:
        """Build the launch of one workload. Takes microseconds: both closures run on the loop's thread."""
        timeouts: list[int] = []
        return LaunchRequest(
            launch_id=launch_id,
            key=key,
            label=head.label,
            priority=head.priority,
            translate=partial(self._translation, launch_id, workload, head.label, timeouts),
            mint_workload=partial(self._workload, launch_id, workload, timeouts),
            log_path=head.log_path,
            queue_limit=self.queued_timeout if head.is_task else None,
            trace=head.trace,
        )

    def _workload(self, launch_id: str, workload: Any, timeouts: list[int]) -> str:
        """The workload with a fresh token and, behind a relay, a ticket for the relays of this moment."""
        text = workload_json(workload, self.jwt_generator)
        if self.relay is None:
            return text
        return with_ticket(text, self.relay.ticket(launch_id, timeouts[-1] if timeouts else LONGEST_LIFE))

    def _translation(self, launch_id: str, workload: Any, label: str, timeouts: list[int]) -> Translation:
        """Translate one workload's ``executor_config``. Total: what breaks is an error of that task."""
        try:
            facts = facts_of(workload)
        except Exception as error:
            log.exception("modalflow: could not read the workload of %s", label)
            return internal_error(error)
        try:
            refused = refused_config(facts.executor_config)
            told = refused or _with_summary(self.translate(facts.executor_config, self.environment.context(launch_id, facts)))
            if told.sandbox is not None:
                timeouts.append(told.sandbox.timeout)
            return told if told.plan is not None else _with_subject(told, facts)
        except Exception as error:
            log.exception("modalflow: could not translate the executor_config of %s", label)
            return _with_subject(internal_error(error), facts)


def _with_subject(translation: Translation, facts: WorkloadFacts) -> Translation:
    """Say whose configuration is refused: task, DAG and its file."""
    return replace(translation, subject=f"executor_config of {facts.config_of}") if facts.config_of else translation


def _with_summary(translation: Translation) -> Translation:
    """Have the sandbox told what it is, for the first line of the task's log."""
    plan = translation.sandbox
    if plan is None:
        return translation if translation.plan is None else not_a_sandbox(translation.plan)
    return replace(translation, plan=replace(plan, env={**plan.env, SUMMARY_VARIABLE: summary(translation)}))


def start_launching(executor: BaseExecutor) -> Launching:
    """Read the configuration, say what would not work, and start the loop. Raises ``SettingsError``."""
    from airflow import __version__ as airflow_version  # noqa: PLC0415 - Airflow is imported where it is needed
    from airflow.configuration import conf  # noqa: PLC0415

    check_airflow_version(airflow_version)
    answer_to_class_name(executor)
    view = ConfigurationView(conf=conf, team=executor.team_name, environ=os.environ)
    settings = load_settings(view, auto_image=describe_auto_image())
    queued_timeout = conf.getfloat("scheduler", "task_queued_timeout")
    check_gpu_wait(settings, queued_timeout)
    settings = with_hooks(without_functions(with_longest_gpu_wait(settings, queued_timeout)))
    settings = replace(settings, launch=replace(settings.launch, queued_timeout=queued_timeout))
    api_url = execution_api_url(view, settings)
    modal_server_url = os.environ.get("MODAL_SERVER_URL", "")
    relay = build_relay(view, settings, api_url, modal_server_url, executor.team_name)
    configured = configured_executors()
    executors = names_for_workers(configured)
    bundles = read_bundles(view, settings)
    environment = build_worker_environment(
        view,
        settings,
        bundles,
        api_url=api_url,
        airflow_version=airflow_version,
        executors=executors,
        by_relay=relay is not None,
    )
    for warning in (
        *bundles.warnings,
        logging_warning(view.get("logging", "logging_config_class")),
        None if relay is not None else reachability_warning(api_url, modal_server_url),
        *predecessor.notices(
            os.environ,
            logs_volume=settings.launch.logs_volume,
            functions=[function.function for function in settings.translation.functions.values()],
        ),
    ):
        if warning:
            log.warning("modalflow: %s", warning)
    if notice := kubernetes_notice(view, settings.translation.namespaces):
        log.info("modalflow: %s", notice)

    def recall(launch_id: str, key: Hashable) -> LaunchRequest | None:
        return recalled(launch_id, key, launching)

    callbacks_left = callbacks_for(executor, configured[0], lambda: launching)
    launching = Launching(
        backend=build_backend(
            settings,
            build_journal(view),
            build_observer(conf),
            recall,
            ask_database,
            executor.team_name,
            dag_code=dag_code_of(settings, bundles.folders, ignore_syntax=view.get("core", "dag_ignore_file_syntax")),
            check=True,
            ready=relay.ready if relay is not None else None,
        ),
        environment=environment,
        translate=build_translate(settings),
        jwt_generator=executor.jwt_generator,
        ids_are_new=ids_are_new(executor),
        queued_timeout=queued_timeout,
        callbacks_left=callbacks_left,
        unheard=Unheard(still_held),
        relay=relay,
    )
    if relay is not None:
        log.info("modalflow: tasks reach the execution API at %s by a relay", api_url)
        relay.start()
    launching.backend.start()
    if callbacks_left is not None:
        callbacks_left.start()
    if launching.unheard is not None:
        launching.unheard.start()
    return launching


def build_journal(view: ConfigurationView) -> Journal:
    """The journal under ``[logging] base_log_folder``, with the modes of Airflow's own log files."""
    return Journal(
        folder=Path(view.get("logging", "base_log_folder")),
        folder_mode=int(view.get("logging", "file_task_handler_new_folder_permissions", "0o775"), 8),
        file_mode=int(view.get("logging", "file_task_handler_new_file_permissions", "0o664"), 8),
    )


def build_translate(settings: Settings) -> Translate:
    """Bind options and templates to ``translation.translate``."""
    from modalflow.templates import TemplateFolders  # noqa: PLC0415
    from modalflow.translation.cache import Translator  # noqa: PLC0415

    return Translator(settings.translation, TemplateFolders(settings.template_folders))


def build_backend(
    settings: Settings,
    journal: Journal,
    observer: Observer = NOBODY,
    recall: Recall | None = None,
    claims: Claims | None = None,
    team: str | None = None,
    *,
    dag_code: MakeDagCode = no_dag_code,
    check: bool = False,
    ready: Callable[[], Awaitable[None]] | None = None,
) -> Backend:
    """The loop that launches on Modal. The gateway, and with it ``modal``, is imported on the loop's own thread.

    ``team``: whose Airflow connections it uses. ``check``: say in the log at start whether Modal takes the credentials.
    """
    from modalflow.launch.backend import LaunchBackend  # noqa: PLC0415
    from modalflow.launch.watchdog import WatchedBackend  # noqa: PLC0415
    from modalflow.worker import bootstrap_source, stop_source  # noqa: PLC0415

    program, stop = (["python", "-c", source] for source in (bootstrap_source(), stop_source()))

    def make(previous: Gateway | None) -> LaunchBackend:
        def gateway() -> Any:
            return build_gateway(settings.launch, team) if previous is None else previous.successor()

        return LaunchBackend(
            gateway,
            settings.launch,
            program,
            journal,
            stop_argv=stop,
            observer=observer,
            recall=recall,
            claims=claims,
            dag_code=dag_code,
            check=check and previous is None,
            ready=ready,
        )

    return WatchedBackend(make)
