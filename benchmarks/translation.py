"""Translating one pod_override, against what KubernetesExecutor does with the same one: ``PodGenerator.construct_pod``.

Two lines: a config that was never seen, and the same config again, in the object of another task, as mapped tasks have it.

Run as ``python -m benchmarks.translation``. The peer is called as ``KubernetesJobWatcher``'s scheduler side calls it in
cncf-kubernetes 10.25: the base worker pod is already loaded, only the pod itself is constructed.
"""

from __future__ import annotations

import copy
import datetime
import itertools
import sys
import time
from collections.abc import Callable

from benchmarks.report import report

ROUNDS = 7
OUR_CALLS = 1000
PEER_CALLS = 50
GOAL = 1 / 50
REPEATED_CALLS = 10_000
REPEATED_GOAL = 1 / 500


def _seconds_a_call(call: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - begin) / times


def main() -> int:
    """Return 0 if both goals were met in their best rounds, else 1."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
    from kubernetes.client import models as k8s

    from modalflow.settings import read_settings
    from modalflow.templates import TemplateFolders
    from modalflow.translation.cache import Translator
    from modalflow.translation.inputs import TaskContext
    from modalflow.translation.translate import translate

    override = k8s.V1Pod(
        spec=k8s.V1PodSpec(
            node_selector={"cloud.google.com/gke-accelerator": "nvidia-l4"},
            containers=[
                k8s.V1Container(
                    name="base",
                    image="ghcr.io/me/train:1.2",
                    env=[k8s.V1EnvVar(name="HF_HOME", value="/models"), k8s.V1EnvVar(name="STEPS", value="1000")],
                    resources=k8s.V1ResourceRequirements(
                        requests={"cpu": "4", "memory": "16Gi"}, limits={"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "1"}
                    ),
                )
            ],
        )
    )
    base = k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="placeholder"),
        spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", image="apache/airflow:3.3.2")], restart_policy="Never"),
    )
    options = read_settings({}).translation
    templates = TemplateFolders()
    tags = {"deployment": "airflow", "launch": "0198", "dag_id": "d", "task_id": "t", "run_id": "manual__2026", "try_number": "1"}

    def ours() -> object:
        context = TaskContext(env={"MODALFLOW_LAUNCH_ID": "0198"}, tags=tags)
        result = translate({"pod_override": override}, context=context, options=options, templates=templates)
        if result.plan is None:
            raise RuntimeError(str(result.diagnostics))
        return result

    translator = Translator(options, templates)
    configs = [{"pod_override": copy.deepcopy(override)} for _ in range(16)]
    turn = itertools.cycle(configs)

    def repeated() -> object:
        return translator(next(turn), TaskContext(env={"MODALFLOW_LAUNCH_ID": "0198"}, tags=tags))

    def peer() -> object:
        return PodGenerator.construct_pod(
            dag_id="d",
            task_id="t",
            pod_id="d-t-0198",
            try_number=1,
            kube_image="apache/airflow:3.3.2",
            date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
            args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
            pod_override_object=override,
            base_worker_pod=base,
            namespace="airflow",
            scheduler_job_id="1",
            run_id="manual__2026",
        )

    ours()
    peer()
    repeated()
    mine: list[float] = []
    again: list[float] = []
    theirs: list[float] = []
    for _ in range(ROUNDS):
        mine.append(_seconds_a_call(ours, OUR_CALLS) * 1e3)
        again.append(_seconds_a_call(repeated, REPEATED_CALLS) * 1e3)
        theirs.append(_seconds_a_call(peer, PEER_CALLS) * 1e3)
    if translator.prepared != 1:
        raise RuntimeError(f"the repeated config was read {translator.prepared} times")
    met = [
        report("translate one pod_override vs construct_pod", mine, theirs, unit="ms", goal_ratio=GOAL),
        report("translate it again for another task vs construct_pod", again, theirs, unit="ms", goal_ratio=REPEATED_GOAL),
    ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
