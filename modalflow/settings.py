"""modalflow's settings: the options' texts into one frozen tree of values.

Flows in: Airflow's configuration, or any ``Mapping`` of option name to text, read by ``option_table``. Flows out: ``Settings``,
read by ``executor`` (which hands ``TranslationOptions`` to ``translation`` and ``LaunchSettings`` to ``launch``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from modalflow.option_table import OPTIONS, SECTION, Option
from modalflow.translation.buckets import read_bucket
from modalflow.translation.diagnostics import Diagnostic, Severity, did_you_mean, render
from modalflow.translation.gpus.caps import GpuCaps
from modalflow.translation.gpus.catalogue import GpuRequest
from modalflow.translation.gpus.requests import read_gpu
from modalflow.translation.images import NAMED
from modalflow.translation.inputs import FieldPattern, TranslationOptions
from modalflow.translation.layers import OPTIONS as OPTIONS_ROOT
from modalflow.translation.plan import MODALFLOWS, Bucket, Home, ImagePlan
from modalflow.translation.report import Place

T = TypeVar("T")


class SettingsError(ValueError):
    """An option that cannot be used; the text names section, option, value and what to write."""


_BY_NAME: Mapping[str, Option] = {option.name: option for option in OPTIONS}


@dataclass(frozen=True, kw_only=True, slots=True)
class LaunchSettings:
    """What ``launch`` and the gateway need. Times in seconds; meanings as in ``OPTIONS``."""

    app_name: str = "modalflow"
    environment: str | None = None
    modal_conn_id: str | None = None
    credentials_interval: float = 300.0
    """0 for never."""
    deployment: str = "airflow"
    handover_timeout: float = 60.0
    create_timeout: float = 120.0
    rpc_timeout: float = 30.0
    launch_concurrency: int = 64
    launch_retries: int = 5
    infra_retries: int = 3
    cpu_create_rate: float | None = 20.0
    """Creates a second, ``None`` for no limit of ours."""
    gpu_create_rate: float | None = 5.0
    max_gpus: GpuCaps = field(default_factory=GpuCaps)
    queued_timeout: float = 600.0
    """Airflow's ``[scheduler] task_queued_timeout``."""
    stop_grace: int = 30
    sweep_interval: float = 300.0
    """0 for never."""
    logs_volume: str | None = "modalflow-logs"
    accounts: tuple[str, ...] = ()
    """Airflow connections besides the deployment's own that a sandbox of ours may be of: ``modal_conn_ids``, and those of
    ``namespaces``."""
    homes: tuple[Home, ...] = (MODALFLOWS,)
    """Every environment and App that may hold a sandbox of ours: modalflow's own, then those of ``namespaces``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DagCodeSettings:
    """How DAG code reaches tasks; meanings as in ``OPTIONS``. ``limit`` in MiB, ``keep`` in days."""

    source: str = "auto"
    volume: str = "modalflow-dag-code"
    limit: int = 256
    keep: int = 3
    ignored_modules: bool = True
    requirements: bool = True
    outside_links: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All of ``[modal_executor]``, typed."""

    launch: LaunchSettings = field(default_factory=LaunchSettings)
    translation: TranslationOptions = field(default_factory=TranslationOptions)
    allow_long_gpu_wait: bool = False
    template_folders: tuple[str, ...] = ()
    execution_api: Literal["auto", "direct", "relay"] = "auto"
    execution_api_url: str | None = None
    dags_volume: str | None = None
    dag_code: DagCodeSettings = field(default_factory=DagCodeSettings)
    log_sync_interval: float = 10.0
    """Seconds; 0 for only at the sandbox's end."""
    worker_env: Mapping[str, str] = field(default_factory=dict)


def _read(option: Option, raw: str) -> object:
    try:
        return option.read(raw)
    except (ValueError, TypeError, KeyError, json.JSONDecodeError) as error:
        example = f", e.g. {option.example}" if option.example else ""
        if option.quotable:
            raise SettingsError(f"[{SECTION}] {option.name}: expected {option.expects}{example}; got {raw!r}") from error
        # Without the cause, whose text or document is the value.
        raise SettingsError(f"[{SECTION}] {option.name}: expected {option.expects}{example}; the value is not shown") from None


def read_settings(values: Mapping[str, str], *, auto_image: ImagePlan | None = None) -> Settings:
    """Build ``Settings`` from option texts. Absent options take their default, as do empty ones unless they can be empty.

    Raises ``SettingsError`` for the first option that is unknown or does not parse.
    """
    for name in values:
        if name not in _BY_NAME:
            hint = did_you_mean(name, _BY_NAME)
            raise SettingsError(f"[{SECTION}] {name}: unknown option" + (f"; {hint}" if hint else ""))
    read = {option.name: _read(option, text) for option in OPTIONS if (text := _text_of(option, values))}
    return _assemble(read, auto_image or ImagePlan(reference=None))


