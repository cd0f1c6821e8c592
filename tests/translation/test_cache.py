"""The memory of translations: what it returns is what ``translate`` returns, whatever came before."""

from __future__ import annotations

import copy
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.client import models as k8s

from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.cache import Translator
from modalflow.translation.fingerprints import fingerprint, likeness
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import VolumePlan
from modalflow.translation.translate import translate

OPTIONS = read_settings({"queue_templates": '{"gpu": "gpu-inference"}'}).translation
TEMPLATES = TemplateFolders()


def pod(**container: Any) -> k8s.V1Pod:
    return k8s.V1Pod(spec=k8s.V1PodSpec(containers=[k8s.V1Container(name="base", **container)]))


def test_ten_thousand_mapped_tasks_with_one_config_are_read_once() -> None:
    translator = Translator(OPTIONS, TEMPLATES)
    configs = [{"pod_override": pod(image="me/train:1", env=[k8s.V1EnvVar(name="A", value="1")])} for _ in range(10)]
    for index in range(10_000):
        context = TaskContext(env={"MODALFLOW_LAUNCH_ID": str(index)}, tags={"map_index": str(index)})
        plan = translator(configs[index % 10], context).plan
        assert plan is not None
        assert plan.env == {"A": "1", "MODALFLOW_LAUNCH_ID": str(index)}
        assert plan.tags["map_index"] == str(index)
    assert translator.prepared == 1


VALUE: st.SearchStrategy[Any] = st.sampled_from(
    [None, 0, 1, 1.0, 1.5, True, False, "", "1", "2Gi", "A10G", "x", [], ["A10G", "L4"], {}, 0.0, -0.0]
)
MODAL = st.dictionaries(
    st.sampled_from(["gpu", "cpu", "memory", "env", "timeout", "nmae", "tags", "template"]), VALUE, max_size=3
)
ENV = st.lists(st.builds(k8s.V1EnvVar, name=st.sampled_from(["A", "B"]), value=st.sampled_from(["1", "2"])), max_size=2)
PODS = st.builds(
    pod, image=st.sampled_from([None, "", "me/a", "me/b"]), env=st.none() | ENV, tty=st.sampled_from([None, 1, True])
)
CONFIGS = st.fixed_dictionaries({}, optional={"modal": MODAL, "pod_override": PODS, "nmae": VALUE}) | VALUE
CONTEXTS = st.builds(
    TaskContext,
    queue=st.sampled_from(["default", "gpu"]),
    env=st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["1", "2"])),
    tags=st.dictionaries(st.sampled_from(["dag_id"]), st.sampled_from(["1", "2"])),
    volumes=st.sampled_from([(), (VolumePlan(mount_path="/mnt/modalflow/logs", name="logs"),)]),
)


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(st.tuples(CONFIGS, CONTEXTS), max_size=6), most_kept=st.sampled_from([1, 2, 100]))
def test_what_comes_out_does_not_depend_on_what_came_before(calls: list[tuple[Any, TaskContext]], most_kept: int) -> None:
    translator = Translator(OPTIONS, TEMPLATES, most_kept=most_kept)
    for config, context in [*calls, *copy.deepcopy(calls)]:
        fresh = translate(config, context=context, options=OPTIONS, templates=TEMPLATES)
        kept = translator(config, context)
        assert (kept.plan, kept.diagnostics, dict(kept.origins)) == (fresh.plan, fresh.diagnostics, dict(fresh.origins))


def test_a_config_changed_in_place_is_read_again() -> None:
    translator, override = Translator(OPTIONS, TEMPLATES), pod(image="me/a:1")
    first = translator({"pod_override": override}, TaskContext()).plan
    override.spec.containers[0].image = "me/b:1"
    second = translator({"pod_override": override}, TaskContext()).plan
    assert first is not None
    assert second is not None
    assert (first.image.reference, second.image.reference) == ("me/a:1", "me/b:1")


def test_what_a_task_does_with_its_plan_stays_its_own() -> None:
    translator, config = Translator(OPTIONS, TEMPLATES), {"modal": {"env": {"A": "1"}, "tags": {"t": "1"}}}
    plan = translator(config, TaskContext()).plan
    assert plan is not None
    assert isinstance(plan.env, dict)
    assert isinstance(plan.tags, dict)
    plan.env["A"] = plan.tags["t"] = "2"
    again = translator(config, TaskContext()).plan
    assert again is not None
    assert (again.env, again.tags) == ({"A": "1"}, {"t": "1"})


