"""The instructions of one layer, carried out: RUN in a container, COPY and WORKDIR written as files, the rest as settings.

Flows in: a layer's definition, its base, what came with it. Flows out: the image, or ``StepError`` with what went wrong; each
step and what it wrote is in the log. ``image_builds`` decides what is built, and keeps the outcome.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modalflow.emulator.machines.build_context import (
    Context,
    ContextFile,
    CopyError,
    Target,
    from_view,
    targets,
)
from modalflow.emulator.machines.build_log import BuildLog
from modalflow.emulator.machines.file_layers import FileLayer, OnMachine, Text
from modalflow.emulator.machines.layer_store import LayerStore
from modalflow.emulator.machines.layer_view import LayerView
from modalflow.emulator.state.dockerfile import Instruction, expanded, filled, split_expanded
from modalflow.emulator.state.image_layers import Scope, absolute

_UV = "ghcr.io/astral-sh/uv"
_STAND_IN = Path(__file__).with_name("uv_stand_in.py")
_NO_FILES = frozenset({"LABEL", "EXPOSE", "HEALTHCHECK", "STOPSIGNAL", "VOLUME", "ONBUILD", "MAINTAINER", "USER"})
"""Instructions that are recorded, whatever the isolation."""
_PYTHON_LINK = "ln -s /usr/local/bin/python3 /usr/local/bin/python"
"""The step of ``add_python`` that modal 1.6.4 adds for old standalone releases."""
_PLAYED = "this machine's interpreter plays it"
_TAIL = 30
"""Lines of a failed step's output that go into the exception."""


class StepError(Exception):
    """A step failed; the text is for the client."""


class Runner(Protocol):
    """Runs one command on a stack of layers."""

    async def run(self, argv: Sequence[str], *, scope: Scope, layers: Sequence[Path], stdin: bytes) -> tuple[int, str | None]:
        """Return the exit code, and the name of the new layer if the command wrote anything."""
        ...


