"""The ``modal`` keys: one table that says how each is read, merged, described and checked by an editor.

Flows in: the value of one key. Flows out: a typed value, or findings. ``merge`` folds the values of all layers by the rules
named here; the JSON Schema of ``kind: ModalTask`` and the reference page are made from the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

from modalflow.translation import env, images, keeping, quantities, tags, volumes
from modalflow.translation.diagnostics import did_you_mean
from modalflow.translation.gpus import requests as gpu_requests
from modalflow.translation.plan import Runtime
from modalflow.translation.regions import BROAD, NARROW, modal_region
from modalflow.translation.report import Place, kind_of, shown

KNOWN_REGIONS = (*BROAD, *NARROW)

MERGES = ("kubernetes_executor", "strategic")
"""How the pods of a task may meet."""

CLOUDS = ("aws", "gcp", "oci", "auto")
"""modal.com/docs/guide/region-selection, 2026-09."""

BACKENDS = ("sandbox", "function", "auto")

RUNTIMES: tuple[str, ...] = get_args(Runtime)

Schema = Mapping[str, object]


class Merge(StrEnum):
    """How a stronger layer's value meets a weaker one's."""

    REPLACE = "the strongest value wins"
    BY_KEY = "merged by key"
    APPEND = "appended; an empty list clears"


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """One ``modal`` key. ``read`` returns ``None`` exactly when it reported an error."""

    read: Callable[[object, Place], object | None]
    schema: Schema
    meaning: str
    example: str
    merge: Merge = Merge.REPLACE


def _read_regions(value: object, place: Place) -> tuple[str, ...] | None:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)):
        place.error("bad-region", f'expected a region such as "us-east" or a list of them, got {kind_of(value)}')
        return None
    for region in listed:
        if not isinstance(region, str) or not (region.isascii() and region.replace("-", "").isalnum()):
            place.error("bad-region", f'expected a region such as "us-east", got {shown(region)}')
            return None
        if region not in KNOWN_REGIONS and modal_region(region) is None:
            hint = did_you_mean(region, KNOWN_REGIONS) or f"known: {', '.join(KNOWN_REGIONS)}"
            place.warn(
                "unknown-region", f"{shown(region)} is no region of Modal's that this version knows; it is sent as it is", hint
            )
    return tuple(listed)


def _read_cloud(value: object, place: Place) -> str | None:
    if isinstance(value, str) and value in CLOUDS:
        return value
    place.error("bad-cloud", f"expected one of {', '.join(CLOUDS)}, got {shown(value)}")
    return None


def read_merge(value: object, place: Place) -> str | None:
    """Read how the pods of a task meet."""
    if isinstance(value, str) and value in MERGES:
        return value
    place.error("bad-merge", f"expected {' or '.join(MERGES)}, got {shown(value)}")
    return None


def read_workdir(value: object, place: Place) -> str | None:
    """Read an absolute path inside the sandbox."""
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return value
    place.error("bad-workdir", f"expected an absolute path, got {shown(value)}")
    return None


def _read_oidc(value: object, place: Place) -> bool | None:
    if isinstance(value, bool):
        return value
    place.error("bad-oidc", f"expected True or False, got {shown(value)}")
    return None


def _read_force_build(value: object, place: Place) -> bool | None:
    if isinstance(value, bool):
        return value
    place.error("bad-force-build", f"expected True or False, got {shown(value)}")
    return None


def _read_runtime(value: object, place: Place) -> str | None:
    if isinstance(value, str) and value in RUNTIMES:
        return value
    place.error("bad-runtime", f"expected one of {', '.join(RUNTIMES)}, got {shown(value)}")
    return None


def _read_namespace(value: object, place: Place) -> str | None:
    if isinstance(value, str) and value:
        return value
    got = shown(value) if isinstance(value, str) else kind_of(value)
    place.error("bad-namespace", f"expected a name of [modal_executor] namespaces, got {got}")
    return None


def _read_conn_id(value: object, place: Place) -> str | None:
    if isinstance(value, str) and value:
        return value
    got = shown(value) if isinstance(value, str) else kind_of(value)
    place.error("bad-connection", f"expected the name of an Airflow connection of type modal, got {got}")
    return None


def _keep(value: object, _place: Place) -> object:
    """Return the value as it is: ``layers`` has read and checked it already."""
    return value


def _read_backend(value: object, place: Place) -> str | None:
    if isinstance(value, str) and value in BACKENDS:
        return value
    place.error("bad-backend", f"expected one of {', '.join(BACKENDS)}, got {shown(value)}")
    return None


def _read_gpu_wait(value: object, place: Place) -> float | None:
    seconds = quantities.read_seconds(value, place, code="bad-gpu-wait")
    return None if seconds is None else float(seconds)


def _read_execution_timeout(value: object, place: Place) -> int | None:
    return quantities.read_seconds(value, place, code="bad-execution-timeout")


_TEXT: Schema = {"type": "string", "minLength": 1}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_TEXT_MAP: Schema = {"type": "object", "additionalProperties": {"type": ["string", "null"]}}
_DURATION: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, _TEXT]}
_SOME_TIME: Schema = {"anyOf": [{"type": "number", "minimum": 0}, _TEXT]}
_QUANTITY: Schema = {"type": ["number", "string"]}
_QUANTITY_OR_PAIR: Schema = {"anyOf": [_QUANTITY, {"type": "array", "items": _QUANTITY, "minItems": 2, "maxItems": 2}]}
_GPU_FIELDS = gpu_requests.CONSTRAINT_KEYS
_GPU_ENTRIES: Schema = {"type": "array", "items": {"type": ["string", "object"], "minLength": 1}, "minItems": 1}
_GPU_CONSTRAINT: Schema = {
    "type": "object",
    "minProperties": 1,
    "additionalProperties": False,
    "properties": {
        "name": {"anyOf": [_TEXT, _GPU_ENTRIES]},
        "any_of": _GPU_ENTRIES,
        "ordered": _GPU_ENTRIES,
        "memory": _TEXT,
        "count": {"type": "integer", "minimum": 1, "maximum": 8},
        "compute_capability": {"type": ["string", "number"]},
        "max_price": {"type": "number", "exclusiveMinimum": 0},
        "accelerators": {"type": ["string", "array", "object"]},
        "vendor": {"enum": ["nvidia", "NVIDIA"]},
    },
}
_GPU_SET: Schema = {
    "description": "SkyPilot's set: models with their numbers; the cheapest is tried first.",
    "type": "object",
    "minProperties": 1,
    "propertyNames": {"not": {"enum": list(_GPU_FIELDS)}},
    "additionalProperties": {"type": ["integer", "null"], "minimum": 1, "maximum": 8},
}
_GPU: Schema = {
    "anyOf": [_TEXT, {"type": "array", "items": {"anyOf": [_TEXT, _GPU_CONSTRAINT, _GPU_SET]}}, _GPU_CONSTRAINT, _GPU_SET]
}
_VOLUME: Schema = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": _TEXT, "sub_path": _TEXT, "read_only": {"type": "boolean"}},
        },
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["bucket"],
            "properties": {
                **dict.fromkeys(("bucket", "prefix", "endpoint", "secret", "role_arn"), _TEXT),
                **{flag: {"type": "boolean"} for flag in ("read_only", "requester_pays", "path_style")},
            },
        },
    ]
}
_SECRET: Schema = {
    "anyOf": [
        _TEXT,
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["name"],
            "properties": {"name": _TEXT, "required_keys": _TEXTS},
        },
    ]
}

KEYS: Mapping[str, Key] = {
    "gpu": Key(
        read=gpu_requests.read_gpu,
        schema=_GPU,
        meaning="GPU model, `MODEL:COUNT`, a list of fallbacks tried in order, or a dict of constraints (the cheapest that fits "
        "is tried first). `[]` asks for no GPU.",
        example='"A10G", "H100:2", ["H100", "A100-80GB"], {"memory": ">=40Gi", "count": 2, "max_price": 3.0}',
    ),
    "cpu": Key(
        read=quantities.read_cpu,
        schema=_QUANTITY_OR_PAIR,
        meaning="Physical cores (one is two vCPUs), or `[request, limit]`.",
        example='2, 0.5, "500m", [1, 4]',
    ),
    "memory": Key(
        read=quantities.read_memory,
        schema=_QUANTITY_OR_PAIR,
        meaning="MiB as an int, or text with a unit, or `[request, limit]`.",
        example='2048, "64Gi", ["8Gi", "16Gi"]',
    ),
    "image": Key(
        read=images.read_image,
        schema=_TEXT,
        meaning="`auto`, `auto:NAME` for one of `[modal_executor] images`, or a registry reference. The image needs Airflow "
        "of the scheduler's minor version.",
        example='"ghcr.io/me/train:1.2"',
    ),
    "env": Key(
        read=env.read_env,
        schema=_TEXT_MAP,
        meaning="Environment variables; values are text.",
        example='{"HF_HOME": "/models"}',
        merge=Merge.BY_KEY,
    ),
    "secrets": Key(
        read=volumes.read_secrets,
        schema={"type": "array", "items": _SECRET},
        meaning="Modal Secrets by name, or `{name, required_keys}`.",
        example='["huggingface"]',
        merge=Merge.APPEND,
    ),
    "volumes": Key(
        read=volumes.read_volumes,
        schema={"type": "object", "additionalProperties": _VOLUME},
        meaning="Modal Volumes by mount path: a name, or `{name, sub_path, read_only}`, one Volume at one path; and buckets: "
        "`{bucket, prefix, endpoint, secret, role_arn, read_only, requester_pays, path_style}`.",
        example='{"/models": "models", "/raw": {"bucket": "raw", "prefix": "2026/", "secret": "aws", "read_only": True}}',
        merge=Merge.BY_KEY,
    ),
    "timeout": Key(
        read=quantities.read_timeout,
        schema=_DURATION,
        meaning="Longest life of the sandbox: seconds, or text. At most 24 h.",
        example='3600, "6h", "1h30m"',
    ),
    "region": Key(
        read=_read_regions,
        schema={"anyOf": [_TEXT, _TEXTS]},
        meaning="Where the sandbox may run; naming a region raises Modal's price. `[]` means anywhere.",
        example='"us-east", ["us", "eu"]',
    ),
    "cloud": Key(
        read=_read_cloud,
        schema={"enum": list(CLOUDS)},
        meaning="Cloud provider.",
        example='"aws"',
    ),
    "workdir": Key(
        read=read_workdir,
        schema=_TEXT,
        meaning="Working directory, absolute.",
        example='"/workspace"',
    ),
    "tags": Key(
        read=tags.read_tags,
        schema=_TEXT_MAP,
        meaning="Tags of the sandbox, beside modalflow's own.",
        example='{"team": "ml"}',
        merge=Merge.BY_KEY,
    ),
    "template": Key(
        read=_keep,
        schema=_TEXT,
        meaning="Template to start from (only in `executor_config`; a template names others in `extends`).",
        example='"gpu-training"',
    ),
    "entrypoint": Key(
        read=images.read_entrypoint,
        schema={"type": "array", "items": {"type": "string"}},
        meaning="Replaces the image's ENTRYPOINT, which must run what follows it; `[]` clears it.",
        example='["/usr/bin/tini", "--"]',
    ),
    "registry_secret": Key(
        read=images.read_registry_secret,
        schema=_TEXT,
        meaning="Modal Secret with the credentials of a private registry.",
        example='"ghcr"',
    ),
    "force_build": Key(
        read=_read_force_build,
        schema={"type": "boolean"},
        meaning="Pulls and builds the image anew for this launch, which takes minutes; Modal otherwise keeps what it pulled "
        "first.",
        example="True",
    ),
    "oidc": Key(
        read=_read_oidc,
        schema={"type": "boolean"},
        meaning="Gives the task a token of its identity, signed by Modal, in `MODAL_IDENTITY_TOKEN`: clouds that trust Modal's "
        "OIDC provider exchange it for a role. It stands in for IRSA and Workload Identity.",
        example="True",
    ),
    "keep_on_failure": Key(
        read=keeping.read_keep,
        schema=_SOME_TIME,
        meaning="How long the sandbox of a failed task stays for debugging (`airflow modal shell`): seconds, or text; 0: not at "
        "all. It costs what it costs while the task runs, and ends by its `timeout`. Airflow hears of the failure at once.",
        example='"30m"',
    ),
    "runtime": Key(
        read=_read_runtime,
        schema={"enum": list(RUNTIMES)},
        meaning="What isolates the sandbox: `gvisor`, or a virtual machine (`vm`). Left out, Modal chooses.",
        example='"vm"',
    ),
    "namespace": Key(
        read=_read_namespace,
        schema=_TEXT,
        meaning="Where the task runs: a name of `[modal_executor] namespaces`, which is a Modal environment and an App in it. "
        "Its Secrets and Volumes are those of that environment.",
        example='"ml"',
    ),
    "conn_id": Key(
        read=_read_conn_id,
        schema=_TEXT,
        meaning="Airflow connection whose Modal account the task runs in: a name of `[modal_executor] modal_conn_ids`. Its "
        "Secrets and Volumes are those of that account.",
        example='"modal_ml"',
    ),
    "backend": Key(
        read=_read_backend,
        schema={"enum": list(BACKENDS)},
        meaning="What the task becomes: a `sandbox`, a call of a deployed `function`, or `auto`: a Function where one can do it. "
        "This version plans calls of Functions and refuses to make them.",
        example='"sandbox", "auto"',
    ),
    "disk": Key(
        read=quantities.read_disk,
        schema=_QUANTITY,
        meaning="Disk: MiB as an int, or text with a unit. Every container has 512 GiB; more, only a Function deployed with it.",
        example='"1Ti"',
    ),
    "gpu_wait": Key(
        read=_read_gpu_wait,
        schema=_DURATION,
        meaning="How long the task waits for GPU capacity, over all its candidates together.",
        example='300, "5m"',
    ),
    "merge": Key(
        read=read_merge,
        schema={"enum": list(MERGES)},
        meaning="How the pods of this task meet: by KubernetesExecutor's rule, or as `kubectl patch` merges.",
        example='"strategic"',
    ),
    "execution_timeout": Key(
        read=_read_execution_timeout,
        schema=_DURATION,
        meaning="The task's own `execution_timeout` in seconds, written by modalflow while the DAG is parsed; the sandbox lives "
        "ten minutes longer. Counts only where no task or template sets `timeout`.",
        example="3600",
    ),
}
"""Every ``modal`` key, in the order the reference shows them."""

SYNONYMS: Mapping[str, str] = {
    "accelerator": "gpu",
    "gpu_type": "gpu",
    "cpus": "cpu",
    "cores": "cpu",
    "mem": "memory",
    "ram": "memory",
    "env_vars": "env",
    "environment": "env",
    "regions": "region",
    "working_dir": "workdir",
    "workingDir": "workdir",
    "command": "entrypoint",
    "labels": "tags",
    "annotations": "tags",
    "pod_template_file": "template",
    "extends": "template",
}
"""Names from other tools that no spelling distance would find."""
