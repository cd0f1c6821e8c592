"""YAML task templates: found by name in a few folders, read with the line of every key, kept until the file changes.

Flows in: a name that ``translation.layers`` met in options, an ``executor_config`` or another template. Flows out:
``LoadedTemplate``, or the one finding that says why not. Reads files; never executes what they say (YAML's safe types only).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from modalflow.config_maps import read_config_map
from modalflow.translation.diagnostics import Diagnostic, Severity, did_you_mean
from modalflow.translation.inputs import FileContent, LoadedTemplate
from modalflow.translation.origins import Origin
from modalflow.translation.report import shown

SUFFIXES = (".yaml", ".yml")
LARGEST_FILE = 1_000_000
"""Bytes. A template is a page of text; anything larger was not meant as one."""
MOST_NODES = 20_000
"""Bound on the values of one template after YAML aliases are followed, so that nested aliases cannot fill the memory."""
DEEPEST = 64

Lines = dict[tuple[str | int, ...], int]


def shipped_folder() -> Path:
    """Return the folder of the templates that come with modalflow: inside a wheel, or beside the package in a checkout."""
    inside = Path(__file__).parent / "task_templates"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "templates"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parsed:
    """A document's content, or what is wrong with it and on which line."""

    document: dict[str, object]
    lines: Lines
    problem: str = ""
    problem_line: int | None = None


class TemplateFolders:
    """Templates in ``folders``, searched in order, then in the shipped folder. Implements ``TemplateSource``."""

    def __init__(self, folders: Iterable[str | Path] = ()) -> None:
        self._folders: Sequence[Path] = (*(Path(folder) for folder in folders), shipped_folder())
        self._kept: dict[Path, tuple[Hashable, Parsed]] = {}

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        """Return the template of that name or absolute path, or the error. Never raises."""
        try:
            found = self._find(name, asked_by)
            if isinstance(found, Diagnostic):
                return found
            parsed = self._parse(found)
        except (OSError, ValueError) as error:
            return _refuse("template-unreadable", asked_by, f"the template {shown(name)} cannot be read: {_reason(error)}")
        known_as = found.stem if Path(name).is_absolute() else name
        if parsed.problem:
            place = Origin(layer=f"template {known_as}", path=f"template {known_as}", file=str(found), line=parsed.problem_line)
            return _refuse("bad-template", place, parsed.problem)
        return LoadedTemplate(name=known_as, file=str(found), document=parsed.document, lines=parsed.lines)

    def version(self, name: str) -> Hashable:
        """Return the versions of every file that ``load`` may look at, absent ones too."""
        if Path(name).is_absolute():
            return _version(name)
        return tuple([_version(f"{folder}/{name}{suffix}") for folder in self._folders for suffix in ("", *SUFFIXES)])

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        """Return the data of a ConfigMap's manifest or folder, or what is wrong with it. Never raises."""
        return read_config_map(path)

    def names(self) -> list[str]:
        """Return the names that ``load`` would find, sorted."""
        there = (path for folder in self._folders if folder.is_dir() for path in folder.iterdir())
        return sorted({path.stem for path in there if path.suffix in SUFFIXES and path.is_file()})

    def _find(self, name: str, asked_by: Origin) -> Path | Diagnostic:
        asked = Path(name)
        if asked.is_absolute():
            return asked if asked.is_file() else _refuse("template-not-found", asked_by, f"no file {shown(name)}")
        if ".." in asked.parts:
            return _refuse(
                "template-outside", asked_by, f"{shown(name)} leaves the template folders", "write a name without '..'"
            )
        for folder in self._folders:
            for candidate in (name, *(name + suffix for suffix in SUFFIXES)):
                path = folder / candidate
                if path.suffix in SUFFIXES and path.is_file():
                    # A link may lead elsewhere inside its folder (a mounted ConfigMap is made of links), not out of it.
                    if not path.resolve().is_relative_to(folder.resolve()):
                        return _refuse("template-outside", asked_by, f"{shown(name)} is a link that leads out of {folder}")
                    return path
        known = self.names()
        hint = did_you_mean(name, known) or f"known: {', '.join(known)}"
        return _refuse("template-not-found", asked_by, f"no template {shown(name)}", hint)

    def _parse(self, path: Path) -> Parsed:
        version = _version(path)
        kept = self._kept.get(path)
        if kept is not None and kept[0] == version:
            return kept[1]
        with path.open("rb") as file:  # bounded by what is read: the size of a file in /proc is 0
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            parsed = Parsed(document={}, lines={}, problem=f"larger than {LARGEST_FILE} bytes")
        else:
            parsed = parse_template(content.decode("utf-8"))
        self._kept[path] = version, parsed
        return parsed


