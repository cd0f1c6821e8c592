"""A translation as rows that people read: each field of the launch, its value, and who decided it.

In: ``Translation``. Out: rows for ``command_explain``, as a table or as JSON. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

from modalflow.executor.summary import OURS, UNSET, cpu_text, decided_by, gpu_text, image_text, memory_text
from modalflow.translation.function_plan import FunctionPlan, Plan
from modalflow.translation.plan import Bucket, SandboxPlan, VolumePlan
from modalflow.translation.result import Translation
from modalflow.translation.setup_plan import VARIABLE, SetupPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One field: name, value as text, and the origin as text."""

    field: str
    value: str
    decided_by: str


def rows_of(translation: Translation) -> list[Row]:
    """Rows of the plan, in the order people ask; empty if the task is refused."""
    plan = translation.plan
    if plan is None:
        return []
    parts = (_of_function(plan),) if isinstance(plan, FunctionPlan) else (_hardware(plan), _placement(plan), _contents(plan))
    return [_row(translation, field, value, without) for part in parts for field, value, without in part]


def as_json(translation: Translation, *, dag_id: str, task_id: str) -> dict[str, object]:
    """The same as plain data."""
    return {
        "dag_id": dag_id,
        "task_id": task_id,
        "runs": not translation.errors,
        "fields": [asdict(row) for row in rows_of(translation)],
        "diagnostics": [
            {"severity": str(found.severity), "code": found.code, "text": str(found)} for found in translation.diagnostics
        ],
    }


def _row(translation: Translation, field: str, value: str, without: str) -> Row:
    name = "gpu_candidates" if field == "gpu" else field
    return Row(field=field, value=value, decided_by=decided_by(translation, name, without))


_Field = tuple[str, str, str]
"""Name, value, and who decided it where nobody did."""


def _of_function(plan: FunctionPlan) -> Iterator[_Field]:
    """First what ``with_options`` gets and with it the pools of containers that may serve the call, then the call's own."""
    yield "backend", plan.backend, OURS
    yield "function", f"{plan.app}/{plan.function}", "[modal_executor] functions"
    yield "image", f"{image_text(plan.image)}, as deployed", OURS
    yield from _resources(plan)
    yield from _placement(plan)
    yield from _mounted(plan)
    for key in plan.pool_keys:
        yield "pool", key, OURS
    yield from _environment(plan)
    for name, value in plan.tags.items():
        yield f"tags.{name}", value, OURS


def _hardware(plan: SandboxPlan) -> Iterator[_Field]:
    yield "backend", plan.backend, "GPU tasks are V1 sandboxes, others V2"
    yield from _resources(plan)


def _resources(plan: Plan) -> Iterator[_Field]:
    yield "gpu", gpu_text(plan.gpu_candidates), UNSET
    if plan.gpu_candidates:
        yield "gpu_wait", f"{plan.gpu_wait:g} s over all candidates", OURS
    yield "cpu", cpu_text(plan.cpu), UNSET
    yield "memory", memory_text(plan.memory), UNSET
    yield "timeout", f"{plan.timeout} s", OURS


def _placement(plan: Plan) -> Iterator[_Field]:
    if plan.region:
        yield "region", ", ".join(plan.region), OURS
    if plan.cloud:
        yield "cloud", plan.cloud, OURS


def _contents(plan: SandboxPlan) -> Iterator[_Field]:
    yield "image", image_text(plan.image), OURS
    if plan.image.entrypoint is not None:
        yield "entrypoint", " ".join(plan.image.entrypoint) or "none", OURS
    if plan.workdir:
        yield "workdir", plan.workdir, OURS
    if plan.oidc:
        yield "oidc", "a token of its identity in MODAL_IDENTITY_TOKEN", OURS
    yield from _environment(plan)
    yield from _mounted(plan)
    for name, value in plan.tags.items():
        yield f"tags.{name}", value, OURS


def _environment(plan: Plan) -> Iterator[_Field]:
    for name, value in plan.env.items():
        if name != VARIABLE:
            yield f"env.{name}", value, OURS
    yield from _setup(plan.setup)


def _mounted(plan: Plan) -> Iterator[_Field]:
    for secret in plan.secrets:
        keys = f"; must have {', '.join(secret.required_keys)}" if secret.required_keys else ""
        yield f"secrets.{secret.name}", f"its variables{keys}", OURS
    for volume in plan.volumes:
        yield f"volumes.{volume.mount_path}", _volume(volume), OURS
    for mounted in plan.buckets:
        yield f"buckets.{mounted.mount_path}", bucket_text(mounted.bucket), OURS


def _setup(setup: SetupPlan) -> Iterator[_Field]:
    """What the sandbox does before Airflow starts; ``$(NAME)`` stands for a variable that a Modal Secret gives."""
    for name, text in setup.exports.items():
        yield f"env.{name}", f"{text}, put together in the sandbox", OURS
    if setup.remove:
        yield "setup.remove", ", ".join(setup.remove), OURS
    for folder in setup.folders:
        yield f"setup.folder.{folder.path}", "in memory" if folder.memory else "on disk", OURS
    for path, target in setup.links:
        yield f"setup.link.{path}", f"to {target}", OURS
    for file in setup.files:
        yield f"setup.file.{file.path}", f"mode {file.mode:04o}", OURS
    for address, names in setup.hosts:
        yield f"setup.host.{address}", " ".join(names), OURS
    for run in setup.runs:
        yield f"setup.init.{run.name}", " ".join(map(str, run.argv)), OURS
    if setup.user is not None:
        yield "setup.user", ", ".join(f"{name} {value}" for name, value in setup.user.as_plain().items()), OURS


def bucket_text(bucket: Bucket) -> str:
    """``raw/2026/ at https://storage.googleapis.com, with the Secret gcs, read-only``."""
    parts = [f"{bucket.name}/{bucket.prefix or ''}{f' at {bucket.endpoint}' if bucket.endpoint else ''}"]
    if bucket.secret is not None:
        parts.append(f"with the Secret {bucket.secret.name}")
    if bucket.role_arn is not None:
        parts.append(f"as {bucket.role_arn}")
    flags = (("read-only", bucket.read_only), ("requester pays", bucket.requester_pays), ("path style", bucket.path_style))
    return ", ".join([*parts, *(name for name, is_set in flags if is_set)])


def _volume(volume: VolumePlan) -> str:
    folder = f"/{volume.sub_path}" if volume.sub_path else ""
    return f"{volume.name}{folder}{', read-only' if volume.read_only else ''}"
