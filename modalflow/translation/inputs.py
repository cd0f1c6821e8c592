"""What ``translate`` is given besides the ``executor_config``: options, the task's context, and a way to load templates.

``settings`` builds ``TranslationOptions``; ``executor`` builds ``TaskContext``; ``templates`` implements ``TemplateSource``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.functions.plan import FunctionTarget
from modalflow.translation.gpus.catalogue import GpuRequest, GpuSubstitution
from modalflow.translation.hooks.types import PodHook, TaskFacts, TaskHook
from modalflow.translation.origins import Origin
from modalflow.translation.plan import Bucket, Home, ImagePlan, VolumePlan

PodMerge = Literal["kubernetes_executor", "strategic"]
"""How one pod is laid on another: by ``PodGenerator.reconcile_pods``, or by Kubernetes' strategic merge."""

FieldPattern = tuple[str | None, ...]
"""Keys of a path in a pod; ``None`` is any key or index."""

FileContent = str | bytes
"""Text, or base64 (as ``bytes``) of what is no UTF-8 text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SecretSource:
    """The Modal Secret that stands for a Kubernetes Secret or ConfigMap.

    ``keys`` maps Kubernetes' keys to the variables that Modal injects; ``None``: they are not known, and the same.
    """

    name: str
    keys: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimSource:
    """The Modal Volume, or the folder in it, that stands for a PersistentVolumeClaim."""

    volume: str
    sub_path: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class KubernetesDefaults:
    """What somebody set under ``[kubernetes_executor]``: counts only where nothing of ``[modal_executor]`` says otherwise.

    ``image`` is ``worker_container_repository`` and ``worker_container_tag`` together. ``namespace`` is where pods ran.
    """

    image: str | None = None
    pod_template_file: str | None = None
    namespace: str | None = None

    @property
    def modern(self) -> str:
        """The same in the words of modalflow."""
        said = {"image": self.image, "pod_template_file": self.pod_template_file}
        options = ", ".join(f"{name} = {value}" for name, value in said.items() if value is not None)
        texts = [f"[modal_executor] {options}"] if options else []
        if self.namespace is not None:
            texts.append(f"namespace: {self.namespace} in the template of [modal_executor] default_template")
        return " and ".join(texts)


@dataclass(frozen=True, kw_only=True, slots=True)
class TranslationOptions:
    """The part of ``[modal_executor]`` that decides how tasks are translated.

    ``hooks.task`` and ``pods.hook`` are the site's, for tasks whose ``TaskContext.task`` is known.
    ``task_keys`` holds the options that are ``modal`` keys too (``cpu``, ``memory``, ``image``, ``env``, …) with their
    values already decoded from text, absent when not set. ``auto_image`` is what ``image = auto`` means here,
    ``images`` what each ``auto:NAME`` does.
    ``kubernetes_secrets``, ``config_maps``, ``registry_secrets``, ``claims``, ``buckets`` (by bucket or claim) and ``namespaces``
    say what the names in pods are on Modal; a text in ``config_maps`` is a path, for ``TemplateSource.config_map``.
    ``default_gpu`` is the model for a pod that limits ``nvidia.com/gpu`` without naming one. ``gpu_substitution`` says whether
    the nearest model may stand in for one that Modal lacks; ``labels`` are the site's node labels, ``key=value`` to models (none:
    it says nothing of GPUs); ``resource_claims`` the GPUs that a device claim, or the template of one, stands for.
    ``functions`` are deployed Functions by a name of the site's; ``calls_functions`` is false where the plan is for somebody who
    cannot call one. ``longest_gpu_wait`` is what Airflow allows, in seconds, ``None`` if nobody knows or cares.
    ``allow_env`` are variables with secrets of Airflow's own that tasks get nevertheless.
    ``connections`` are the Airflow connections that tasks may use besides the deployment's own, ``modal_conn_id``.
    ``pull_always``: a pod's ``imagePullPolicy: Always`` is taken at its word. ``dropped_sidecars``: names of
    containers, or of their images, that are left out of a pod with a warning.
    """

    task_keys: Mapping[str, object] = field(default_factory=dict)
    auto_image: ImagePlan = field(default_factory=lambda: ImagePlan(reference=None))
    images: Mapping[str, ImagePlan] = field(default_factory=dict)
    default_gpu: str | None = None
    gpu_substitution: GpuSubstitution = "never"
    task_hook: TaskHook | None = None
    pod_hook: PodHook | None = None
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resource_claims: Mapping[str, GpuRequest] = field(default_factory=dict)
    gpu_wait: float = 480.0
    longest_gpu_wait: float | None = None
    default_template: str | None = None
    pod_template_file: str | None = None
    queue_templates: Mapping[str, str] = field(default_factory=dict)
    merge: PodMerge = "kubernetes_executor"
    kubernetes: KubernetesDefaults | None = None
    on_unsupported: Literal["error", "warn", "ignore"] = "warn"
    allow: tuple[FieldPattern, ...] = ()
    allow_env: frozenset[str] = frozenset()
    kubernetes_secrets: Mapping[str, SecretSource] = field(default_factory=dict)
    config_maps: Mapping[str, str | SecretSource] = field(default_factory=dict)
    registry_secrets: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, ClaimSource] = field(default_factory=dict)
    functions: Mapping[str, FunctionTarget] = field(default_factory=dict)
    calls_functions: bool = True
    buckets: Mapping[str, Bucket] = field(default_factory=dict)
    namespaces: Mapping[str, Home] = field(default_factory=dict)
    modal_conn_id: str | None = None
    connections: tuple[str, ...] = ()
    pull_always: bool = False
    dropped_sidecars: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskContext:
    """The part of a launch that differs from task to task, and what modalflow itself adds to every sandbox.

    ``env``, ``volumes`` and ``tags`` are ours and win over a user's (with a warning where they collide). ``task`` is what hooks
    are told; without it no hook runs.
    """

    queue: str = "default"
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[VolumePlan, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    task: TaskFacts | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class LoadedTemplate:
    """A YAML template as plain data, with the line of every key.

    ``lines`` maps a path inside the file's document (``("spec", "containers", 0, "image")``) to its 1-based line. ``at`` is
    where ``document`` stands in there, for a pod inside a larger document; findings name the whole path.
    """

    name: str
    file: str
    document: Mapping[str, object]
    lines: Mapping[tuple[str | int, ...], int]
    at: tuple[str | int, ...] = ()


class TemplateSource(Protocol):
    """Finds templates by name or path."""

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        """Return the template, or the error that names ``asked_by`` (not found, not YAML, outside the folders). Total."""
        ...

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        """Return the data of the ConfigMap in a YAML file or folder, by key, or what is wrong with it. Total."""
        ...