def test_a_collision_with_one_tasks_variables_is_told_of_that_task_alone() -> None:
    translator, config = Translator(OPTIONS, TEMPLATES), {"modal": {"env": {"A": "1"}}}
    told = [[d.code for d in translator(config, TaskContext(env=env)).diagnostics] for env in ({"A": "x"}, {}, {"A": "x"})]
    assert told == [["reserved-env"], [], ["reserved-env"]]
    assert translator.prepared == 1


def test_a_changed_template_is_noticed(tmp_path: Path) -> None:
    template = tmp_path / "mine.yaml"
    translator = Translator(OPTIONS, TemplateFolders([tmp_path]))

    def memory() -> object:
        result = translator({"modal": {"template": "mine"}}, TaskContext())
        return result.plan.memory if result.plan else [d.code for d in result.diagnostics]

    assert memory() == ["template-not-found"]
    template.write_text("{kind: ModalTask, apiVersion: modalflow/v1, spec: {memory: 1Gi}}")
    assert memory() == 1024
    assert memory() == 1024
    assert translator.prepared == 2
    before = template.stat()
    other = tmp_path / "other"
    other.write_text("{kind: ModalTask, apiVersion: modalflow/v1, spec: {memory: 2Gi}}")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(template)  # the same size and time of modification: only the inode tells
    assert memory() == 2048
    template.unlink()
    assert memory() == ["template-not-found"]


def test_the_template_that_a_template_extends_is_watched_too(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("{kind: ModalTask, apiVersion: modalflow/v1, extends: base}")
    base = tmp_path / "base.yaml"
    translator = Translator(OPTIONS, TemplateFolders([tmp_path]))
    found = []
    for memory in ("1Gi", "2048Mi"):
        base.write_text(f"{{kind: ModalTask, apiVersion: modalflow/v1, spec: {{memory: {memory}}}}}")
        plan = translator({"modal": {"template": "mine"}}, TaskContext()).plan
        found.append(plan and plan.memory)
    assert found == [1024, 2048]


def test_the_memory_is_bounded_and_forgets_what_was_used_least_recently() -> None:
    translator = Translator(OPTIONS, TEMPLATES, most_kept=2)
    for memory in range(1024, 1034):
        translator({"modal": {"memory": memory}}, TaskContext())
    translator({"modal": {"memory": 1024}}, TaskContext())
    assert translator.prepared == 11


class Odd:
    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)


def holding_itself() -> dict[str, object]:
    ring: dict[str, object] = {}
    ring["modal"] = [ring, ring]
    return ring


def doubling() -> object:
    value: object = "x"
    for _ in range(40):
        value = [value, value]
    return value


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"modal": Odd()}, id="an object"),
        pytest.param(holding_itself(), id="one that holds itself"),
        pytest.param(doubling(), id="more values than there is time to count"),
        pytest.param({"modal": {1: "x"}}, id="a key that is no text"),
        pytest.param({"modal": {"gpu": type("Text", (str,), {})("A10G")}}, id="a kind of text"),
    ],
)
def test_what_cannot_be_compared_is_read_each_time(config: object) -> None:
    assert fingerprint(config) is None
    translator = Translator(OPTIONS, TEMPLATES)
    fresh = translate(config, context=TaskContext(), options=OPTIONS, templates=TEMPLATES)
    assert translator(config, TaskContext()).diagnostics == fresh.diagnostics
    assert translator.prepared == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, True), (1, 1.0), (0.0, -0.0), ([], ()), ({}, []), ("1", 1), ({"a": 1, "b": 2}, {"b": 2, "a": 1}), ({"a": None}, {})],
)
def test_values_that_python_calls_equal_have_fingerprints_of_their_own(one: object, other: object) -> None:
    assert fingerprint(one) != fingerprint(other)
    assert likeness(one) != other


@settings(max_examples=100, deadline=None)
@given(one=CONFIGS, other=CONFIGS)
def test_both_ways_of_comparing_agree(one: object, other: object) -> None:
    assert (likeness(one) == other) == (fingerprint(one) == fingerprint(other))
    assert likeness(one) == copy.deepcopy(one)


