"""Turns a resolved task into the parameters of one sandbox, adding what modalflow itself needs in it.

Flows in: ``TaskSpec``, the task's context, options. Flows out: ``SandboxPlan``, for ``launch`` and the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

from modalflow.translation import env
from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.functions.plan import DISK
from modalflow.translation.images import AUTO, NAMED
from modalflow.translation.inputs import TaskContext, TranslationOptions
from modalflow.translation.keeping import with_keep
from modalflow.translation.layers import CONFIG
from modalflow.translation.plan import ImagePlan, SandboxPlan, VolumePlan
from modalflow.translation.report import Place, shown
from modalflow.translation.setup_plan import LARGEST, NO_SETUP, VARIABLE, Ref, SetupPlan, Text
from modalflow.translation.spec import TaskSpec
from modalflow.translation.tags import GRACE_TAG, safe


def lower(
    spec: TaskSpec, context: TaskContext, options: TranslationOptions, places: Mapping[str, Place], findings: list[Diagnostic]
) -> SandboxPlan:
    """Return the plan. Collisions with modalflow's own variables, mounts and tags are reported at the user's place, into
    ``findings``: the places belong to every task that shares the spec."""
    env, setup = environment(spec, context, places, findings)
    if spec.image.startswith(NAMED):
        _check_image(spec.image, options, places, findings)
    if spec.disk is not None:
        _check_disk(spec.disk, places, findings)
    plan = SandboxPlan(
        image=image_plan(spec, options),
        gpu_candidates=tuple([choice.text for choice in spec.gpu]),
        candidate_regions=candidate_regions(spec) if spec.gpu else (),
        gpu_wait=spec.gpu_wait,
        cpu=spec.cpu,
        memory=spec.memory,
        env=env,
        secrets=spec.secrets,
        volumes=mounts(spec, context, places, findings),
        buckets=spec.buckets,
        timeout=spec.timeout,
        region=spec.region,
        cloud=spec.cloud,
        workdir=spec.workdir,
        oidc=spec.oidc,
        keep_on_failure=spec.keep_on_failure,
        tags={**spec.tags, **{safe(name): safe(value) for name, value in context.tags.items()}, **_grace_tag(setup)},
        runtime=spec.runtime,
        namespace=spec.namespace,
        home=spec.home,
        setup=setup,
    )
    return with_keep(plan) if plan.keep_on_failure else plan


def candidate_regions(spec: TaskSpec) -> tuple[tuple[str, ...], ...]:
    """Return the regions of each GPU candidate, if any has regions of its own."""
    regions = tuple([choice.regions for choice in spec.gpu])
    return regions if any(regions) else ()


def _grace_tag(setup: SetupPlan) -> dict[str, str]:
    """Have a later scheduler know how long this sandbox may take to end."""
    return {} if setup.grace is None else {GRACE_TAG: str(setup.grace.seconds)}


def environment(
    spec: TaskSpec, context: TaskContext, places: Mapping[str, Place], findings: list[Diagnostic]
) -> tuple[dict[str, str], SetupPlan]:
    """Return the variables of one launch, the one that carries its set-up among them, and the set-up."""
    plain, late = _env(spec, context, places, findings)
    setup = spec.setup
    if late or setup.remove or setup.files or setup.runs:
        setup = _setup(spec, late, context.tags)
        if setup.runs:
            setup = _with_runs(setup, plain, late, context.tags)
    if setup is not NO_SETUP and setup:
        plain[VARIABLE] = _written(setup, findings)
    return plain, setup


def _check_disk(disk: int, places: Mapping[str, Place], findings: list[Diagnostic]) -> None:
    place = places.get("disk") or Place(CONFIG, (), findings)
    if disk > DISK:
        place.into(findings).error("refused-field", "a sandbox's disk has at most 512 GiB", "use a Modal Volume")
    else:
        place.into(findings).notice("no-effect", "has no effect: a sandbox's disk has 512 GiB")


def _check_image(image: str, options: TranslationOptions, places: Mapping[str, Place], findings: list[Diagnostic]) -> None:
    """Refuse a name that nobody knows; here, because a hook may have said it."""
    name = image.removeprefix(NAMED)
    if name in options.images:
        return
    known = ", ".join(shown(f"{NAMED}{one}") for one in options.images) or "none"
    near = did_you_mean(name, [*options.images])
    place = places.get("image") or Place(CONFIG, ("modal", "image"), findings)
    place.into(findings).error(
        "unknown-image",
        f"{shown(image)} is not among the images of this Airflow; [modal_executor] images has: {known}",
        near or "add it there",
    )


def image_plan(spec: TaskSpec, options: TranslationOptions) -> ImagePlan:
    """Return the image of the task."""
    if spec.force_build:
        return replace(image_plan(replace(spec, force_build=False), options), force_build=True)
    if spec.image == AUTO:
        return options.auto_image if spec.entrypoint is None else replace(options.auto_image, entrypoint=spec.entrypoint)
    if spec.image.startswith(NAMED):
        named = options.images.get(spec.image.removeprefix(NAMED), options.auto_image)  # an unknown one is refused
        return named if spec.entrypoint is None else replace(named, entrypoint=spec.entrypoint)
    secret = spec.registry_secret or options.registry_secrets.get(spec.image.partition("/")[0])
    return _registry_image(spec.image, secret, spec.entrypoint)


@lru_cache(maxsize=256)
def _registry_image(reference: str, registry_secret: str | None, entrypoint: tuple[str, ...] | None) -> ImagePlan:
    return ImagePlan(reference=reference, registry_secret=registry_secret, entrypoint=entrypoint)


def _env(
    spec: TaskSpec, context: TaskContext, places: Mapping[str, Place], findings: list[Diagnostic]
) -> tuple[dict[str, str], dict[str, Text]]:
    """Return the variables that are known, and those that the sandbox puts together."""
    users: dict[str, str] = {}
    late: dict[str, Text] = {}
    for name, text in spec.env.items():
        if name not in context.env and not name.startswith(env.RESERVED):
            if isinstance(text, str):
                users[name] = text
            else:
                late[name] = text
        elif (place := places.get(f"env.{name}")) is not None:
            place.into(findings).warn("reserved-env", f"modalflow sets {name} itself; this value is not used", "remove it")
    return {**users, **context.env}, late


def _setup(spec: TaskSpec, late: Mapping[str, Text], tags: Mapping[str, str]) -> SetupPlan:
    """Return the set-up of this launch. A variable that a Secret gives under the wanted name needs none, and stays."""
    exports = {name: text.filled(tags) for name, text in late.items()}
    needed = {name: text for name, text in exports.items() if text.parts != (Ref(name),)}
    removed = tuple(name for name in spec.setup.remove if name not in exports and name not in spec.env)
    files = tuple(replace(file, text=file.text.filled(tags)) for file in spec.setup.files)
    return replace(spec.setup, exports=needed, remove=removed, files=files)


def _with_runs(setup: SetupPlan, plain: Mapping[str, str], late: Mapping[str, Text], tags: Mapping[str, str]) -> SetupPlan:
    """Fill in what init containers run, and hide from them what only the task is to see."""
    hide = tuple(dict.fromkeys((*setup.hide, *plain, *late)))
    return replace(setup, runs=tuple(run.filled(tags) for run in setup.runs), hide=hide)


def _written(setup: SetupPlan, findings: list[Diagnostic]) -> str:
    text = setup.as_json()
    if (size := len(text)) > LARGEST:
        Place(CONFIG, (), findings).error(
            "large-setup",
            f"variables and files of the pod come to {size} bytes; a sandbox can be given {LARGEST}",
            "put large files into the image or a Modal Volume",
        )
        return ""
    return text


def mounts(
    spec: TaskSpec, context: TaskContext, places: Mapping[str, Place], findings: list[Diagnostic]
) -> tuple[VolumePlan, ...]:
    """Return the Volumes of the task and modalflow's own, one at one path."""
    ours = {volume.name: volume.mount_path for volume in context.volumes}
    for volume in spec.volumes:
        place = places.get(f"volumes.{volume.mount_path}")
        if volume.name in ours and place is not None:
            place.into(findings).error(
                "volume-twice",
                f'the Volume "{volume.name}" is mounted at "{ours[volume.name]}" by modalflow; Modal mounts one at one path only',
            )
    return (*spec.volumes, *context.volumes)
