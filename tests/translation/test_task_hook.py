"""``modal_task_mutation_hook``: what a site may change of a task, how it is read, and what a hook cannot break."""

from __future__ import annotations

import dataclasses
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modalflow.hooks import Bucket, BucketPlan, GpuChoice, SecretPlan, TaskFacts, TaskSpec, VolumePlan
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.cache import Translator
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.result import Translation
from modalflow.translation.translate import check_executor_config, translate

OPTIONS = read_settings({}).translation
TEMPLATES = TemplateFolders()
TASK = TaskFacts(dag_id="etl", task_id="load", run_id="run", map_index=3, try_number=2, queue="nightly")
HOOK = "airflow_local_settings.modal_task_mutation_hook"
Hook = Callable[[TaskSpec, TaskFacts], Any]


def hooked(config: object, hook: Hook, options: TranslationOptions = OPTIONS) -> Translation:
    options = dataclasses.replace(options, task_hook=hook)
    return translate(config, context=TaskContext(task=TASK), options=options, templates=TEMPLATES)


def changing(**changes: Any) -> Hook:
    return lambda spec, task: dataclasses.replace(spec, **changes)


def test_the_hook_sees_the_resolved_task_and_who_it_is() -> None:
    seen: list[tuple[TaskSpec, TaskFacts]] = []
    result = hooked({"modal": {"gpu": "H100:2", "memory": "2Gi"}}, lambda spec, task: seen.append((spec, task)))
    [(spec, task)] = seen
    assert (spec.gpu, spec.memory, spec.image, task) == ((GpuChoice(name="H100", count=2),), 2048, "auto", TASK)
    assert result == translate(
        {"modal": {"gpu": "H100:2", "memory": "2Gi"}}, context=TaskContext(), options=OPTIONS, templates=TEMPLATES
    )