def _version(path: str | Path) -> Hashable:
    """Return what tells one content of a file from the next, ``None`` where there is no file.

    The inode and its change time as well: a file that is moved into place can bring any modification time along.
    """
    try:
        status = os.stat(path)  # noqa: PTH116 - half the time of Path.stat, and asked for each task
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns


def _refuse(code: str, origin: Origin, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, severity=Severity.ERROR, origin=origin, message=message, hint=hint)


def _reason(error: OSError | ValueError) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return "not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "no valid file name"


class _Problem(Exception):
    """What is wrong with a template, and its 1-based line."""

    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.line = line


def parse_template(text: str) -> Parsed:
    """Read one YAML document into plain data and the line of every value."""
    return _guarded(lambda: [_read_node(yaml.compose(text, Loader=yaml.SafeLoader))])[0]


def parse_documents(text: str) -> list[Parsed]:
    """Read every YAML document of a text; the last one tells of what could not be read. Empty documents are left out."""
    found: list[Parsed] = []

    def read() -> list[Parsed]:
        # Document by document, so that those before a broken one are kept.
        found.extend(_read_node(node) for node in yaml.compose_all(text, Loader=yaml.SafeLoader) if not _is_nothing(node))
        return []

    problems = _guarded(read)
    return [*found, *problems]


def _is_nothing(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and not node.value


def _read_node(node: yaml.Node | None) -> Parsed:
    reader = _Reader()
    return Parsed(document=reader.read_document(node), lines=reader.lines)


def _guarded(read: Callable[[], list[Parsed]]) -> list[Parsed]:
    try:
        return read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else None
        return [Parsed(document={}, lines={}, problem=f"not YAML: {error.problem}", problem_line=line)]
    except yaml.YAMLError:
        return [Parsed(document={}, lines={}, problem="not YAML: it holds a character that YAML does not allow")]
    except RecursionError:
        return [Parsed(document={}, lines={}, problem=f"nested more than {DEEPEST} levels deep")]
    except _Problem as problem:
        return [Parsed(document={}, lines={}, problem=str(problem), problem_line=problem.line)]


_TAG = "tag:yaml.org,2002:"
_PLAIN_KINDS: dict[type[yaml.Node], tuple[str, ...]] = {
    yaml.MappingNode: ("map",),
    yaml.SequenceNode: ("seq",),
    yaml.ScalarNode: ("str", "int", "float", "bool", "null", "timestamp"),
}


class _Reader:
    """Makes plain data of YAML nodes, as ``yaml.safe_load`` does, and notes lines and duplicate keys on the way."""

    def __init__(self) -> None:
        self.lines: Lines = {}
        self._scalars = yaml.constructor.SafeConstructor()
        self._count = 0

    def read_document(self, node: yaml.Node | None) -> dict[str, object]:
        """Return the whole document, which must be a mapping."""
        if not isinstance(node, yaml.MappingNode):
            raise _Problem("expected a mapping with apiVersion, kind and spec", None)
        return cast("dict[str, object]", self.read(node, ()))

    def read(self, node: yaml.Node, path: tuple[str | int, ...]) -> object:
        """Return the value of a node; ``path`` is where it stands in the document."""
        line = node.start_mark.line + 1
        self._count += 1
        if self._count > MOST_NODES or len(path) > DEEPEST:
            raise _Problem(f"more than {MOST_NODES} values or {DEEPEST} levels", line)
        kind = node.tag.removeprefix(_TAG)
        if kind not in _PLAIN_KINDS.get(type(node), ()):
            raise _Problem(f"a template holds plain data, no {node.tag.replace(_TAG, '!!')}", line)
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[Hashable, object]:
        own: dict[Hashable, object] = {}
        merged: dict[Hashable, object] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == f"{_TAG}merge":
                for source in value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]:
                    content = self.read(source, path)
                    if not isinstance(content, dict):
                        raise _Problem("expected a mapping behind <<", line)
                    merged = {**content, **merged}
                continue
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, (str, int)):
                raise _Problem("expected a plain key", line)
            if key in own:
                raise _Problem(f'the key "{key}" is there twice', line)
            self.lines[*path, key] = line
            own[key] = self.read(value_node, (*path, key))
        return {**merged, **own}

    def _scalar(self, node: yaml.Node) -> object:
        try:
            return self._scalars.construct_object(node)
        except ValueError as error:
            raise _Problem(
                f"not YAML: {shown(node.value)} is no valid {node.tag.removeprefix(_TAG)}", node.start_mark.line + 1
            ) from error