def _text_of(option: Option, values: Mapping[str, str]) -> str:
    text = values.get(option.name, option.default)
    return text if text or option.can_be_empty else option.default


def _assemble(read: Mapping[str, object], auto_image: ImagePlan) -> Settings:
    def value(name: str, kind: type[T]) -> T:
        found = read[name]
        if not isinstance(found, kind):
            raise TypeError(name)
        return found

    def optional(name: str, kind: type[T]) -> T | None:
        return value(name, kind) if name in read else None

    auto, images = _images(read, auto_image)
    namespaces: Mapping[str, Home] = optional("namespaces", dict) or {}
    connections: list[str] = optional("modal_conn_ids", list) or []
    return Settings(
        launch=LaunchSettings(
            app_name=value("app_name", str),
            environment=optional("environment", str),
            modal_conn_id=optional("modal_conn_id", str),
            credentials_interval=value("credentials_interval", float),
            deployment=value("deployment", str),
            handover_timeout=value("handover_timeout", float),
            create_timeout=value("create_timeout", float),
            rpc_timeout=value("rpc_timeout", float),
            launch_concurrency=value("launch_concurrency", int),
            launch_retries=value("launch_retries", int),
            infra_retries=value("infra_retries", int),
            cpu_create_rate=value("cpu_create_rate", float) or None,
            gpu_create_rate=value("gpu_create_rate", float) or None,
            max_gpus=optional("max_gpus", GpuCaps) or GpuCaps(),
            stop_grace=value("stop_grace", int),
            sweep_interval=value("sweep_interval", float),
            logs_volume=optional("logs_volume", str),
            accounts=_accounts(optional("modal_conn_id", str), connections, namespaces),
            homes=tuple(dict.fromkeys((MODALFLOWS, *namespaces.values()))),
        ),
        translation=TranslationOptions(
            task_keys={option.name: read[option.name] for option in OPTIONS if option.task_key and option.name in read},
            auto_image=auto,
            images=images,
            default_gpu=optional("default_gpu", str),
            gpu_substitution="nearest" if value("gpu_substitution", str) == "nearest" else "never",
            labels={
                name: tuple(choice.name for choice in gpu) for name, gpu in _gpus("labels", optional("labels", dict)).items()
            },
            resource_claims=_gpus("resource_claims", optional("resource_claims", dict)),
            gpu_wait=value("gpu_wait", float),
            default_template=optional("default_template", str),
            pod_template_file=optional("pod_template_file", str),
            queue_templates=_texts("queue_templates", optional("queue_templates", dict) or {}),
            claims=optional("claims", dict) or {},
            functions=optional("functions", dict) or {},
            dropped_sidecars=frozenset(optional("dropped_sidecars", list) or ()),
            pull_always=value("pull_always", bool),
            namespaces=namespaces,
            modal_conn_id=optional("modal_conn_id", str),
            connections=tuple(connections),
            buckets=_buckets(optional("buckets", dict) or {}),
            config_maps=optional("config_maps", dict) or {},
            kubernetes_secrets=optional("kubernetes_secrets", dict) or {},
            registry_secrets=optional("registry_secrets", dict) or {},
            merge="strategic" if value("merge", str) == "strategic" else "kubernetes_executor",
            on_unsupported=_on_unsupported(value("on_unsupported", str)),
            allow=_allow(optional("allow", list) or []),
            allow_env=frozenset(optional("allow_env", list) or ()),
        ),
        allow_long_gpu_wait=value("allow_long_gpu_wait", bool),
        template_folders=tuple(optional("template_folders", list) or ()),
        execution_api=_execution_api(value("execution_api", str)),
        execution_api_url=optional("execution_api_url", str),
        dags_volume=optional("dags_volume", str),
        dag_code=DagCodeSettings(
            source=value("dag_source", str),
            volume=value("dag_code_volume", str),
            limit=value("dag_code_limit", int),
            keep=value("dag_code_days", int),
            ignored_modules=value("dag_ignored_modules", bool),
            requirements=value("dag_requirements", bool),
            outside_links=value("dag_outside_links", bool),
        ),
        log_sync_interval=value("log_sync_interval", float),
        worker_env=_texts("worker_env", optional("worker_env", dict) or {}),
    )


