"""A migrated ``airflow.cfg``: what ``[kubernetes_executor]`` says is the weakest default, and only what somebody set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.configuration import AirflowConfigParser
from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info

from modalflow.executor.configuration import ConfigurationView, load_settings
from modalflow.executor.kubernetes_options import READ, WITHOUT_EFFECT, kubernetes_notice
from modalflow.settings import read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.inputs import TaskContext
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.translate import translate

OPTION = "[kubernetes_executor] worker_container_repository"
IMAGE = "worker_container_repository = me/airflow\nworker_container_tag = 3.3.2\n"


def view(text: str, environ: dict[str, str] | None = None) -> ConfigurationView:
    parser = AirflowConfigParser()
    parser.read_string(text)
    return ConfigurationView(conf=parser, environ=environ or {})


def translated(text: str, config: object = None, folder: Path | None = None) -> Translation:
    options = load_settings(view(text)).translation
    return translate(config, context=TaskContext(), options=options, templates=TemplateFolders([folder] if folder else []))


def image(found: Translation) -> tuple[str | None, str]:
    assert found.plan is not None
    return found.plan.image.reference, str(found.origins["image"])


def told(found: Translation) -> list[str]:
    return [f"{d.severity}: {d}" for d in found.diagnostics]


def test_defaults_of_the_provider_are_not_what_somebody_set() -> None:
    assert load_settings(view("")) == read_settings({})
    assert load_settings(view("[kubernetes_executor]\nin_cluster = True\ndelete_worker_pods = True\n")) == read_settings({})
    assert kubernetes_notice(view(""), {}) is None


def test_the_worker_image_stands_in_for_auto() -> None:
    found = translated(f"[kubernetes_executor]\n{IMAGE}")
    assert image(found) == ("me/airflow:3.3.2", "[kubernetes_executor] worker_container_repository")
    assert told(found) == [(f"notice: {OPTION}: read as the weakest default; write [modal_executor] image = me/airflow:3.3.2")]


@pytest.mark.parametrize(
    "text",
    [
        f"[modal_executor]\nimage = auto\n[kubernetes_executor]\n{IMAGE}",
        "[kubernetes_executor]\nworker_container_repository = me/airflow\n",
        "[kubernetes_executor]\nworker_container_tag = 3.3.2\n",
    ],
)
def test_an_image_that_modalflow_names_or_half_a_one_changes_nothing(text: str) -> None:
    found = translated(text)
    assert image(found)[0] is None
    assert told(found) == []


def test_everything_else_is_above_it() -> None:
    for config in (
        {"modal": {"image": "me/b:1"}},
        {"pod_override": {"spec": {"containers": [{"name": "base", "image": "me/b:1"}]}}},
    ):
        found = translated(f"[kubernetes_executor]\n{IMAGE}", config)
        assert image(found)[0] == "me/b:1"
        assert [d.code for d in found.diagnostics] == ["kubernetes-option"]


def test_options_keep_their_rank_above_it() -> None:
    found = translated(f"[modal_executor]\ntimeout = 2h\n[kubernetes_executor]\n{IMAGE}", {"modal": {"execution_timeout": 60}})
    assert found.plan is not None
    assert found.plan.timeout == 660


def write(folder: Path, image: str = "") -> Path:
    file = folder / "pod.yaml"
    named = f", image: '{image}'" if image else ""
    file.write_text(f"kind: Pod\nspec: {{containers: [{{name: base, env: [{{name: A, value: '1'}}]{named}}}]}}\n")
    return file


def test_the_pod_template(tmp_path: Path) -> None:
    file = write(tmp_path)
    found = translated(f"[kubernetes_executor]\npod_template_file = {file}\n{IMAGE}")
    assert found.plan is not None
    assert found.plan.env == {"A": "1"}
    assert told(found) == [
        (
            f"notice: {OPTION}: read as the weakest default; write [modal_executor] image = "
            f"me/airflow:3.3.2, pod_template_file = {file}"
        )
    ]
    own = translated(f"[modal_executor]\npod_template_file = default\n[kubernetes_executor]\npod_template_file = {file}\n")
    assert own.plan is not None
    assert own.plan.env == {}
    assert told(own) == []


def test_a_missing_pod_template_names_its_option(tmp_path: Path) -> None:
    found = translated(f"[kubernetes_executor]\npod_template_file = {tmp_path}/none.yaml\n")
    assert found.plan is None
    assert [d.origin.path for d in found.errors] == ["[kubernetes_executor] pod_template_file"]


def test_an_image_of_the_template_is_used_and_the_difference_told(tmp_path: Path) -> None:
    file = write(tmp_path, "me/other:1")
    found = translated(f"[kubernetes_executor]\npod_template_file = {file}\n{IMAGE}")
    assert image(found)[0] == "me/other:1"
    assert told(found)[1:] == [
        (
            f'warning: {OPTION}: "me/airflow:3.3.2" gives way to spec.containers[0].image '
            f"({file}:2), where KubernetesExecutor runs it; keep one of them"
        )
    ]
    write(tmp_path, "me/airflow:3.3.2")
    assert len(told(translated(f"[kubernetes_executor]\npod_template_file = {file}\n{IMAGE}"))) == 1


HOMES = '[modal_executor]\nnamespaces = {"airflow": "prod/tasks", "ml": "prod/ml"}\n[kubernetes_executor]\nnamespace = airflow\n'
WHERE = [{"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}]


def where(text: str, config: object) -> tuple[str | None, str | None, str | None]:
    """Return the App, who chose it, and what a variable of the pod's namespace holds."""
    found = translated(text, config)
    plan = found.plan
    assert isinstance(plan, SandboxPlan)
    app = str(found.origins["home.app"]) if "home.app" in found.origins else None
    return plan.home.app, app, plan.env.get("WHERE")