def test_several_threads_can_share_it() -> None:
    translator = Translator(OPTIONS, TEMPLATES, most_kept=3)
    wrong: list[object] = []

    def work(seed: int) -> None:
        for index in range(300):
            memory = 1024 + (seed + index) % 5
            plan = translator({"modal": {"memory": memory}}, TaskContext()).plan
            if plan is None or plan.memory != memory:
                wrong.append(plan)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


MAPS = [k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="settings"))]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_changed_config_map_is_noticed(tmp_path: Path, *, is_folder: bool) -> None:
    place = tmp_path / "settings"
    options = read_settings({"config_maps": f'{{"settings": "{place}"}}'}).translation
    translator = Translator(options, TemplateFolders())

    def env() -> object:
        found = translator({"pod_override": pod(env_from=MAPS)}, TaskContext())
        fresh = translate({"pod_override": pod(env_from=MAPS)}, context=TaskContext(), options=options, templates=TEMPLATES)
        assert (found.plan, found.diagnostics) == (fresh.plan, fresh.diagnostics)
        return found.plan.env if found.plan else [d.code for d in found.diagnostics]

    def write(value: str) -> None:
        if is_folder:
            place.mkdir(exist_ok=True)
            (place / "A").write_text(value)
        else:
            place.write_text(f"{{kind: ConfigMap, data: {{A: '{value}'}}}}")

    missing = env()
    assert isinstance(missing, list)
    write("1")
    assert env() == {"A": "1"}
    assert env() == {"A": "1"}
    assert translator.prepared == 2
    write("22")
    assert env() == {"A": "22"}
    if is_folder:
        (place / "B").write_text("3")
        assert env() == {"A": "22", "B": "3"}


@pytest.mark.parametrize("merge", ["kubernetes_executor", "strategic"])
def test_null_and_nothing_are_two_configs(tmp_path: Path, merge: str) -> None:
    (tmp_path / "site.yaml").write_text("{kind: Pod, spec: {containers: [{name: base, workingDir: /work}]}}")
    options = read_settings({"merge": merge, "pod_template_file": "site"}).translation
    translator = Translator(options, TemplateFolders([tmp_path]))
    found = []
    for container in ({"workingDir": None}, {}, {"workingDir": None}):
        config = {"pod_override": {"spec": {"containers": [{"name": "base", **container}]}}}
        plan = translator(config, TaskContext()).sandbox
        found.append(plan and plan.workdir)
    assert found == [None if merge == "strategic" else "/work", "/work", None if merge == "strategic" else "/work"]
    assert translator.prepared == 2


def test_what_the_site_allows_is_kept_with_the_task() -> None:
    options = read_settings({"allow": '["spec.containers[*].args"]', "on_unsupported": "error"}).translation
    translator = Translator(options, TEMPLATES)
    for _ in range(2):
        found = translator({"pod_override": pod(args=["x"], tty=True)}, TaskContext())
        fresh = translate(
            {"pod_override": pod(args=["x"], tty=True)}, context=TaskContext(), options=options, templates=TEMPLATES
        )
        assert (found.plan, found.diagnostics) == (fresh.plan, fresh.diagnostics)
        assert [(d.code, str(d.severity)) for d in found.diagnostics] == [("allowed-field", "warning"), ("dropped", "error")]
    assert translator.prepared == 1


def test_a_pod_hook_sees_every_task_and_leaves_nothing_behind() -> None:
    def hook(given: dict[str, Any]) -> tuple[Any, Any]:
        left = copy.deepcopy(given)
        left["spec"]["containers"][0]["workingDir"] = f"/{given['metadata']['annotations']['task_id']}"
        return given, left

    translator = Translator(replace(OPTIONS, pod_hook=hook), TEMPLATES)
    config = {"pod_override": pod(image="me/a:1")}
    tasks = [TaskFacts(dag_id="d", task_id=name, run_id="r", map_index=-1, try_number=1, queue="default") for name in "ab"]
    plans = [translator(config, TaskContext(task=task)).sandbox for task in (tasks[0], tasks[1], None, tasks[0])]
    assert [plan and plan.workdir for plan in plans] == ["/a", "/b", None, "/a"]
    assert translator.prepared == 1
