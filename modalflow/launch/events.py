"""What crosses the thread border: launch requests in, launch events out. Plain data, no Airflow types.

``executor.modal_executor`` makes requests and drains events; ``launch.backend`` is in between.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from modalflow.launch.failures import FailureClass
from modalflow.translation.result import Translation


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchRequest:
    """One workload to run.

    ``launch_id`` is the UUID that Airflow committed with QUEUED; ``key`` is Airflow's key, opaque here. ``translate``
    and ``mint_workload`` are called on the launch loop's thread, never on the scheduler's: the first is total, the
    second returns the workload's JSON with a fresh token and is called as late as possible. ``log_path`` is where the
    task's log lives, relative to the log root (``None`` for workloads without one). ``queue_limit`` is in how many seconds
    Airflow takes the workload back should it not run by then (``None``: never). ``trace`` is the task's
    W3C trace context.
    """

    launch_id: str
    key: Hashable
    label: str
    priority: int
    translate: Callable[[], Translation]
    mint_workload: Callable[[], str]
    log_path: str | None
    queue_limit: float | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class AdoptRequest:
    """A launch of an earlier scheduler. ``sandbox_id`` is known once its create had returned.

    ``relaunch`` rebuilds the request if the sandbox was never made; ``None`` where the task is already RUNNING.
    ``queue_limit`` as in ``LaunchRequest``.
    """

    launch_id: str
    key: Hashable
    label: str
    sandbox_id: str | None
    log_path: str | None
    relaunch: Callable[[], LaunchRequest] | None
    queue_limit: float | None = None
    trace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchStarted:
    """The sandbox exists and has its workload. ``told`` is that and how long it took, in one sentence."""

    launch_id: str
    key: Hashable
    sandbox_id: str
    told: str = field(default="", compare=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchEnded:
    """The launch is over and its slot free. ``reason`` is one sentence, empty when nothing went wrong.

    ``failure`` is its class, ``None`` on success.
    """

    launch_id: str
    key: Hashable
    success: bool
    reason: str
    failure: FailureClass | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchNotice:
    """Something a user would want to see in the task's events (``waiting for A10G``). ``event`` is a short name."""

    launch_id: str
    key: Hashable
    event: str
    message: str


LaunchEvent = LaunchStarted | LaunchEnded | LaunchNotice
