"""The pods and task templates inside files: one document or many, lists, and pods inside Deployments, Jobs and the like.

A document without a kind that has the keys of an ``executor_config`` is one.

In: paths given on the command line. Out: ``Document``s, each with the one thing in it to translate, or with the finding that says
why there is none. Next: ``translating``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modalflow.templates import LARGEST_FILE, Lines, Parsed, parse_documents
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import LoadedTemplate
from modalflow.translation.layers import CONFIG_KEYS
from modalflow.translation.origins import Origin
from modalflow.translation.report import PathKey, Root

TEMPLATE_KIND = "ModalTask"
NO_KIND = "(no kind)"
CONFIG_KIND = "executor_config"
STDIN = "-"
STDIN_SHOWN = "<stdin>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One pod or task template of a file. ``whole`` is the YAML document that it stands in, at ``template.at``.

    ``others`` are the places of further pods in the same document. ``problem`` says why there is nothing to translate;
    ``template`` is ``None`` then. ``config_lines`` are the lines of a document that is a whole ``executor_config``.
    """

    file: str
    kind: str
    name: str
    whole: Mapping[str, Any]
    template: LoadedTemplate | None = None
    others: tuple[tuple[PathKey, ...], ...] = ()
    problem: Diagnostic | None = None
    lines: Mapping[tuple[PathKey, ...], int] = field(default_factory=dict)
    config_lines: Lines | None = None

    @property
    def is_translatable(self) -> bool:
        """Whether there is something in it that a task can be made of."""
        return self.template is not None or self.config_lines is not None

    @property
    def title(self) -> str:
        """``pods.yaml: Deployment web, spec.template``."""
        at = self.template.at if self.template is not None else ()
        where = f", {Root(layer='', prefix='', style='dotted').render(at)}" if at else ""
        return f"{self.file}: {self.kind}{f' {self.name}' if self.name else ''}{where}"


def read_files(paths: Iterable[str]) -> list[Document]:
    """Read every file; never raises for what is in them, or for one that cannot be read."""
    return [document for path in paths for document in _read_file(path)]


def _read_file(path: str) -> list[Document]:
    try:
        if path == STDIN:
            path, content = STDIN_SHOWN, sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with Path(path).open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            return [_broken(path, "template-unreadable", f"larger than {LARGEST_FILE} bytes")]
        parsed = parse_documents(content.decode("utf-8-sig"))
    except OSError as error:
        return [_broken(path, "template-unreadable", f"cannot be read: {error.strerror or type(error).__name__}")]
    except ValueError:
        return [_broken(path, "template-unreadable", "cannot be read: not UTF-8 text")]
    found = [document for part in parsed for document in _in_document(path, part)]
    return found or [_broken(path, "no-pod", "holds no document", "write a Pod, or a ModalTask template")]


def _broken(path: str, code: str, message: str, hint: str = "", line: int | None = None) -> Document:
    place = Origin(layer=f"file {path}", path="file", file=path, line=line)
    problem = Diagnostic(code=code, severity=Severity.ERROR, origin=place, message=message, hint=hint)
    return Document(file=path, kind=NO_KIND, name="", whole={}, problem=problem)


def _in_document(path: str, parsed: Parsed) -> Iterator[Document]:
    if parsed.problem:
        yield _broken(path, "bad-template", parsed.problem, line=parsed.problem_line)
        return
    whole = parsed.document
    if "kind" not in whole and any(key in whole for key in CONFIG_KEYS):
        yield Document(file=path, kind=CONFIG_KIND, name="", whole=whole, config_lines=parsed.lines)
        return
    places = tuple(places_of_pods(whole))
    if not places:
        place = Origin(layer=f"file {path}", path="kind", file=path, line=parsed.lines.get(("kind",)) or parsed.lines.get(()))
        problem = Diagnostic(
            code="no-pod",
            severity=Severity.NOTICE,
            origin=place,
            message="nothing to translate: " + (f"no pod is in a {_kind(whole)}" if "kind" in whole else "no kind"),
        )
        kind, name = _kind(whole), _name(whole)
        yield Document(file=path, kind=kind, name=name, whole=whole, problem=problem, lines=parsed.lines)
    for at in places:
        part: Any = whole
        for key in at:
            part = part[key]
        holder = _holder(whole, at)
        pod = part
        if _kind(part) not in {"Pod", TEMPLATE_KIND}:  # a pod template has no kind; another object's apiVersion is not its own
            pod = {**{key: inner for key, inner in part.items() if key != "apiVersion"}, "kind": "Pod"}
        name = Path(path).stem
        template = LoadedTemplate(name=name, file=path, document=pod, lines=parsed.lines, at=at)
        others = tuple(other for other in places if other != at)
        yield Document(
            file=path,
            kind=_kind(holder),
            name=_name(holder),
            whole=whole,
            template=template,
            others=others,
            lines=parsed.lines,
        )


def places_of_pods(value: object, at: tuple[PathKey, ...] = ()) -> Iterator[tuple[PathKey, ...]]:
    """Yield where pods and task templates stand: whatever is called one, and whatever has ``spec.containers``."""
    if isinstance(value, dict):
        spec = value.get("spec")
        is_pod = isinstance(spec, dict) and isinstance(spec.get("containers"), list)
        if _kind(value) in {"Pod", TEMPLATE_KIND} or (is_pod and _kind(value) != "List"):
            yield at
            return
        for key, child in value.items():
            if isinstance(key, (str, int)):
                yield from places_of_pods(child, (*at, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from places_of_pods(child, (*at, index))


def _holder(whole: Mapping[str, Any], at: tuple[PathKey, ...]) -> Mapping[str, Any]:
    """Return the innermost object with a kind around a pod."""
    holder: Mapping[str, Any] = whole
    part: Any = whole
    for key in at:
        part = part[key]
        if isinstance(part, dict) and isinstance(part.get("kind"), str):
            holder = part
    return holder


def _kind(value: Mapping[str, Any]) -> str:
    kind = value.get("kind")
    return kind if isinstance(kind, str) and kind.isprintable() else NO_KIND


def _name(value: Mapping[str, Any]) -> str:
    metadata = value.get("metadata")
    name = metadata.get("name") or metadata.get("generateName") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name.isprintable() else ""
