"""Turns a resolved task into a call of a deployed Function, or says what a Function cannot give it.

Flows in: ``TaskSpec`` with ``backend`` ``function`` or ``auto``, and ``[modal_executor] functions``. Flows out: ``FunctionPlan``;
for ``auto``, the plan of a sandbox where a Function cannot give something, with a notice that names it. ``lower`` makes that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import NamedTuple

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.functions.plan import FunctionPlan, FunctionTarget, Plan
from modalflow.translation.functions.pools import cpu_class, memory_class, timeout_class
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.layers import CONFIG
from modalflow.translation.lower import candidate_regions, environment, image_plan, lower, mounts
from modalflow.translation.pods.merge import PodPieces
from modalflow.translation.report import Place, shown
from modalflow.translation.setup_plan import SetupPlan
from modalflow.translation.spec import TaskSpec
from modalflow.translation.tags import safe

VARIABLES_ONLY = frozenset({"exports", "remove", "hide"})
"""Parts of a set-up that a fork of a warm container can carry out; the others would change what the next task finds there."""

EXPRESSED = frozenset(
    {"image", "registry_secret", "entrypoint", "gpu", "gpu_wait", "cpu", "memory", "env", "secrets", "volumes", "timeout",
     "region", "cloud", "workdir", "tags", "setup", "backend", "disk", "oidc", "buckets", "home",
     "keep_on_failure"}
)  # fmt: skip
"""Fields that this module knows of. Every Function has an OIDC token (modal.com/docs/guide/oidc-integration, 2026-09)."""

SANDBOX = 'write {"modal": {"backend": "sandbox"}}'
NOT_CALLED = "this version plans calls of deployed Functions and does not make them yet"


class Obstacle(NamedTuple):
    """One thing that a Function cannot give. ``is_loss``: the task could run without it."""

    field: str
    reason: str
    hint: str = SANDBOX
    is_loss: bool = False


def lower_to_target(
    spec: TaskSpec, context: TaskContext, options: TranslationOptions, places: Mapping[str, Place], findings: list[Diagnostic]
) -> Plan:
    """Return the plan of the target that the task names, or that ``auto`` finds. As ``lower``, which it calls for sandboxes."""
    if spec.backend == "sandbox":
        return lower(spec, context, options, places, findings)
    if spec.backend == "auto":
        because = _against(spec, options, places)
        if because is not None:
            _at("backend", places, findings).notice("sandbox-chosen", f"becomes a sandbox: {because}")
            return lower(spec, context, options, places, findings)
    elif not options.calls_functions:
        hint = 'write "sandbox", or leave backend out'
        _at("backend", places, findings).error("function-not-callable", NOT_CALLED, hint)
    target = target_of(spec, options)
    for obstacle in obstacles(spec, target, options):
        place = _at(obstacle.field, places, findings)
        if obstacle.is_loss:
            place.warn("not-on-function", obstacle.reason, obstacle.hint)
        else:
            place.error("not-on-function", obstacle.reason, obstacle.hint)
    return _lower(spec, target or FunctionTarget(app="", function=""), context, options, places, findings)


def target_of(spec: TaskSpec, options: TranslationOptions) -> FunctionTarget | None:
    """Return the Function that was deployed with the task's image, the one with the least disk that is enough."""
    found = sorted((one for one in options.functions.values() if one.image == spec.image), key=lambda one: one.disk)
    return next((one for one in found if one.disk >= (spec.disk or 0)), found[-1] if found else None)


def obstacles(spec: TaskSpec, target: FunctionTarget | None, options: TranslationOptions) -> Iterator[Obstacle]:
    """Yield what no call of ``target`` can express, the gravest first."""
    if target is None:
        known = ", ".join(dict.fromkeys(one.image for one in options.functions.values())) or "none"
        yield Obstacle(
            "image",
            f"no Function of [modal_executor] functions was deployed with the image {shown(spec.image)}; deployed: {known}",
            f"deploy one and add it there, or {SANDBOX}",
        )
    elif spec.disk is not None and spec.disk > target.disk:
        hint = f"deploy one with ephemeral_disk={spec.disk} and add it to [modal_executor] functions"
        yield Obstacle("disk", f"the Function {target.function} has {target.disk} MiB of disk", hint)
    if spec.entrypoint is not None:
        yield Obstacle("entrypoint", "a Function starts as it was deployed, with no ENTRYPOINT of one task")
    if spec.workdir is not None:
        yield Obstacle("workdir", "a Function's working directory is that of its deployment")
    for name in KEPT_PARTS:
        if getattr(spec.setup, name):
            reason = _SETUP.get(name, f"{_STAYS}, and its {name} would stay for the next")
            yield Obstacle(f"setup.{name}", reason, is_loss=name == "grace")
    for name, unset in _FURTHER.items():
        if getattr(spec, name) != unset:
            yield Obstacle(name, f"{name} of a Function cannot be chosen for one task")
    yield from _losses(spec)


def _losses(spec: TaskSpec) -> Iterator[Obstacle]:
    if spec.keep_on_failure:
        yield Obstacle("keep_on_failure", f"{_STAYS}, and is not kept for one that failed", is_loss=True)
    for name in spec.tags:
        yield Obstacle(f"tags.{name}", "a call of a Function has no tags", "remove it", is_loss=True)


