"""What a migrated ``airflow.cfg`` still says under ``[kubernetes_executor]``: the weakest defaults of ModalExecutor.

In: Airflow's configuration. Out: ``KubernetesDefaults`` for ``translation``, and a sentence for the scheduler's log. Only what
somebody set counts: the cncf-kubernetes provider (10.25.0) has defaults of its own for most options.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import replace
from typing import Protocol

from modalflow.translation.inputs import KubernetesDefaults

KUBERNETES_SECTION = "kubernetes_executor"
READ = ("pod_template_file", "worker_container_repository", "worker_container_tag", "namespace")
"""Options that mean something on Modal."""
_IMAGE = ("worker_container_repository", "worker_container_tag")

_API = "there is no cluster to call"
_ENDS = "a sandbox ends with its task"
_LAUNCHES = "[modal_executor] launch_concurrency and launch_retries bound launches"
_NAMESPACES = "a task may name any entry of [modal_executor] namespaces"
WITHOUT_EFFECT: Mapping[str, str] = {
    "multi_namespace_mode": _NAMESPACES,
    "multi_namespace_mode_namespace_list": _NAMESPACES,
    "delete_worker_pods": _ENDS,
    "delete_worker_pods_on_failure": "[modal_executor] keep_on_failure says how long a failed task's sandbox stays",
    "delete_option_kwargs": _ENDS,
    "worker_pod_pending_fatal_container_state_reasons": "an image that cannot be had fails its task at once",
    "worker_pods_creation_batch_size": _LAUNCHES,
    "async_pod_creation": _LAUNCHES,
    "pod_creation_max_concurrency": _LAUNCHES,
    "task_publish_max_retries": _LAUNCHES,
    "pod_launch_failure_retries": _LAUNCHES,
    "pod_launch_failure_excluded_container_reasons": _LAUNCHES,
    "running_pod_log_lines": "a running task's log is read as a whole",
    "logs_task_metadata": "modalflow's log lines name the task anyway",
    **dict.fromkeys(
        (
            "api_client_retry_configuration",
            "in_cluster",
            "cluster_context",
            "config_file",
            "client_factory",
            "async_client_factory",
            "kube_client_request_args",
            "enable_tcp_keepalive",
            "tcp_keep_idle",
            "tcp_keep_intvl",
            "tcp_keep_cnt",
            "verify_ssl",
            "ssl_ca_cert",
        ),
        _API,
    ),
}
"""Every other option of the provider, and why it does nothing here."""

_SUFFIXES = ("_cmd", "_secret")


class View(Protocol):
    """The part of ``ConfigurationView`` that is read here."""

    def get(self, section: str, option: str, fallback: str = "") -> str:
        """Text of an option, or ``fallback``."""
        ...

    def set_options(self, section: str) -> set[str]:
        """Names of the options that somebody set."""
        ...


def _set(view: View) -> set[str]:
    return {
        next((name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix)), name)
        for name in view.set_options(KUBERNETES_SECTION)
    }


def read_kubernetes_defaults(view: View) -> KubernetesDefaults | None:
    """Return what ``[kubernetes_executor]`` says, ``None`` where nobody set anything of use.

    An image needs both of its options, as in KubernetesExecutor.
    """
    said = _set(view)
    texts = {name: view.get(KUBERNETES_SECTION, name) for name in READ if name in said}
    repository, tag = texts.get("worker_container_repository"), texts.get("worker_container_tag")
    image = f"{repository}:{tag}" if repository and tag else None
    template = texts.get("pod_template_file") or None
    namespace = texts.get("namespace") or None
    found = KubernetesDefaults(image=image, pod_template_file=template, namespace=namespace)
    return found if image or template or namespace else None


def kubernetes_notice(view: View, namespaces: Container[str]) -> str | None:
    """Return a sentence about ``[kubernetes_executor]`` for the scheduler's log, ``None`` where nobody set anything there.

    ``namespaces`` are those whose place on Modal is known.
    """
    said = _set(view)
    found = read_kubernetes_defaults(view)
    counts = found
    if found is not None and found.namespace is not None and found.namespace not in namespaces:
        counts = replace(found, namespace=None)
    told = [f"read as the weakest defaults; the same is {counts.modern}"] if counts is not None and counts.modern else []
    if counts is not found and found is not None:
        told.append(f"namespace without effect ([modal_executor] namespaces does not say where {found.namespace} is on Modal)")
    idle: dict[str, list[str]] = {}
    for name in sorted(said & set(WITHOUT_EFFECT)):
        idle.setdefault(WITHOUT_EFFECT[name], []).append(name)
    told += [f"{', '.join(names)} without effect ({reason})" for reason, names in idle.items()]
    half = said & set(_IMAGE)
    if half and (found is None or found.image is None):
        told.append(f"{', '.join(sorted(half))} without effect (an image needs both options, as in KubernetesExecutor)")
    return f"[{KUBERNETES_SECTION}]: {'; '.join(told)}" if told else None
