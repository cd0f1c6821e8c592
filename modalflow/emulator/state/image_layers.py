"""The run-time settings of an image, and how each instruction changes them: ENV, ARG, WORKDIR, SHELL, USER, ENTRYPOINT and CMD.

Flows in: the instructions of a chain of layers, base first. Flows out: ``ImageSettings``, which ``environment`` applies to
processes, and which hold at each step of a build. Pure; what instructions do to files is the matter of ``machines``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from modalflow.emulator.state.dockerfile import Instruction, expanded, split_expanded

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSettings:
    """Run-time settings of an image. ``workdir`` is absolute or ``None``; ``entrypoint`` and ``command`` as in a Dockerfile.

    ``shell`` runs the shell form of commands. ``user`` is recorded; processes run as the superuser, as on Modal.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    shell: tuple[str, ...] = DEFAULT_SHELL
    user: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Where a build stands: the settings so far, and the ARGs declared so far, which no image keeps."""

    settings: ImageSettings
    args: Mapping[str, str] = field(default_factory=dict)
    build_args: Mapping[str, str] = field(default_factory=dict)
    base_path: str = ""
    """The PATH that ``$PATH`` means before any ENV sets it."""

    @property
    def variables(self) -> Mapping[str, str]:
        """What a ``$`` in an instruction refers to: ENV wins over ARG."""
        return {"PATH": self.base_path, **self.args, **self.settings.env}

    def after(self, instruction: Instruction) -> Scope:
        """Return the scope after an instruction; most change nothing."""
        if instruction.keyword == "FROM":
            return replace(self, args={})
        if instruction.keyword == "ARG":
            return replace(self, args={**self.args, **self._declared(instruction.rest)})
        return replace(self, settings=replace(self.settings, **self._changes(instruction)))  # type: ignore[arg-type]

    def _changes(self, instruction: Instruction) -> dict[str, object]:
        rest, settings = instruction.rest, self.settings
        changes: dict[str, object] = {}
        match instruction.keyword:
            case "ENV":
                changes = {"env": {**settings.env, **self._pairs(rest)}}
            case "WORKDIR":
                changes = {"workdir": absolute(settings, expanded(rest, self.variables))}
            case "USER":
                changes = {"user": expanded(rest, self.variables)}
            case "SHELL":
                changes = {"shell": instruction.words() or settings.shell}
            case "ENTRYPOINT":
                # As in docker build, a new ENTRYPOINT also drops the CMD that came with the old one.
                changes = {"entrypoint": self.command_line(instruction), "command": ()}
            case "CMD":
                changes = {"command": self.command_line(instruction)}
        return changes

    def command_line(self, instruction: Instruction) -> tuple[str, ...]:
        """Return the words of the JSON form, or the shell form, which the shell runs."""
        words = instruction.words()
        return (*self.settings.shell, instruction.rest) if words is None else words

    def _declared(self, rest: str) -> dict[str, str]:
        declared: dict[str, str] = {}
        for word in split_expanded(rest, self.variables):
            name, equals, default = word.partition("=")
            if name in self.build_args:
                declared[name] = self.build_args[name]
            elif equals:
                declared[name] = default
        return declared

    def _pairs(self, rest: str) -> dict[str, str]:
        """Read ``A=1 B=2``, or the old form ``A 1``. All variables of one line see the values from before it."""
        first, _, remainder = rest.partition(" ")
        if "=" not in first:
            return {first: expanded(remainder.strip(), self.variables)}
        pairs = (word.partition("=") for word in split_expanded(rest, self.variables))
        return {name: value for name, _, value in pairs if name}


def absolute(settings: ImageSettings, path: str) -> str:
    """Return ``path`` as an absolute one, relative to the working folder."""
    return posixpath.normpath(posixpath.join("/", settings.workdir or "/", path)).replace("//", "/")