KEPT_PARTS = tuple(part.name for part in fields(SetupPlan) if part.name not in VARIABLES_ONLY)
_STAYS = "a Function's container serves one task after the other"
_SETUP = {
    "hosts": f"{_STAYS}, and its host names would stay for the next",
    "user": "a Function's tasks run as the user of its deployment",
    "post_start": "a Function's container runs before it has a task, so it has no postStart of one",
    "grace": "a call of a Function that is taken back ends at once, without a grace period",
    "clones": f"{_STAYS}, and its repositories would stay for the next",
    "runs": f"{_STAYS}, and what init containers leave would stay for the next",
}
_FURTHER = {part.name: part.default for part in fields(TaskSpec) if part.name not in EXPRESSED}
"""Fields that are new to this module, with what they are when nobody asks for anything."""


def _against(spec: TaskSpec, options: TranslationOptions, places: Mapping[str, Place]) -> str | None:
    """Return why ``auto`` is a sandbox, ``None`` if it is a Function."""
    if not options.calls_functions:
        return NOT_CALLED
    obstacle = next(obstacles(spec, target_of(spec, options), options), None)
    if obstacle is None:
        return None
    place = _find(obstacle.field, places)
    return obstacle.reason if place is None else f"{place.origin}: {obstacle.reason}"


_SPELLED = {"registry_secret": "image.registry_secret", "entrypoint": "image.entrypoint", "force_build": "image.force_build"}


def _find(field: str, places: Mapping[str, Place]) -> Place | None:
    return places.get(_SPELLED.get(field, field))


def _at(field: str, places: Mapping[str, Place], findings: list[Diagnostic]) -> Place:
    place = _find(field, places)
    return Place(CONFIG, (), findings) if place is None else place.into(findings)


def setup_places(setup: SetupPlan, pod: PodPieces, findings: list[Diagnostic]) -> dict[str, Place]:
    """Return where the pod asks for each part of its set-up: the field, else the pod's container."""
    container = pod.containers[0] if pod.containers else None
    mounted = next(iter(container.lists.get("volumeMounts", ())), None) if container else None
    asked = {
        "hosts": pod.spec.get("hostAliases"),
        "user": (container.fields.get("securityContext") if container else None) or pod.spec.get("securityContext"),
        "runs": pod.init_containers[0].whole if pod.init_containers else None,
        "post_start": container.fields.get("lifecycle") if container else None,
        "grace": pod.spec.get("terminationGracePeriodSeconds") or (container.fields.get("lifecycle") if container else None),
        **dict.fromkeys(("folders", "links", "files", "clones"), mounted),
    }
    somewhere = container.whole if container else next(iter(pod.spec.values()), None)
    pieces = {name: asked.get(name) or somewhere for name in KEPT_PARTS if getattr(setup, name)}
    return {f"setup.{name}": piece.place(findings) for name, piece in pieces.items() if piece is not None}


def _lower(
    spec: TaskSpec,
    target: FunctionTarget,
    context: TaskContext,
    options: TranslationOptions,
    places: Mapping[str, Place],
    findings: list[Diagnostic],
) -> FunctionPlan:
    env, setup = environment(spec, context, places, findings)
    volumes = mounts(spec, context, places, findings)
    own = tuple(volume for volume in context.volumes if volume.sub_path is not None)
    plan = FunctionPlan(
        app=target.app,
        function=target.function,
        image=image_plan(spec, options),
        gpu_candidates=tuple(choice.text for choice in spec.gpu),
        candidate_regions=tuple(tuple(sorted(set(regions))) for regions in candidate_regions(spec)),
        gpu_wait=spec.gpu_wait,
        cpu=cpu_class(spec.cpu),
        memory=memory_class(spec.memory),
        secrets=spec.secrets,
        volumes=tuple(sorted((volume for volume in volumes if volume not in own), key=lambda volume: volume.mount_path)),
        buckets=tuple(sorted(spec.buckets, key=lambda mounted: mounted.mount_path)),
        region=tuple(sorted(set(spec.region))),
        cloud=None if spec.cloud == "auto" else spec.cloud,
        longest=timeout_class(spec.timeout),
        env=env,
        timeout=spec.timeout,
        tags={safe(name): safe(value) for name, value in context.tags.items()},
        own_volumes=own,
        setup=setup,
    )
    for name, asked, given, unit in (("cpu", spec.cpu, plan.cpu, "cores"), ("memory", spec.memory, plan.memory, "MiB")):
        if asked != given:
            message = f"{_number(asked)} becomes {_number(given)} {unit}, the next size that Functions share containers at"
            _at(name, places, findings).notice("raised-to-class", message)
    if spec.registry_secret is not None:
        _at("registry_secret", places, findings).notice(
            "unused-registry-secret", "a Function's image was pulled at its deployment"
        )
    return plan


def _number(value: object) -> str:
    return (
        " to ".join(f"{part:g}" for part in value) if isinstance(value, tuple) else f"{value:g}" if value is not None else "none"
    )