@dataclass(kw_only=True)
class Steps:
    """One layer under construction. ``recorded``: in words, what did not take effect."""

    scope: Scope
    layers: list[str]
    """Names, the lowest first; those of the base to begin with."""
    detached: bool
    context: Context
    store: LayerStore
    log: BuildLog
    runner: Runner | None
    """``None``: RUN is recorded only."""
    above_host: Sequence[Path] = ()
    uv: Path | None = None
    """The uv of this machine, if it has one."""
    python: str = "python3"
    plays_python: bool = False
    """The context is a standalone Python of Modal's (``add_python``): this machine's interpreter takes its place."""
    recorded: list[str] = field(default_factory=list)
    _stages: int = 0

    async def perform(self, instructions: Sequence[Instruction]) -> None:
        """Carry out all of them. ``StepError`` at the first that fails."""
        for number, instruction in enumerate(instructions):
            self.log.say(f"=> Step {number}: {instruction.source}\n")
            since = self.log.size
            try:
                await self._perform(instruction)
            except (CopyError, OSError) as error:
                raise StepError(f"{instruction.source}\n{error}") from error
            except _ExitError as error:
                raise StepError(
                    f"{instruction.source}\nexited with code {error.code}\n{self.log.tail(_TAIL, since)}".rstrip()
                ) from error
            self.scope = self.scope.after(instruction)

    async def _perform(self, instruction: Instruction) -> None:
        match instruction.keyword:
            case "FROM":
                self._from(instruction)
            case "RUN":
                await self._run(instruction)
            case "COPY" | "ADD":
                await self._copy(instruction)
            case "WORKDIR":
                await asyncio.to_thread(
                    self._make_folder, absolute(self.scope.settings, expanded(instruction.rest, self.scope.variables))
                )
            case keyword if keyword in _NO_FILES:
                self._record(instruction, "recorded, without effect")

    def _record(self, instruction: Instruction, why: str) -> None:
        self.recorded.append(f"{instruction.source} ({why})")
        self.log.say(f"   {why}\n")

    @property
    def _view(self) -> LayerView:
        stack = [self.store.path(name) for name in reversed(self.layers)]
        return LayerView(stack, above_host=self.above_host, detached=self.detached)

    # -- FROM

    def _from(self, instruction: Instruction) -> None:
        if self._stages:
            raise StepError(f"{instruction.source}\nseveral stages in one Dockerfile are not built by the modalflow emulator")
        self._stages += 1
        if instruction.rest.split()[0] == "scratch":
            self.detached = True

    # -- RUN

    async def _run(self, instruction: Instruction) -> None:
        if self.plays_python and instruction.rest == _PYTHON_LINK:
            self._record(instruction, _PLAYED)
            return
        if self.runner is None:
            self._record(instruction, "recorded only")
            return
        mounts = instruction.flags.get("mount", "")
        if mounts and "type=cache" not in mounts and "type=tmpfs" not in mounts:
            raise StepError(
                f"{instruction.source}\nRUN --mount other than type=cache and type=tmpfs is not built by the emulator"
            )
        argv, stdin = self._command(instruction)
        layers = [self.store.path(name) for name in reversed(self.layers)]
        code, layer = await self.runner.run(argv, scope=self.scope, layers=layers, stdin=stdin)
        if code:
            raise _ExitError(code)
        if layer is not None:
            self.layers.append(layer)

    def _command(self, instruction: Instruction) -> tuple[Sequence[str], bytes]:
        """Return argv and stdin. A heredoc alone is a script, run by the shell or by what its first line names."""
        heredocs = instruction.heredocs
        if len(heredocs) == 1 and instruction.rest.startswith("<<") and len(instruction.rest.split()) == 1:
            script = heredocs[0].text
            if script.startswith("#!"):
                run_file = 't=$(mktemp); cat >"$t"; chmod 700 "$t"; "$t"; code=$?; rm -f "$t"; exit $code'
                return ("/bin/sh", "-c", run_file), script.encode()
            return (*self.scope.settings.shell, script), b""
        if heredocs:
            bodies = "".join(f"{one.text}{one.name}\n" for one in heredocs)
            return (*self.scope.settings.shell, f"{instruction.rest}\n{bodies}"), b""
        return self.scope.command_line(instruction), b""

    # -- COPY

    async def _copy(self, instruction: Instruction) -> None:
        if self.plays_python and instruction.rest.startswith("/python/. "):
            self._record(instruction, _PLAYED)
            return
        flags = instruction.flags
        unknown = sorted(set(flags) - {"from", "chown", "chmod", "link", "parents", "exclude"})
        if unknown or "parents" in flags or "exclude" in flags:
            raise StepError(f"{instruction.source}\nthe emulator's COPY knows --from, --chown, --chmod and --link")
        if instruction.keyword == "ADD" and "://" in instruction.rest:
            raise StepError(f"{instruction.source}\nADD of an address is not built by the emulator; write RUN curl -o … instead")
        words = self._words(instruction)
        view = self._view
        destination = posixpath.join("/", self.scope.settings.workdir or "/", words[-1])
        image = flags.get("from", "")
        if image.startswith(_UV) and self.uv is None:
            self._record(instruction, "pip plays uv, which this machine does not have")
        if image:
            found = [one for source in words[:-1] for one in self._from_image(image, source, destination, view)]
        else:
            context = {**self.context, **_heredoc_files(instruction, self.scope)}
            found = targets(context, words[:-1], destination, view)
        await asyncio.to_thread(self._write, found, flags, view)

    def _words(self, instruction: Instruction) -> list[str]:
        words = instruction.words()
        found = list(words) if words is not None else split_expanded(instruction.rest, self.scope.variables)
        found = [word[2:].lstrip("-").strip("\"'") if word.startswith("<<") else word for word in found]
        if len(found) < 2:  # noqa: PLR2004 -- a source and a destination
            raise CopyError("COPY needs a source and a destination")
        return found

    def _from_image(self, image: str, source: str, destination: str, view: LayerView) -> list[Target]:
        """Copy out of another image. This machine plays every registry image; uv's has uv, or what stands in for it."""
        if image.startswith(_UV):
            text = _STAND_IN.read_bytes().replace(b"#!/usr/bin/env python3", f"#!{self.python}".encode(), 1)
            content = OnMachine(self.uv) if self.uv is not None else Text(text)
            files = [("", ContextFile(content, 0o755))]
        else:
            files = from_view(LayerView((), above_host=self.above_host), source)
        folder = destination.endswith("/") or view.is_folder(destination)
        single = files[0][0] == "" if files else False
        base = posixpath.join(destination, posixpath.basename(source.rstrip("/"))) if single and folder else destination
        return [Target(posixpath.join(base, name) if name else base, file) for name, file in files]

    def _write(self, found: Sequence[Target], flags: Mapping[str, str], view: LayerView) -> None:
        owner = _owner(flags.get("chown", ""), view)
        mode = _mode(flags.get("chmod", ""))
        name = self.store.new_name("files")
        layer = FileLayer(self.store.path(name), view)
        self._keep(name)
        for target in found:
            layer.write(target.path, target.file.source, target.file.mode if mode is None else mode, owner)

    # -- WORKDIR

    def _make_folder(self, path: str) -> None:
        view = self._view
        if view.is_folder(path):
            return
        name = self.store.new_name("files")
        layer = FileLayer(self.store.path(name), view)
        self._keep(name)
        layer.folder(path)

    def _keep(self, name: str) -> None:
        self.layers.append(name)

    def discard(self, base: Sequence[str]) -> None:
        """Remove the layers that are not the base's; blocks."""
        self.store.discard(self.layers[len(base) :])


class _ExitError(Exception):
    """A command ended with another code than 0."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _heredoc_files(instruction: Instruction, scope: Scope) -> dict[str, ContextFile]:
    return {
        one.name: ContextFile(Text((one.text if one.quoted else filled(one.text, scope.variables)).encode()), 0o644)
        for one in instruction.heredocs
    }


def _mode(text: str) -> int | None:
    if not text:
        return None
    try:
        return int(text, 8) & 0o7777
    except ValueError as error:
        raise CopyError(f"COPY --chmod: expected octal digits such as 755, got {text!r}") from error


def _owner(text: str, view: LayerView) -> tuple[int, int]:
    """Read ``USER[:GROUP]``, by number or by name in the image's own files."""
    user, _, group = text.partition(":")
    uid = _id(user, view.text("/etc/passwd"), "user")
    return uid, _id(group, view.text("/etc/group"), "group") if group else uid


def _id(name: str, table: str, what: str) -> int:
    if not name or name.isdigit():
        return int(name or 0)
    for line in table.splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2:  # noqa: PLR2004 -- name, password, id
            return int(fields[2])
    raise CopyError(f"COPY --chown: the image has no {what} {name!r}")
