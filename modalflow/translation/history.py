"""How a task's plan came about: what would hold with the weakest layer alone, with the second on top of it, and so on.

In: the arguments of ``translate``. Out: one ``Step`` for each layer, weakest first. The last is what ``translate`` returns; the
ones before tell what it overrode. For ``explain``: it translates once for each layer, and the scheduler never calls it.
"""

from __future__ import annotations

from dataclasses import dataclass

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.result import LazyOrigins, Translation
from modalflow.translation.translate import draft, read_layers


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What holds once ``layer`` is added; mistakes of its values are not in here, ``translate`` reports them."""

    layer: str
    translation: Translation


def history(
    executor_config: object, *, context: TaskContext, options: TranslationOptions, templates: TemplateSource
) -> tuple[Step, ...]:
    """Return the steps; none for a config that cannot be read. Never raises."""
    findings: list[Diagnostic] = []
    steps: list[Step] = []
    try:
        layers = read_layers(executor_config, context.queue, options, templates, findings) or []
        for end, layer in enumerate(layers, start=1):
            plan, places = draft(layers[:end], context, options, findings, templates)
            origins = LazyOrigins(places, lambda name, places=places: places[name].origin)  # type: ignore[misc]
            steps.append(Step(layer=layer.root.layer, translation=Translation(plan=plan, origins=origins)))
    except Exception:  # user objects can raise anything, and translate has reported it
        return ()
    return tuple(steps)
