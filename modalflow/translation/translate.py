"""The entry: one task's ``executor_config`` in, a plan or the reasons against one out.

``layers`` gathers, ``merge`` folds, ``resolve`` decides, ``lower`` writes the plan. Pure and total: whatever a DAG author wrote,
the scheduler gets a ``Translation`` and no exception. ``cache`` keeps what ``prepare`` returns for the next task with the same
config; ``launch`` runs what comes out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modalflow.translation.allowances import judge
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.functions.lower import lower_to_target, setup_places
from modalflow.translation.functions.plan import Plan
from modalflow.translation.gpus.resolve import OVERRULED_BY, overruled
from modalflow.translation.hooks.site import apply_pod_hook, apply_task_hook
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.layers import CONFIG, KUBERNETES, OPTIONS, TASK_LAYERS, Gathering, Layer, is_too_large
from modalflow.translation.merge import Setting, merge, read_native, read_options
from modalflow.translation.pods.annotations import above_their_pod, read_annotations
from modalflow.translation.pods.fields import PodReader
from modalflow.translation.pods.form import read_pod_form
from modalflow.translation.pods.layers import gpu_with_source, is_strategic, merged_pod, report_overruled_image, with_sources
from modalflow.translation.pods.merge import Piece, PodPieces, reconcile, take_apart
from modalflow.translation.pods.strategic import MergedRoot
from modalflow.translation.report import Place, kind_of
from modalflow.translation.resolve import resolve
from modalflow.translation.result import LazyOrigins, Translation
from modalflow.translation.serialisable import check_serialisable
from modalflow.translation.spec import TaskSpec

log = logging.getLogger(__name__)

DEPENDS_ON_HOST = frozenset({"gpu-without-model", "template-not-found"})
"""Errors of an executor_config that the scheduler, with its own options and files, may not see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prepared:
    """What translation knows of a task before it looks at the launch: the same for every task with this config and queue.

    ``refused``: there are errors among ``findings``; ``spec`` is then what could be read, to be searched for further ones.
    ``has_pod``: a pod is among the layers. Never changed once made, so that tasks can share one.
    """

    spec: TaskSpec | None
    refused: bool
    places: Mapping[str, Place]
    findings: tuple[Diagnostic, ...]
    has_pod: bool = False


def translate(
    executor_config: object, *, context: TaskContext, options: TranslationOptions, templates: TemplateSource
) -> Translation:
    """Translate one task. Never raises and changes none of its arguments; ``plan`` is ``None`` exactly when there are errors."""
    prepared = prepare(executor_config, queue=context.queue, options=options, templates=templates, task=context.task)
    return finish(prepared, context, options)


def prepare(
    executor_config: object,
    *,
    queue: str,
    options: TranslationOptions,
    templates: TemplateSource,
    task: TaskFacts | None = None,
) -> Prepared:
    """Do the part of ``translate`` that does not depend on the launch. Never raises.

    With ``task``, the site's ``pods.hook`` is asked too, and what comes out is this task's alone.
    """
    findings: list[Diagnostic] = []
    layers: list[Layer] | None = None
    try:
        layers = read_layers(executor_config, queue, options, templates, findings)
        spec, places = (None, {}) if layers is None else settle(layers, options, findings, templates, task)
    except BaseException as error:  # The scheduler's loop is above us, and user objects can raise anything.
        _report_raised(error, findings)
        spec, places = None, {}
    refused = any(d.severity is Severity.ERROR for d in findings)
    has_pod = layers is not None and any(layer.is_pod for layer in layers)
    # A template that two layers extend says everything twice.
    return Prepared(spec=spec, refused=refused, places=places, findings=tuple(dict.fromkeys(findings)), has_pod=has_pod)


def _report_raised(error: BaseException, findings: list[Diagnostic]) -> None:
    """Report what a user's object raised; must be called while it is handled."""
    if is_of_the_process(error):
        raise error
    log.warning("An executor_config could not be read", exc_info=error)
    Place(CONFIG, (), findings).error("untranslatable", f"reading it raised {type(error).__name__}", "write plain data")


def finish(prepared: Prepared, context: TaskContext, options: TranslationOptions) -> Translation:
    """Do the rest of ``translate``: this launch's own variables, mounts and tags. Leaves ``prepared`` alone."""
    spec, places = prepared.spec, prepared.places
    findings: list[Diagnostic] = []
    if options.task_hook is not None and spec is not None and context.task is not None and not prepared.refused:
        spec, places = apply_task_hook(spec, places, context.task, options, findings)
    plan = None
    try:
        if spec is not None:
            plan = lower_to_target(spec, context, options, places, findings)
    except BaseException as error:  # a text of a user's own class, for one, compares as it likes
        _report_raised(error, findings)
    refused = prepared.refused or (bool(findings) and any(d.severity is Severity.ERROR for d in findings))
    return Translation(
        plan=None if refused else plan,
        diagnostics=(*prepared.findings, *findings) if findings else prepared.findings,
        origins=LazyOrigins(places, lambda name: places[name].origin),
    )


def read_layers(
    config: object, queue: str, options: TranslationOptions, templates: TemplateSource, findings: list[Diagnostic]
) -> list[Layer] | None:
    """Return the layers of a task, weakest first, or ``None`` if the config is none at all. May raise what user objects raise."""
    if config is None:
        config = {}
    if not isinstance(config, Mapping):
        place = Place(CONFIG, (), findings)
        place.error("bad-config", f"expected a dict, got {kind_of(config)}", 'write e.g. {"modal": {"gpu": "A10G"}}')
        return None
    if is_too_large(config, findings):
        return None
    return Gathering(templates, findings).gather(config, queue, options)


