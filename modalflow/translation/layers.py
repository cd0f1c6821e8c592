"""Every place that says something about a task, weakest first, each with its origin.

Flows in: ``executor_config``, the options, the queue, a template source. Flows out: ``Layer``s, each native (``modal`` keys) or
a pod, not yet read. ``merge`` folds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, closest, did_you_mean
from modalflow.translation.inputs import KubernetesDefaults, LoadedTemplate, TemplateSource, TranslationOptions
from modalflow.translation.keys import KEYS, SYNONYMS
from modalflow.translation.pods.legacy import KEY as LEGACY
from modalflow.translation.pods.legacy import LAYER as LEGACY_LAYER
from modalflow.translation.pods.legacy import read_legacy
from modalflow.translation.report import Place, Root, kind_of, shown

BUILT_IN_RANK = 0
OPTIONS_RANK = 1
"""Ranks up to this one are the site's; a task or template is above it."""

BUILT_IN: Mapping[str, object] = {"image": "auto", "timeout": 86_400, "memory": 512}
"""What holds where nobody says anything. 512 MiB: an Airflow task process needs about 200 before user code."""

API_VERSION = "modalflow/v1"
MOST_TEMPLATES = 32
"""Bound on the templates that one template may extend, directly and indirectly."""

MOST_VALUES = 5_000
"""Bound on the values of one executor_config, each counted as often as it is referred to: none may hold up the scheduler."""

CONFIG = Root(layer="executor_config", prefix="executor_config", style="subscript")
MODAL = Root(layer='executor_config["modal"]', prefix='executor_config["modal"]', style="subscript")
POD_OVERRIDE = Root(layer="pod_override", prefix="pod_override", style="dotted")
OPTIONS = Root(layer="[modal_executor]", prefix="[modal_executor]", style="option")
DEFAULTS = Root(layer="built-in defaults", prefix="built-in default of", style="option")


@dataclass(frozen=True, kw_only=True, slots=True)
class _KubernetesRoot(Root):
    """Names the option that an image comes from."""

    def render(self, path: tuple[str | int, ...]) -> str:
        return Root.render(self, ("worker_container_repository", *path[1:]) if path[:1] == ("image",) else path)


KUBERNETES = _KubernetesRoot(layer="[kubernetes_executor]", prefix="[kubernetes_executor]", style="option")
TASK_LAYERS = frozenset({CONFIG.layer, MODAL.layer, POD_OVERRIDE.layer, LEGACY_LAYER})
"""The layers that are the ``executor_config`` itself."""

_KUBERNETES_KEYS = ("image", "pod_template_file", "namespace")
CONFIG_KEYS = ("modal", "pod_override", "pod_template_file")
_TEMPLATE_KEYS = ("apiVersion", "kind", "metadata", "extends", "spec")


@dataclass(frozen=True, kw_only=True, slots=True)
class Layer:
    """One source of settings. ``content`` is a dict of ``modal`` keys, or a pod: a dict or a ``V1Pod`` object."""

    root: Root
    content: object
    is_pod: bool = False


def is_too_large(config: Mapping[Any, object], findings: list[Diagnostic]) -> bool:
    """Report a config with more than ``MOST_VALUES`` values. One that holds itself has no end of them."""
    count = 0
    waiting: list[object] = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list, tuple)):
            count += len(value)
            if count > MOST_VALUES:
                message = f"more than {MOST_VALUES} values, or it holds itself"
                Place(CONFIG, (), findings).error("too-large", message, "move data into a file or a Volume")
                return True
            waiting.extend(value.values() if isinstance(value, dict) else value)
    return False