def _images(read: Mapping[str, object], plain: ImagePlan) -> tuple[ImagePlan, dict[str, ImagePlan]]:
    """Return what ``auto`` is, and each ``auto:NAME``."""
    from modalflow.image_recipes import auto_recipe, named_recipes  # noqa: PLC0415 - `packaging`, which few sites need

    names = ("python_version", "match_providers", "apt_packages", "requirements", "build_secrets")
    values = {name: read[name] for name in names if name in read}
    entries = read.get("images")
    try:
        auto = auto_recipe(values, plain)
        images = named_recipes(entries if isinstance(entries, dict) else {}, auto, plain)
    except ValueError as error:
        raise SettingsError(f"[{SECTION}] {error}") from error
    image = read.get("image")
    if isinstance(image, str) and image.startswith(NAMED) and image.removeprefix(NAMED) not in images:
        known = ", ".join(f"{NAMED}{name}" for name in images) or "none"
        raise SettingsError(f"[{SECTION}] image: {image!r} is not among images, which has: {known}")
    return auto, images


def _accounts(own: str | None, connections: Sequence[str], namespaces: Mapping[str, Home]) -> tuple[str, ...]:
    found = dict.fromkeys((*connections, *(home.conn_id for home in namespaces.values())))
    return tuple(conn_id for conn_id in found if conn_id is not None and conn_id != own)


def _on_unsupported(text: str) -> Literal["error", "warn", "ignore"]:
    return "error" if text == "error" else "ignore" if text == "ignore" else "warn"


def _execution_api(text: str) -> Literal["auto", "direct", "relay"]:
    return "relay" if text == "relay" else "direct" if text == "direct" else "auto"


def _allow(entries: Sequence[object]) -> tuple[FieldPattern, ...]:
    from modalflow.pod_paths import read_allowed  # noqa: PLC0415 - reads the list of all fields, which few sites need

    found: list[FieldPattern] = []
    for index, entry in enumerate(entries):
        try:
            found.append(read_allowed(entry if isinstance(entry, str) else str(entry)))
        except ValueError as error:
            raise SettingsError(f"[modal_executor] allow[{index}]: {error}") from error
    return tuple(found)


def _gpus(name: str, mapping: Mapping[object, object] | None) -> dict[str, GpuRequest]:
    """Read what the values of ``labels`` and ``resource_claims`` are: ``{"gpu": …}``, or ``{}`` for none."""
    found: dict[str, GpuRequest] = {}
    for key, entry in (mapping or {}).items():
        findings: list[Diagnostic] = []
        place = Place(OPTIONS_ROOT, (name, str(key)), findings)
        if not isinstance(entry, dict) or set(entry) - {"gpu"}:
            raise SettingsError(f'{place.origin}: expected an object such as {{"gpu": "L4"}}')
        if name == "labels" and "=" not in str(key):
            raise SettingsError(f'{place.origin}: expected a label as KEY=VALUE, such as "pool=training"')
        request = read_gpu(entry["gpu"], place.at("gpu")) if "gpu" in entry else ()
        if request is None or any(d.severity is Severity.ERROR for d in findings):
            raise SettingsError(render(d for d in findings if d.severity is Severity.ERROR))
        near = next((choice for choice in request if choice.stands_for), None)
        if near is not None:
            raise SettingsError(f'{place.origin}: Modal has no "{near.stands_for}"; the nearest is "{near.name}"')
        if name == "labels" and any(choice.count != 1 for choice in request):
            raise SettingsError(f"{place.origin}: a label names a model without a count; the pod's limit gives the number")
        if len({choice.count for choice in request}) > 1:
            raise SettingsError(f"{place.origin}: expected one number of GPUs for all models")
        found[str(key)] = request
    return found


def _buckets(mapping: Mapping[object, object]) -> dict[str, Bucket]:
    """Read ``buckets``: each by its own name unless the entry gives another."""
    found: dict[str, Bucket] = {}
    for name, entry in mapping.items():
        findings: list[Diagnostic] = []
        bucket = read_bucket(entry, Place(OPTIONS_ROOT, ("buckets", str(name)), findings), name=str(name))
        if bucket is None:
            raise SettingsError(render(findings))
        found[str(name)] = bucket
    return found


def _texts(name: str, mapping: Mapping[object, object]) -> dict[str, str]:
    for key, found in mapping.items():
        if not isinstance(found, str):
            raise SettingsError(f"[{SECTION}] {name}: {key!r}: expected text, got {type(found).__name__}; write it in quotes")
    return {str(key): str(found) for key, found in mapping.items()}
