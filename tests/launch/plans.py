"""Plans, requests and ids that the launch tests share."""

from __future__ import annotations

from collections.abc import Callable

from modalflow.launch.events import LaunchRequest
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.origins import Origin
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.setup_plan import GracePlan, SetupPlan

LAUNCH = "0199c5b2-5f0e-7a53-9d0c-6c8a3f7f5b11"
AUTO = ImagePlan(reference=None, python_version="3.11")
CPU = SandboxPlan(image=AUTO)
"""V2, the workload as an inline secret."""
CPU_STDIN = SandboxPlan(image=ImagePlan(reference="apache/airflow:3.3.2"))
"""V2, but the image keeps an ENTRYPOINT: the workload on stdin."""
GPU = SandboxPlan(image=AUTO, gpu_candidates=("A10G",), gpu_wait=480.0)
GPUS = SandboxPlan(image=AUTO, gpu_candidates=("H100:2", "A100-80GB:2"), gpu_wait=100.0)
PATIENT = SandboxPlan(image=AUTO, setup=SetupPlan(grace=GracePlan(seconds=30)))
"""Has 30 s to stop."""
WORKLOAD = '{"token": "eyJhbGciOiJIUzUxMiJ9.c2VjcmV0.c2ln"}'


def refused(*messages: str) -> Translation:
    """A translation that refuses with these errors."""
    origin = Origin(layer="task", path="executor_config.modal.gpu")
    return Translation(
        plan=None,
        diagnostics=tuple(Diagnostic(code="x", severity=Severity.ERROR, origin=origin, message=text) for text in messages),
    )


def request(
    launch_id: str = LAUNCH,
    plan: SandboxPlan = CPU,
    *,
    priority: int = 0,
    translate: Callable[[], Translation] | None = None,
    mint: Callable[[], str] = lambda: WORKLOAD,
    log_path: str | None = "dag_id=d/attempt=1.log",
) -> LaunchRequest:
    """A request that translates to ``plan``."""
    return LaunchRequest(
        launch_id=launch_id,
        key=("key", launch_id),
        label=f"task {launch_id[-4:]}",
        priority=priority,
        translate=translate or (lambda: Translation(plan=plan)),
        mint_workload=mint,
        log_path=log_path,
    )
