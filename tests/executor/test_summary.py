"""The line that a task's log opens with."""

from __future__ import annotations

from modalflow.executor import ModalExecutor
from modalflow.executor.summary import summary
from modalflow.translation.origins import Origin
from modalflow.translation.plan import ImagePlan, SandboxPlan
from modalflow.translation.result import Translation
from tests.executor.recording import RecordingBackend, execute_task, queue


def test_what_was_asked_for_and_who_decided_it() -> None:
    plan = SandboxPlan(
        image=ImagePlan(reference="me/train:1.0.0"), gpu_candidates=("H100", "A100-80GB"), cpu=2.0, memory=(1024, 2048)
    )
    gpu = Origin(layer="pod_override", path="pod_override.spec.containers[0].resources")
    assert summary(Translation(plan=plan, origins={"gpu_candidates": gpu})) == (
        "Modal was asked for a sandbox-v1: GPU H100, then A100-80GB (pod_override.spec.containers[0].resources); "
        "2 cores (4 vCPU) (Modal's default); 1024 to 2048 MiB (Modal's default); image me/train:1.0.0 (built-in defaults); "
        "timeout 86400 s (built-in defaults)"
    )


def test_candidates_with_regions_of_their_own_are_told_with_them() -> None:
    plan = SandboxPlan(
        image=ImagePlan(reference="me/train:1"), gpu_candidates=("L4", "T4"), candidate_regions=(("us-east", "uk"), ())
    )
    assert "GPU L4 in us-east, uk, then T4 in any region (Modal's default)" in summary(Translation(plan=plan))


def test_a_refused_task_has_none() -> None:
    assert summary(Translation(plan=None)) == ""


def test_every_sandbox_is_given_its_own(executor: ModalExecutor, backend: RecordingBackend) -> None:
    queue(executor, execute_task())
    plan = backend.submitted[0].translate().plan
    assert plan is not None
    assert plan.env["MODALFLOW_SUMMARY"] == (
        "Modal was asked for a sandbox-v2: GPU none (Modal's default); 0.125 cores (Modal's default); "
        "128 MiB (Modal's default); image debian_slim, Python , 0 Airflow distributions of the scheduler (built-in defaults); "
        "timeout 86400 s (built-in defaults)"
    )