def test_the_namespace_is_the_weakest_of_those_that_are_mapped() -> None:
    place = "[kubernetes_executor] namespace"
    assert where(HOMES, None) == ("tasks", place, None)
    assert where(HOMES, {"modal": {"namespace": "ml"}}) == ("ml", 'executor_config["modal"]["namespace"]', None)
    pod: dict[str, Any] = {"spec": {"containers": [{"name": "base", "env": WHERE}]}}
    assert where(HOMES, {"pod_override": pod}) == ("tasks", place, "airflow")
    pod["metadata"] = {"namespace": "ml"}
    assert where(HOMES, {"pod_override": pod}) == ("ml", "pod_override.metadata.namespace", "ml")
    assert where(HOMES, {"pod_override": pod, "modal": {"merge": "strategic"}})[:2] == ("ml", "pod_override.metadata.namespace")
    assert told(translated(HOMES)) == [
        (
            f"notice: {place}: read as the weakest default; write namespace: airflow in the template of [modal_executor] "
            "default_template"
        )
    ]


def test_a_namespace_that_is_not_mapped_is_what_variables_hold() -> None:
    pod = {"spec": {"containers": [{"name": "base", "env": WHERE}]}}
    text = "[kubernetes_executor]\nnamespace = airflow\n"
    assert where(text, {"pod_override": pod}) == (None, None, "airflow")
    assert told(translated(text, {"pod_override": pod})) == []
    assert image(translated(text))[1] == "[modal_executor] image"


def test_a_team_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {
        "AIRFLOW__ML___KUBERNETES_EXECUTOR__WORKER_CONTAINER_REPOSITORY": "me/ml",
        "AIRFLOW__ML___KUBERNETES_EXECUTOR__WORKER_CONTAINER_TAG": "1",
    }
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    parser = AirflowConfigParser()
    ours = load_settings(ConfigurationView(conf=parser, team="ml", environ=environ)).translation.kubernetes
    assert ours is not None
    assert ours.image == "me/ml:1"
    assert load_settings(ConfigurationView(conf=parser, team="etl", environ=environ)).translation.kubernetes is None


def test_every_option_of_the_provider_is_decided() -> None:
    info: dict[str, Any] = get_provider_info()  # type: ignore[no-untyped-call]
    assert set(info["config"]["kubernetes_executor"]["options"]) == {*READ, *WITHOUT_EFFECT}


def test_the_scheduler_s_log_names_what_is_read_and_what_does_nothing() -> None:
    text = f"[kubernetes_executor]\n{IMAGE}namespace = airflow\ndelete_worker_pods = True\nin_cluster = True\nverify_ssl = True\n"
    assert kubernetes_notice(view(text), {}) == (
        "[kubernetes_executor]: read as the weakest defaults; the same is [modal_executor] image = me/airflow:3.3.2; "
        "namespace without effect ([modal_executor] namespaces does not say where airflow is on Modal); "
        "delete_worker_pods without effect (a sandbox ends with its task); in_cluster, verify_ssl without effect (there is no "
        "cluster to call)"
    )
    assert kubernetes_notice(view(text.replace("in_cluster = True", "multi_namespace_mode = True")), {"airflow"}) == (
        "[kubernetes_executor]: read as the weakest defaults; the same is [modal_executor] image = me/airflow:3.3.2 and "
        "namespace: airflow in the template of [modal_executor] default_template; delete_worker_pods without effect (a sandbox "
        "ends with its task); multi_namespace_mode without effect (a task may name any entry of [modal_executor] namespaces); "
        "verify_ssl without effect (there is no cluster to call)"
    )
    assert kubernetes_notice(view("[kubernetes_executor]\nworker_container_tag = 3\n"), {}) == (
        "[kubernetes_executor]: worker_container_tag without effect (an image needs both options, as in KubernetesExecutor)"
    )
