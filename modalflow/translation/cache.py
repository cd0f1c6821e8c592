"""Translates equal configs once: ten thousand mapped tasks share one reading of their ``executor_config``.

Flows in: what ``translate`` takes. Flows out: the same ``Translation``. What is kept is ``translate.Prepared``, which knows
nothing of a launch; variables, mounts and tags of one task are added by ``finish``, each time anew. The key is the content of the
config (``fingerprints``); template files are looked at each time.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import NamedTuple, Protocol

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.fingerprints import fingerprint, likeness
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.inputs import FileContent, LoadedTemplate, TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.origins import Origin
from modalflow.translation.result import Translation
from modalflow.translation.translate import Prepared, finish, prepare, translate

MOST_KEPT = 1024
"""Configs remembered. One takes some ten kilobytes; a deployment has about as many as it has different tasks."""

MOST_RECENT = 4
"""Configs compared one by one before the others are searched: mapped tasks come in rows."""


class VersionedSource(TemplateSource, Protocol):
    """A template source that can tell, without reading, whether a template is still what it was."""

    def version(self, name: str) -> Hashable:
        """Return what changes whenever ``load`` of that name might answer differently. Total."""
        ...


class _Asked(NamedTuple):
    """One template that a translation asked for, and its file's version then."""

    name: str
    version: Hashable


class _Recorder:
    """A template source that remembers what it was asked for."""

    def __init__(self, templates: VersionedSource) -> None:
        self.asked: list[_Asked] = []
        self._templates = templates

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        # The version first: a file that changes in between is read again the next time.
        self.asked.append(_Asked(name, self._templates.version(name)))
        return self._templates.load(name, asked_by=asked_by)

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        self.asked.append(_Asked(path, self._templates.version(path)))
        content = self._templates.config_map(path)
        if not isinstance(content, str):  # of a folder, each file
            self.asked += [_Asked(file, self._templates.version(file)) for file in (f"{path}/{key}" for key in content)]
        return content


class _Kept(NamedTuple):
    queue: str
    key: Hashable
    like: object
    prepared: Prepared
    asked: tuple[_Asked, ...]


class Translator:
    """``translate`` for one set of options and one template source, with a memory. Safe to call from several threads."""

    def __init__(self, options: TranslationOptions, templates: VersionedSource, *, most_kept: int = MOST_KEPT) -> None:
        self.prepared = 0
        """How many configs were read in full, of all calls."""
        self._options = options
        self._templates = templates
        self._most_kept = most_kept
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._recent: tuple[_Kept, ...] = ()
        self._lock = threading.Lock()

    def __call__(self, executor_config: object, context: TaskContext) -> Translation:
        """Translate one task. Never raises."""
        kept = self._recently(executor_config, context.queue)
        if kept is None:
            content = fingerprint(executor_config)
            if content is None:
                return translate(executor_config, context=context, options=self._options, templates=self._templates)
            kept = self._find((context.queue, content)) or self._prepare(executor_config, context.queue, content)
        prepared = kept.prepared
        if prepared.has_pod and self._options.pod_hook is not None and context.task is not None:
            # The hook sees the task, so nothing that it had a hand in can be another task's.
            return translate(executor_config, context=context, options=self._options, templates=self._templates)
        return finish(prepared, context, self._options)

    def _recently(self, config: object, queue: str) -> _Kept | None:
        try:
            for kept in self._recent:
                if kept.queue == queue and kept.like == config:
                    return kept if self._is_current(kept) else None
        except BaseException as error:  # an object's own comparison: not found here, so the config is read as if it were new
            if is_of_the_process(error):
                raise
            return None
        return None

    def _find(self, key: Hashable) -> _Kept | None:
        place = hash(key)  # once: a tuple does not keep its own
        with self._lock:
            kept = self._kept.get(place)
            if kept is None or kept.key != key:
                return None
            self._kept.move_to_end(place)
        if not self._is_current(kept):
            return None
        self._remember(kept)
        return kept

    def _remember(self, kept: _Kept) -> None:
        # Replaced as a whole, so that a thread in _recently goes on with the one it began.
        self._recent = (kept, *[other for other in self._recent if other.key != kept.key])[:MOST_RECENT]

    def _is_current(self, kept: _Kept) -> bool:
        return not kept.asked or all(self._templates.version(asked.name) == asked.version for asked in kept.asked)

    def _prepare(self, executor_config: object, queue: str, content: Hashable) -> _Kept:
        recorder = _Recorder(self._templates)
        like = likeness(executor_config)
        prepared = prepare(executor_config, queue=queue, options=self._options, templates=recorder)
        kept = _Kept(queue, (queue, content), like, prepared, tuple(recorder.asked))
        place = hash(kept.key)
        with self._lock:
            self.prepared += 1
            self._kept[place] = kept
            self._kept.move_to_end(place)
            while len(self._kept) > self._most_kept:
                self._kept.popitem(last=False)
        self._remember(kept)
        return kept
