"""A translation as rows that people read: each field of the launch, its value, and who decided it.

In: ``Translation``, and for what it overrode its ``history``. Out: rows for the ``explain`` and ``translate`` commands. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from modalflow.executor.summary import OURS, UNSET, cpu_text, decided_by, gpu_text, image_text, memory_text
from modalflow.translation.functions.plan import FunctionPlan, Plan, candidates_in_words
from modalflow.translation.gpus.catalogue import PRICES_OF
from modalflow.translation.history import Step
from modalflow.translation.plan import Bucket, SandboxPlan, VolumePlan
from modalflow.translation.prices import Price, prices_of
from modalflow.translation.result import Translation
from modalflow.translation.setup_plan import VARIABLE, SetupPlan

ORIGINS = {"gpu": "gpu_candidates", "entrypoint": "image.entrypoint", "registry_secret": "image.registry_secret"}
"""Rows with another name than the plan field that origins know."""

MERGE_RULES = {
    "kubernetes_executor": "pods meet by KubernetesExecutor's rule",
    "strategic": "pods meet as kubectl patch merges them",
}
MERGE_DEFAULT = "[modal_executor] merge"
TAKEN_OUT = "(taken out)"
"""The value of an entry that a weaker layer has and a stronger one removed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Weaker:
    """A value that would hold without the stronger layers."""

    value: str
    decided_by: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One field: name, value as text, and the origin as text. ``overrode`` are weaker values, the strongest first."""

    field: str
    value: str
    decided_by: str
    overrode: tuple[Weaker, ...] = ()


def rows_of(translation: Translation) -> list[Row]:
    """Rows of the plan, in the order people ask; empty if the task is refused."""
    plan = translation.plan
    if plan is None:
        return []
    parts = (_of_function(plan),) if isinstance(plan, FunctionPlan) else (_hardware(plan), _placement(plan), _contents(plan))
    return [_row(translation, field, value, without) for part in parts for field, value, without in part]


def rows_with_history(translation: Translation, steps: Sequence[Step]) -> list[Row]:
    """Rows of the plan, each with the values that it overrode; entries that a layer took out come last."""
    rows = rows_of(translation)
    if not rows:
        return []
    seen: dict[str, list[Weaker]] = {}
    removed: dict[str, str] = {}
    for step in steps:
        there = {row.field: row for row in rows_of(step.translation)}
        for field in seen:
            if field in there:
                removed.pop(field, None)
            else:
                removed.setdefault(field, step.layer)
        for row in there.values():
            if row.field in _entry_origins(step.translation):
                chain = seen.setdefault(row.field, [])
                value = Weaker(value=row.value, decided_by=row.decided_by)
                if value not in chain:
                    chain.append(value)
    if steps and (merge := steps[-1].merge) is not None:
        rows.append(Row(field="merge", value=MERGE_RULES.get(merge.rule, merge.rule), decided_by=merge.layer or MERGE_DEFAULT))
    told = {row.field for row in rows}
    gone = [Row(field=field, value=TAKEN_OUT, decided_by=layer) for field, layer in removed.items() if field not in told]
    return [replace(row, overrode=_weaker(row, seen.get(row.field, []))) for row in (*rows, *gone)]


def _entry_origins(translation: Translation) -> set[str]:
    """Names of the rows that somebody decided."""
    names = {plan_field: row for row, plan_field in ORIGINS.items()}
    return {names.get(name, name) for name in translation.origins}


def _weaker(row: Row, chain: Sequence[Weaker]) -> tuple[Weaker, ...]:
    """The chain without what the row says itself, the strongest first."""
    return tuple(weaker for weaker in reversed(chain) if weaker.decided_by != row.decided_by)


def price_text(price: Price) -> str:
    """``H100: 4.21 USD an hour (GPU 3.95, CPU 0.14, memory 0.12)``, with the region's multiplier if there is one."""
    parts = [f"CPU {price.cpu_usd:.3f}", f"memory {price.memory_usd:.3f}"]
    if price.gpu is not None:
        parts.insert(0, f"GPU {price.gpu_usd:.2f}")
    times = "" if price.multiplier == 1 else f", times {price.multiplier:g} for the region"
    return f"{price.gpu or 'no GPU'}: {price.total:.3f} USD an hour ({', '.join(parts)}{times})"


def price_data(plan: Plan) -> dict[str, object]:
    """The prices of all candidates as plain data, USD an hour, four decimals."""
    candidates = [
        {
            "gpu": price.gpu,
            "total": round(price.total, 4),
            "gpu_usd": round(price.gpu_usd, 4),
            "cpu_usd": round(price.cpu_usd, 4),
            "memory_usd": round(price.memory_usd, 4),
            "multiplier": price.multiplier,
        }
        for price in prices_of(plan)
    ]
    return {"prices_of": PRICES_OF, "usd_an_hour": candidates}


def _row(translation: Translation, field: str, value: str, without: str) -> Row:
    return Row(field=field, value=value, decided_by=decided_by(translation, ORIGINS.get(field, field), without))


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
    if plan.candidate_regions:
        yield "region", "; ".join(candidates_in_words(plan)), OURS
    elif plan.region:
        yield "region", ", ".join(plan.region), OURS
    if plan.cloud:
        yield "cloud", plan.cloud, OURS


def _home(plan: SandboxPlan) -> Iterator[_Field]:
    told = (
        ("runtime", plan.runtime),
        ("namespace", plan.namespace),
        ("home.conn_id", plan.home.conn_id),
        ("home.environment", plan.home.environment),
        ("home.app", plan.home.app),
    )
    yield from ((name, value, OURS) for name, value in told if value is not None)


def _contents(plan: SandboxPlan) -> Iterator[_Field]:
    yield "image", image_text(plan.image), OURS
    image = plan.image
    for name, words in (
        ("context", () if image.context is None else (image.context,)),
        ("apt_packages", image.apt_packages),
        ("requirements", image.requirements),
        ("pip_options", image.pip_options),
        ("build_secrets", image.build_secrets),
    ):
        if words:
            yield f"image.{name}", ", ".join(words), OURS
    if plan.image.force_build:
        yield "image.force_build", "pulled and built anew for each launch", OURS
    if plan.image.registry_secret is not None:
        yield "registry_secret", plan.image.registry_secret, OURS
    if plan.image.entrypoint is not None:
        yield "entrypoint", " ".join(plan.image.entrypoint) or "none", OURS
    if plan.workdir:
        yield "workdir", plan.workdir, OURS
    yield from _home(plan)
    if plan.oidc:
        yield "oidc", "a token of its identity in MODAL_IDENTITY_TOKEN", OURS
    if plan.keep_on_failure:
        yield "keep_on_failure", f"{plan.keep_on_failure} s for debugging if the task fails", OURS
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
    yield from _setup_around(setup)


def _setup_around(setup: SetupPlan) -> Iterator[_Field]:
    """What runs before the task, how it ends, and as whom."""
    for clone in setup.clones:
        yield f"setup.clone.{clone.path}", f"{clone.repository} {clone.revision}".rstrip(), OURS
    for run in setup.runs:
        yield f"setup.init.{run.name}", " ".join(map(str, run.argv)), OURS
    if setup.post_start is not None:
        yield "setup.post_start", str(setup.post_start), OURS
    if setup.grace is not None:
        hook = f"{setup.grace.pre_stop}, then " if setup.grace.pre_stop else ""
        told = f"{hook}{setup.grace.signal}, within {setup.grace.seconds} s" if setup.grace.seconds else "at once"
        yield "setup.grace", told, OURS
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