class Gathering:
    """Collects the layers of one task."""

    def __init__(self, templates: TemplateSource, findings: list[Diagnostic]) -> None:
        self.layers: list[Layer] = []
        self._templates = templates
        self._findings = findings

    def gather(self, config: Mapping[object, object], queue: str, options: TranslationOptions) -> list[Layer]:
        """Return all layers, weakest first."""
        for key in config:
            self._check_config_key(key)
        modal = self._modal(config)
        unset = {key: value for key, value in BUILT_IN.items() if options.task_keys.get(key) is None}
        self.layers += [Layer(root=DEFAULTS, content=unset), Layer(root=OPTIONS, content=options.task_keys)]
        site_file, site = options.pod_template_file, OPTIONS
        if options.kubernetes is not None:
            site_file, site = self._kubernetes(options.kubernetes, options)
        pod_file = config.get("pod_template_file")
        # As in KubernetesExecutor, a task's own pod template stands in for the site's, not on top of it.
        if pod_file is None:
            self._template(site_file, site, "pod_template_file", may_be_path=True)
        self._template(options.default_template, OPTIONS, "default_template")
        self._template(options.queue_templates.get(queue), OPTIONS, "queue_templates", queue)
        self._template(pod_file, CONFIG, "pod_template_file", may_be_path=True)
        self._template(modal.get("template"), MODAL, "template")
        override = config.get("pod_override")
        if override is not None:
            self.layers.append(Layer(root=POD_OVERRIDE, content=override, is_pod=True))
        if LEGACY in config:
            self._legacy(config[LEGACY], beside_override=override is not None)
        self.layers.append(Layer(root=MODAL, content=modal))
        return self.layers

    def _kubernetes(self, defaults: KubernetesDefaults, options: TranslationOptions) -> tuple[str | None, Root]:
        """Put what ``[kubernetes_executor]`` says below all layers, and return the site's pod template and who names it."""
        counts = replace(
            defaults,
            image=defaults.image if options.task_keys.get("image") is None else None,
            pod_template_file=defaults.pod_template_file if options.pod_template_file is None else None,
            namespace=defaults.namespace if defaults.namespace in options.namespaces else None,
        )
        if counts.image is not None:
            built_in = {key: value for key, value in BUILT_IN.items() if options.task_keys.get(key) is None and key != "image"}
            self.layers[0] = Layer(root=DEFAULTS, content=built_in)
        if counts.image is not None or counts.namespace is not None:
            self.layers.insert(0, Layer(root=KUBERNETES, content={"image": counts.image, "namespace": counts.namespace}))
        first = next((name for name in _KUBERNETES_KEYS if getattr(counts, name) is not None), None)
        if first is not None:
            place = Place(KUBERNETES, (first,), self._findings)
            place.notice("kubernetes-option", "read as the weakest default", f"write {counts.modern}")
        if counts.pod_template_file is not None:
            return counts.pod_template_file, KUBERNETES
        return options.pod_template_file, OPTIONS

    def _check_config_key(self, key: object) -> None:
        if key not in CONFIG_KEYS and key != LEGACY:
            Place(CONFIG, (_path_key(key),), self._findings).error("unknown-key", "unknown key", _config_key_hint(key))

    def _legacy(self, content: object, *, beside_override: bool) -> None:
        read = read_legacy(content, beside_override=beside_override, findings=self._findings)
        if read is not None:
            self.layers.append(Layer(root=read[0], content=read[1], is_pod=True))

    def _modal(self, config: Mapping[object, object]) -> dict[Any, object]:
        modal = config.get("modal")
        if isinstance(modal, dict):
            return modal
        if modal is not None:
            hint = f'write {{"modal": {{"gpu": {shown(modal)}}}}}' if isinstance(modal, str) and modal.strip() else ""
            Place(MODAL, (), self._findings).error(
                "bad-config", f'expected a dict such as {{"gpu": "A10G"}}, got {kind_of(modal)}', hint
            )
        return {}

    def _template(self, name: object, root: Root, *path: str, may_be_path: bool = False) -> None:
        """Append the layers of one template: those that it extends, then its own. ``path`` in ``root`` is who asked for it."""
        if name is not None:
            self._load(name, Place(root, path, self._findings), chain=(), seen=set(), may_be_path=may_be_path)

    def _load(self, name: object, asked_by: Place, *, chain: tuple[str, ...], seen: set[str], may_be_path: bool = False) -> None:
        if not isinstance(name, str) or not name:
            asked_by.error("bad-template", f"expected the name of a template, got {shown(name)}")
            return
        if name in chain:
            asked_by.error("template-cycle", f"templates extend each other: {' -> '.join((*chain, name))}")
            return
        if name in seen:
            return
        if len(seen) >= MOST_TEMPLATES:
            asked_by.error("too-many-templates", f"more than {MOST_TEMPLATES} templates extend each other")
            return
        seen.add(name)
        if name.startswith("/") and not may_be_path:
            asked_by.error("template-outside", f"expected the name of a template, got the path {shown(name)}", "write its name")
            return
        loaded = self._templates.load(name, asked_by=asked_by.origin)
        if isinstance(loaded, Diagnostic):
            self._findings.append(loaded)
            return
        self._append(loaded, chain=(*chain, name), seen=seen)

    def _append(self, loaded: LoadedTemplate, *, chain: tuple[str, ...], seen: set[str]) -> None:
        layer = f"template {loaded.name}"
        prefix = Root(layer="", prefix="", style="dotted").render(loaded.at)
        whole = Root(layer=layer, prefix=prefix, style="dotted", file=loaded.file, lines=loaded.lines, lines_at=loaded.at)
        document = loaded.document
        kind = document.get("kind")
        if kind == "Pod":
            self.layers.append(Layer(root=whole, content=document, is_pod=True))
        elif kind == "ModalTask":
            self._check_task_template(document, Place(whole, (), self._findings))
            extends = document.get("extends")
            names = extends if isinstance(extends, list) else [] if extends is None else [extends]
            for index, name in enumerate(names):
                path: tuple[str | int, ...] = ("extends", index) if isinstance(extends, list) else ("extends",)
                self._load(name, Place(whole, path, self._findings), chain=chain, seen=seen)
            spec = document.get("spec")
            if isinstance(spec, dict):
                root = Root(layer=layer, prefix="spec", style="dotted", file=loaded.file, lines=loaded.lines, lines_at=("spec",))
                self.layers.append(Layer(root=root, content=spec))
        else:
            got = "no kind" if kind is None else f"the kind {shown(kind)}"
            Place(whole, ("kind",), self._findings).error("bad-template", f"expected kind: ModalTask or kind: Pod, got {got}")

    def _check_task_template(self, document: Mapping[Any, object], place: Place) -> None:
        version = document.get("apiVersion")
        if version != API_VERSION:
            place.at("apiVersion").error("bad-template", f"expected apiVersion: {API_VERSION}, got {shown(version)}")
        for key in document:
            if key not in _TEMPLATE_KEYS:
                hint = did_you_mean(key, _TEMPLATE_KEYS) if isinstance(key, str) else ""
                if key in KEYS:
                    hint = f"write {key} under spec"
                place.at(_path_key(key)).error("unknown-key", "unknown key", hint or f"known: {', '.join(_TEMPLATE_KEYS)}")
        if document.get("metadata") is not None:
            place.at("metadata").notice("no-effect", "has no effect: a template goes by the name of its file")
        spec = document.get("spec")
        if spec is not None and not isinstance(spec, dict):
            place.at("spec").error("bad-template", f"expected a mapping of modal keys, got {kind_of(spec)}")
        if isinstance(spec, dict) and spec.get("template") is not None:
            place.at("spec", "template").error("bad-template", "a template names no template", "write extends beside spec")


def _config_key_hint(key: object) -> str:
    if isinstance(key, str):
        if (near := closest(key, CONFIG_KEYS)) is not None:
            return f'did you mean "{near}"?'
        if (near := SYNONYMS.get(key) or closest(key, KEYS)) is not None:
            return f'did you mean {{"modal": {{"{near}": ...}}}}?'
    return f"known: {', '.join(CONFIG_KEYS)}"


def _path_key(key: object) -> str | int:
    return key if isinstance(key, (str, int)) else shown(key)