def paired(*terms: tuple[str, str]) -> dict[str, Any]:
    """A pod that wants a model in a region, or another in another."""
    keys = ("nvidia.com/gpu.product", "topology.kubernetes.io/region")
    alternatives = [
        {"matchExpressions": [{"key": key, "operator": "In", "values": [value]} for key, value in zip(keys, term, strict=True)]}
        for term in terms
    ]
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": alternatives}}}
    container = {"name": "base", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    return {"pod_override": {"spec": {"affinity": affinity, "containers": [container]}}}


PAIRED = paired(("NVIDIA-L4", "us-east-1"), ("NVIDIA-H200", "europe-west2"))


@pytest.mark.parametrize(
    ("hook", "candidates", "regions", "region"),
    [
        (changing(), ("L4", "H200"), (("us-east",), ("uk",)), ("us-east", "uk")),
        (changing(region="jp"), ("L4", "H200"), (), ("jp",)),
        (
            lambda spec, task: dataclasses.replace(spec, gpu=[*spec.gpu[1:], "A100"]),
            ("H200", "A100"),
            (("uk",), ()),
            ("us-east", "uk"),
        ),
        (changing(gpu="H100"), ("H100",), (), ("us-east", "uk")),
    ],
    ids=["nothing", "the region", "the list", "the model"],
)
def test_pairs_of_models_and_regions_hold_for_what_a_hook_leaves(
    hook: Hook, candidates: tuple[str, ...], regions: tuple[tuple[str, ...], ...], region: tuple[str, ...]
) -> None:
    plan = hooked(PAIRED, hook).plan
    assert plan is not None
    assert (plan.gpu_candidates, plan.candidate_regions, plan.region) == (candidates, regions, region)


def test_what_it_changes_is_its_own_and_the_rest_keeps_its_origin() -> None:
    config = {"modal": {"cpu": 2, "env": {"A": "1", "B": "2"}, "volumes": {"/m": "m"}, "secrets": ["hf"], "tags": {"t": "1"}}}

    def hook(spec: TaskSpec, task: TaskFacts) -> TaskSpec:
        return dataclasses.replace(
            spec,
            gpu=[*spec.gpu, "A100-80GB"],  # type: ignore[arg-type]
            env={"A": spec.env["A"], "QUEUE": task.queue},
            volumes=(*spec.volumes, VolumePlan(mount_path="/cache", name="cache", read_only=True)),
            secrets=(*spec.secrets, SecretPlan(name="audit", required_keys=("KEY",))),
            tags={**spec.tags, "site": "eu"},
            buckets={"/raw": {"bucket": "raw-data"}},  # type: ignore[arg-type]
            region=("eu",),
            cpu=None,
        )

    result = hooked(config, hook)
    plan = result.sandbox
    assert plan is not None
    assert result.diagnostics == ()
    assert (plan.gpu_candidates, plan.cpu, plan.region) == (("A100-80GB",), None, ("eu",))
    assert dict(plan.env) == {"A": "1", "QUEUE": "nightly"}
    assert plan.volumes == (VolumePlan(mount_path="/m", name="m"), VolumePlan(mount_path="/cache", name="cache", read_only=True))
    assert plan.buckets == (BucketPlan(mount_path="/raw", bucket=Bucket(name="raw-data")),)
    assert plan.secrets == (SecretPlan(name="hf"), SecretPlan(name="audit", required_keys=("KEY",)))
    assert dict(plan.tags) == {"t": "1", "site": "eu"}
    modal = 'executor_config["modal"]'
    assert {name: str(origin) for name, origin in result.origins.items() if "options" not in str(origin)} == {
        "image": "[modal_executor] image",
        "memory": "[modal_executor] memory",
        "timeout": "[modal_executor] timeout",
        "cpu": f"{HOOK} cpu",
        "env.A": f'{modal}["env"]["A"]',
        "volumes./m": f'{modal}["volumes"]["/m"]',
        "secrets.hf": f'{modal}["secrets"]',
        "tags.t": f'{modal}["tags"]["t"]',
        "gpu_candidates": f"{HOOK} gpu",
        "env.QUEUE": f'{HOOK} env["QUEUE"]',
        "secrets.audit": f'{HOOK} secrets["audit"]',
        "volumes./cache": f'{HOOK} volumes["/cache"]',
        "buckets./raw": f'{HOOK} buckets["/raw"]',
        "region": f"{HOOK} region",
        "tags.site": f'{HOOK} tags["site"]',
    }
    assert result.origins["region"].layer == HOOK


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gpu": "H10"}, 'error: HOOK gpu: unknown GPU "H10"; did you mean "H100"?'),
        (
            {"gpu": (GpuChoice(name="A10", count=5),)},
            'error: HOOK gpu[0]: a sandbox has at most 4 A10 GPUs, got "A10:5"; write "L40S:5"',
        ),
        ({"gpu": "V100"}, 'error: HOOK gpu: Modal has no "V100"; the nearest: A10'),
        ({"cpu": -1}, "error: HOOK cpu: expected more than zero cores, got -1"),
        ({"memory": 1.5}, 'error: HOOK memory: expected MiB such as 2048, or text such as "2Gi", got 1.5'),
        ({"timeout": 100_000}, "error: HOOK timeout: a sandbox lives at most 24h, got 100000; write"),
        ({"timeout": None}, 'error: HOOK timeout: expected seconds or text such as "6h" or "1h30m", got None'),
        ({"image": "My Image"}, 'error: HOOK image: "My Image" is no image reference; write'),
        ({"env": {"1": "x"}}, 'error: HOOK env["1"]: "1" cannot name a variable; use letters, digits and _, and no digit first'),
        ({"env": {"A": 1}}, 'error: HOOK env["A"]: expected text, got an int; write it in quotes'),
        ({"env": 1}, 'error: HOOK env: expected a dict such as {"NAME": "text"}, got an int'),
        (
            {"volumes": {"/": "m"}},
            'error: HOOK volumes["/"]: Modal mounts nothing at "/"; write a path of its own, e.g. "/models"',
        ),
        (
            {"volumes": (VolumePlan(mount_path="/a", name="m", sub_path="../b"),)},
            'error: HOOK volumes["/a"]["sub_path"]: ',
        ),
        (
            {"volumes": {"/a": "m", "/b": "m"}},
            'error: HOOK volumes["/b"]: the Volume "m" is mounted at "/a" already; Modal mounts one at one path only',
        ),
        (
            {"volumes": {"/raw": {"bucket": "raw-data"}}},
            'error: HOOK volumes["/raw"]: belongs into buckets; write buckets={"/raw": ...}',
        ),
        ({"buckets": {"/raw": "raw"}}, 'error: HOOK buckets["/raw"]: belongs into volumes; write volumes={"/raw": ...}'),
        ({"buckets": (BucketPlan(mount_path="/raw", bucket=Bucket(name="R")),)}, 'error: HOOK buckets["/raw"]["bucket"]: '),
        (
            {"volumes": {"/raw": "raw"}, "buckets": {"/raw": {"bucket": "raw-data"}}},
            'error: HOOK buckets["/raw"]: a Volume is mounted at /raw already; keep one',
        ),
        ({"secrets": "hf"}, 'error: HOOK secrets: expected a list of Secret names, got text; write ["hf"]'),
        ({"region": 3}, 'error: HOOK region: expected a region such as "us-east" or a list of them, got an int'),
        ({"cloud": "ibm"}, 'error: HOOK cloud: expected one of aws, gcp, oci, auto, got "ibm"'),
        ({"workdir": "here"}, 'error: HOOK workdir: expected an absolute path, got "here"'),
        ({"backend": "pod"}, 'error: HOOK backend: expected one of sandbox, function, auto, got "pod"'),
        ({"setup": None}, "error: HOOK setup: setup cannot be changed here; change the pod in pod_mutation_hook"),
        (
            {"tags": {"dag_id": "x"}},
            'warning: HOOK tags["dag_id"]: "dag_id" is one of modalflow\'s own tags and keeps its value; use',
        ),
        (
            {"gpu": "L4", "gpu_wait": 900},
            "warning: HOOK gpu_wait: 900 s is more than [scheduler] task_queued_timeout (600): Airflow",
        ),
    ],
)
def test_its_result_is_read_as_strictly_as_what_a_user_writes(changes: dict[str, Any], told: str) -> None:
    result = hooked({}, changing(**changes), dataclasses.replace(OPTIONS, longest_gpu_wait=600.0))
    [found] = result.diagnostics
    assert f"{found.severity}: {found}".startswith(told.replace("HOOK", HOOK))
    assert (result.plan is None) == told.startswith("error")