def draft(
    layers: Sequence[Layer],
    context: TaskContext,
    options: TranslationOptions,
    findings: list[Diagnostic],
    templates: TemplateSource | None = None,
) -> tuple[Plan, dict[str, Place]]:
    """Return the plan that ``layers`` lead to, to be run only if ``findings`` holds no error, and who set each field of it."""
    spec, places = settle(layers, options, findings, templates, context.task)
    return lower_to_target(spec, context, options, places, findings), places


def settle(
    layers: Sequence[Layer],
    options: TranslationOptions,
    findings: list[Diagnostic],
    templates: TemplateSource | None = None,
    task: TaskFacts | None = None,
) -> tuple[TaskSpec, dict[str, Place]]:
    """Return what ``layers`` ask for, before anything of one launch, and who set each field of the plan to be.

    ``templates`` finds the files of ConfigMaps.
    """
    first = _first_rank(layers)
    settings, pod, pod_rank, merged = _read(layers, first, options, findings)
    if pod is not None and options.kubernetes is not None and options.kubernetes.namespace is not None:
        pod.metadata.setdefault("namespace", Piece(options.kubernetes.namespace, KUBERNETES, first, ("namespace",)))
    if pod is not None and options.pod_hook is not None and task is not None:
        # Right below the modal keys of the task, the last of the layers.
        pod_rank = first + len(layers) - 2
        pod = apply_pod_hook(options.pod_hook, pod, task, pod_rank, findings)
    settings += _annotated(pod, merged, findings)
    native_secrets = frozenset(name for setting in settings if setting.key == "secrets" for name in setting.value)
    oidc = max((setting for setting in settings if setting.key == "oidc"), key=lambda setting: setting.rank, default=None)
    reader = PodReader(findings, options, templates, native_secrets, identity=bool(oidc and oidc.value))
    if pod is not None:
        before = len(findings)
        reader.read(pod)
        _tell_overruled(settings, pod_rank, findings, before)
        settings += reader.settings if merged is None else with_sources(reader.settings, merged[1])
    pod_gpu = reader.gpu if merged is None else gpu_with_source(reader.gpu, merged[1])
    spec, places = resolve(merge(settings), pod_gpu, options, findings, reader.setup)
    if options.kubernetes is not None and options.kubernetes.image is not None:
        report_overruled_image(layers, options.kubernetes.image, spec.image, places.get("image"))
    if pod is not None and spec.backend != "sandbox":
        places |= setup_places(reader.setup, pod, findings)
    judge(findings, options)
    return spec, places


def _first_rank(layers: Sequence[Layer]) -> int:
    """Return the weakest rank: below 0 where ``[kubernetes_executor]`` says something, so that options keep theirs."""
    return -1 if layers and layers[0].root is KUBERNETES else 0


def _read(
    layers: Sequence[Layer], first: int, options: TranslationOptions, findings: list[Diagnostic]
) -> tuple[list[Setting], PodPieces | None, int, tuple[PodPieces, MergedRoot] | None]:
    """Return what the native layers set, the pod of the others with its rank, and that pod if strategic merge made it."""
    settings: list[Setting] = []
    pod: PodPieces | None = None
    pod_rank = -1
    strategic: list[tuple[int, Layer]] | None = [] if is_strategic(layers, options.merge) else None
    for rank, layer in enumerate(layers, first):
        if layer.root is OPTIONS:
            settings += read_options(layer, rank, findings)
        elif not layer.is_pod:
            settings += read_native(layer, rank, findings)
        elif strategic is not None:
            strategic.append((rank, layer))
        elif (plain := read_pod_form(layer.content, Place(layer.root, (), findings))) is not None:
            pieces = take_apart(plain, layer.root, rank, findings)
            pod = pieces if pod is None else reconcile(pod, pieces, findings)
            pod_rank = rank
    merged = merged_pod(strategic, findings) if strategic else None
    if strategic and merged is not None:
        pod, pod_rank = merged[0], strategic[-1][0]
    return settings, pod, pod_rank, merged


def _tell_overruled(settings: Sequence[Setting], pod_rank: int, findings: list[Diagnostic], before: int) -> None:
    """Mend what the pod was told of GPUs and regions, where a stronger ``gpu`` or ``region`` key decides anyway."""
    if len(findings) == before:
        return
    for key, codes in OVERRULED_BY.items():
        strong = next((setting for setting in reversed(settings) if setting.key == key), None)
        if strong is not None and strong.rank > pod_rank:
            findings[before:] = [overruled(found, strong.place, key, codes) for found in findings[before:]]


def _annotated(pod: PodPieces | None, merged: tuple[PodPieces, MergedRoot] | None, findings: list[Diagnostic]) -> list[Setting]:
    """Return what a pod's annotations set; ``merged`` is the pod where strategic merge made it."""
    if pod is None or not pod.annotations:
        return []
    own = read_annotations(pod.annotations, findings)
    return above_their_pod(own if merged is None else with_sources(own, merged[1]))


def check_executor_config(
    executor_config: object, *, queue: str, options: TranslationOptions, templates: TemplateSource
) -> tuple[Diagnostic, ...]:
    """Return the errors that a DAG author can be told of while the DAG is parsed.

    These are the errors of the ``executor_config`` itself, not of options and templates (which may differ where the scheduler
    runs), and the values that storing the DAG would turn into text. Never raises.
    """
    findings = check_serialisable(executor_config)
    known = {d.origin.path for d in findings}
    result = translate(executor_config, context=TaskContext(queue=queue), options=options, templates=templates)
    own = (d for d in result.errors if d.origin.layer in TASK_LAYERS and d.code not in DEPENDS_ON_HOST)
    return (*findings, *(d for d in own if not any(d.origin.path.startswith(path) for path in known)))
