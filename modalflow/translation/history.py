"""How a task's plan came about: what would hold with the weakest layer alone, with the second on top of it, and so on.

In: the arguments of ``translate``. Out: one ``Step`` for each layer, weakest first, then one for each of the site's hooks that
is called. The last is what ``translate`` returns; the ones before tell what it overrode. For ``explain``: it translates once for
each step, and the scheduler never calls it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.functions.plan import Plan
from modalflow.translation.hooks.task import HOOK
from modalflow.translation.inputs import TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.layers import Layer
from modalflow.translation.pods.hook import POD_HOOK
from modalflow.translation.pods.layers import merge_rule
from modalflow.translation.report import Place
from modalflow.translation.result import LazyOrigins, Translation
from modalflow.translation.translate import draft, read_layers, translate


@dataclass(frozen=True, kw_only=True, slots=True)
class MergeRule:
    """How the pods of a task meet, and the layer that says so, ``None`` for the default of all tasks."""

    rule: str
    layer: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What holds once ``layer`` is added; mistakes of its values are not in here, ``translate`` reports them.

    ``merge`` is the rule by which the pods up to here meet, ``None`` while there are fewer than two.
    """

    layer: str
    translation: Translation
    merge: MergeRule | None = None


def history(
    executor_config: object, *, context: TaskContext, options: TranslationOptions, templates: TemplateSource
) -> tuple[Step, ...]:
    """Return the steps; none for a config that cannot be read. Never raises."""
    findings: list[Diagnostic] = []
    before_hooks = replace(context, task=None)
    try:
        layers = read_layers(executor_config, context.queue, options, templates, findings) or []
        steps = [
            _step(layers[:end], layers[end - 1].root.layer, before_hooks, options, findings, templates)
            for end in range(1, len(layers) + 1)
        ]
        if layers:
            steps += _hooked(executor_config, layers, context, options, templates)
    except BaseException as error:  # user objects can raise anything, and translate has reported it
        if is_of_the_process(error):
            raise
        return ()
    return tuple(steps)


def _step(
    layers: Sequence[Layer],
    name: str,
    context: TaskContext,
    options: TranslationOptions,
    findings: list[Diagnostic],
    templates: TemplateSource,
) -> Step:
    plan, places = draft(layers, context, options, findings, templates)
    return Step(layer=name, translation=_translation(plan, places), merge=_merge(layers, options))


def _translation(plan: Plan, places: Mapping[str, Place]) -> Translation:
    return Translation(plan=plan, origins=LazyOrigins(places, lambda name: places[name].origin))


def _merge(layers: Sequence[Layer], options: TranslationOptions) -> MergeRule | None:
    pods = [layer for layer in layers if layer.is_pod]
    if not pods[1:]:
        return None
    rule, chosen_by = merge_rule(layers, options.merge)
    return MergeRule(rule=rule, layer=None if chosen_by is None else chosen_by.root.layer)


def _hooked(
    config: object, layers: Sequence[Layer], context: TaskContext, options: TranslationOptions, templates: TemplateSource
) -> Iterator[Step]:
    """Yield what the site's hooks make of the task, as far as they leave it one that can run."""
    if context.task is None:
        return
    if options.pod_hook is not None and any(layer.is_pod for layer in layers):
        yield _step(layers, POD_HOOK.layer, context, options, [], templates)
    if options.task_hook is not None:
        found = translate(config, context=context, options=options, templates=templates)
        if found.plan is not None:
            yield Step(layer=HOOK.layer, translation=found, merge=_merge(layers, options))