@pytest.mark.parametrize(
    ("hook", "told"),
    [
        (lambda spec, task: {"gpu": "L4"}, "expected a TaskSpec, or None for no change, got a dict; write return dataclasses"),
        (lambda spec, task: 1 / 0, "raised ZeroDivisionError: division by zero; the scheduler's log has the traceback"),
        (lambda spec, task: sys.exit(3), "raised SystemExit: 3; the scheduler's log has the traceback"),
        (lambda spec: spec, "raised TypeError: "),
        (
            lambda spec, task: spec.env.update(A="1"),
            "raised AttributeError: 'mappingproxy' object has no attribute 'update'; the",
        ),
        (
            lambda spec, task: setattr(spec, "cpu", 1),
            "raised FrozenInstanceError: cannot assign to field 'cpu'; the scheduler's log",
        ),
    ],
)
def test_a_hook_that_fails_fails_the_task_and_nothing_else(hook: Hook, told: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        result = hooked({"modal": {"env": {"B": "2"}}}, hook)
    assert result.plan is None
    [found] = result.errors
    assert str(found).startswith(f"{HOOK}: {told}")
    assert found.code != "hook-failed" or "Traceback" in caplog.text


def test_a_hook_decides_for_each_task_of_a_config_that_is_read_once() -> None:
    def hook(spec: TaskSpec, task: TaskFacts) -> TaskSpec | None:
        return dataclasses.replace(spec, memory=1024 * (1 + task.try_number)) if task.try_number > 1 else None

    translator = Translator(dataclasses.replace(OPTIONS, task_hook=hook), TEMPLATES)
    memories = []
    for number in (1, 2, 3, 1):
        plan = translator({"modal": {"memory": 1024}}, TaskContext(task=dataclasses.replace(TASK, try_number=number))).plan
        assert plan is not None
        memories.append(plan.memory)
    assert memories == [1024, 3072, 4096, 1024]
    assert translator.prepared == 1


def test_it_is_not_asked_about_a_task_that_is_refused_nor_while_dags_are_parsed_nor_of_what_is_no_task() -> None:
    asked: list[TaskFacts] = []
    options = dataclasses.replace(OPTIONS, task_hook=lambda spec, task: asked.append(task))
    assert translate({"modal": {"gpu": "x"}}, context=TaskContext(task=TASK), options=options, templates=TEMPLATES).plan is None
    assert check_executor_config({}, queue="default", options=options, templates=TEMPLATES) == ()
    assert translate(None, context=TaskContext(), options=options, templates=TEMPLATES).plan is not None
    assert asked == []


def test_the_example_of_the_page_does_what_it_says() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "hooks.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(example, "airflow_local_settings.py", "exec"), names)
    hook = names["modal_task_mutation_hook"]
    plan = hooked(
        {"modal": {"env": {"A": "1"}}}, lambda spec, task: hook(spec, dataclasses.replace(task, dag_id="eu_etl"))
    ).sandbox
    assert plan is not None
    assert (plan.region, dict(plan.env)) == (("eu",), {"A": "1", "DATA_REGION": "eu"})
    again = hooked({}, hook).sandbox
    assert again is not None
    assert again.memory == 2048
