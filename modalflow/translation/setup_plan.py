"""What is set up in a sandbox before Airflow is imported: variables, files, folders, links, host names. No secret.

A secret's value is only ever named: ``Ref`` says which environment variable, injected by a Modal Secret, holds it. Flows out of
``pods.env`` and ``pods.volumes`` into ``SandboxPlan.setup``; ``lower`` writes it as JSON into one variable (``VARIABLE``), which
``worker/set_up.py`` reads and carries out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

VARIABLE = "MODALFLOW_SETUP"
LAUNCH_ID = "MODALFLOW_LAUNCH_ID"
POD_IP = "MODALFLOW_POD_IP"
"""No variable, but a name that the set-up resolves to the sandbox's own address."""
LARGEST = 65_536
"""Bytes of the JSON. Linux takes 128 KiB in one variable, and the rest of the environment has to fit beside it."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an environment variable inside the sandbox; ``otherwise`` where it is not set, ``None``: it must be."""

    variable: str
    otherwise: str | None = None


@dataclass(frozen=True, slots=True)
class Tag:
    """A fact of the task (``dag_id``, ``try_number`` …), filled in by ``lower``."""

    name: str


@dataclass(frozen=True, slots=True)
class FileKey:
    """The value of ``key`` in the file of variables at ``path``, once init containers have run."""

    path: str
    key: str


Part = str | Ref | Tag | FileKey


@dataclass(frozen=True, slots=True)
class Text:
    """Text put together in the sandbox. ``optional``: left out where a variable is not set."""

    parts: tuple[Part, ...]
    optional: bool = False

    def filled(self, tags: Mapping[str, str]) -> Text:
        """Return the text with every ``Tag`` replaced."""
        if not any(isinstance(part, Tag) for part in self.parts):
            return self
        parts = tuple(tags.get(part.name, "") if isinstance(part, Tag) else part for part in self.parts)
        return Text(parts, self.optional)

    @property
    def literal(self) -> str | None:
        """The text, if it is known already."""
        if all(isinstance(part, str) for part in self.parts):
            return "".join(part for part in self.parts if isinstance(part, str))
        return None

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables that it needs."""
        return tuple(part.variable for part in self.parts if isinstance(part, Ref))

    def __str__(self) -> str:
        """Show it as the pod would write it: ``$(NAME)`` stands for a variable."""
        return "".join(map(_shown, self.parts))


@dataclass(frozen=True, kw_only=True, slots=True)
class FilePlan:
    """One file. ``mode`` as in ``chmod``; ``encoded`` says that the text is base64 of the content."""

    path: str
    text: Text
    mode: int = 0o644
    encoded: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderPlan:
    """One folder; ``memory`` asks for one that lives in memory."""

    path: str
    memory: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class ClonePlan:
    """A git repository that is cloned into ``path``: into its ``directory`` there, else into one of the repository's name.

    ``revision`` is checked out, if it is given.
    """

    repository: str
    revision: str = ""
    directory: str = ""
    path: str = ""

    def as_plain(self) -> dict[str, str]:
        """Return what ``worker/repositories.py`` reads."""
        names = ("path", "repository", "revision", "directory")
        return {name: value for name in names if (value := getattr(self, name))}


@dataclass(frozen=True, kw_only=True, slots=True)
class UserPlan:
    """Who the task is: numbers of user, group and further groups. ``None``: as the sandbox starts.

    ``fs_group`` owns what is set up. ``strict``: without the groups that the image gives that user. ``non_root``: if it comes
    to root, nothing is run.
    """

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] = ()
    fs_group: int | None = None
    strict: bool = False
    non_root: bool = False

    def as_plain(self) -> dict[str, object]:
        """Return what is set."""
        numbers = {"uid": self.uid, "gid": self.gid, "fs_group": self.fs_group}
        found: dict[str, object] = {name: value for name, value in numbers.items() if value is not None}
        if self.groups:
            found["groups"] = list(self.groups)
        return found | {name: True for name in ("strict", "non_root") if getattr(self, name)}


@dataclass(frozen=True, kw_only=True, slots=True)
class HookPlan:
    """A lifecycle hook: one of a command, seconds to do nothing, and an address to GET."""

    argv: tuple[str, ...] = ()
    sleep: int | None = None
    url: str = ""
    headers: tuple[tuple[str, str], ...] = ()

    def as_plain(self) -> dict[str, object]:
        """Return what ``worker/hooks.py`` reads."""
        if self.sleep is not None:
            return {"sleep": self.sleep}
        if not self.url:
            return {"argv": list(self.argv)}
        return {"url": self.url, "headers": dict(self.headers)} if self.headers else {"url": self.url}

    def __str__(self) -> str:
        """Show it in a word or two."""
        if self.sleep is not None:
            return f"sleep {self.sleep} s"
        return f"GET {self.url}" if self.url else " ".join(self.argv)


@dataclass(frozen=True, kw_only=True, slots=True)
class GracePlan:
    """How a task ends that Airflow takes back: the hook, then the signal, and after ``seconds`` since the start its sandbox."""

    seconds: int
    signal: str = "SIGTERM"
    pre_stop: HookPlan | None = None

    def as_plain(self) -> dict[str, object]:
        """Return what ``worker/stopping.py`` reads."""
        plain: dict[str, object] = {"seconds": self.seconds, "signal": self.signal}
        return plain if self.pre_stop is None else {**plain, "hook": self.pre_stop.as_plain()}


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """An init container with the task's own image: a command that must end well before the task starts.

    Its variables are the image's and ``env``. ``folder`` is where it starts, ``None``: where the task does.
    """

    name: str
    argv: tuple[Text, ...]
    env: Mapping[str, Text] = field(default_factory=dict)
    folder: str | None = None
    user: UserPlan | None = None

    def filled(self, tags: Mapping[str, str]) -> RunPlan:
        """Return it with every ``Tag`` replaced."""
        argv = tuple(word.filled(tags) for word in self.argv)
        return replace(self, argv=argv, env={name: text.filled(tags) for name, text in self.env.items()})

    def as_plain(self) -> dict[str, object]:
        """Return what ``worker/set_up.py`` reads."""
        env = {name: _text(text) for name, text in self.env.items()}
        plain: dict[str, object] = {"name": self.name, "argv": [_text(word) for word in self.argv], "env": env}
        if self.folder is not None:
            plain["folder"] = self.folder
        return plain if self.user is None else {**plain, "user": self.user.as_plain()}


@dataclass(frozen=True, kw_only=True, slots=True)
class SetupPlan:
    """All of it, in the order in which it is done: texts are put together first, the variables of ``remove`` go last.

    ``clones`` come before the links, which are (path, target); ``hosts`` are (address, names). ``user`` is who the task runs as,
    after all of that. ``runs`` are init containers, which see none of the variables named in ``hide``: those are the task's.
    ``post_start`` is done last, by the task's user; ``grace`` says how it ends.
    """

    exports: Mapping[str, Text] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    folders: tuple[FolderPlan, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    files: tuple[FilePlan, ...] = ()
    hosts: tuple[tuple[str, tuple[str, ...]], ...] = ()
    user: UserPlan | None = None
    runs: tuple[RunPlan, ...] = ()
    hide: tuple[str, ...] = ()
    post_start: HookPlan | None = None
    grace: GracePlan | None = None
    clones: tuple[ClonePlan, ...] = ()

    def __bool__(self) -> bool:
        return any(getattr(self, name) for name in _PARTS)

    def as_json(self) -> str:
        """Return what ``worker/set_up.py`` reads."""
        document: dict[str, Any] = {
            "exports": {name: _text(text) for name, text in self.exports.items()},
            "remove": list(self.remove),
            "folders": [{"path": one.path, "memory": one.memory} for one in self.folders],
            "links": [list(link) for link in self.links],
            "files": [
                {"path": one.path, "text": _text(one.text), "mode": one.mode, "encoded": one.encoded} for one in self.files
            ],
            "hosts": [[address, list(names)] for address, names in self.hosts],
            "user": {} if self.user is None else self.user.as_plain(),
            "clones": [clone.as_plain() for clone in self.clones],
            "runs": [run.as_plain() for run in self.runs],
            "hide": list(self.hide),
            "post_start": {} if self.post_start is None else self.post_start.as_plain(),
            "grace": {} if self.grace is None else self.grace.as_plain(),
        }
        return json.dumps({name: value for name, value in document.items() if value}, separators=(",", ":"))


_PARTS = tuple(part.name for part in fields(SetupPlan))
NO_SETUP = SetupPlan()


def _shown(part: Part) -> str:
    match part:
        case Ref():
            return f"$({part.variable})"
        case Tag():
            return f"$({part.name})"
        case FileKey():
            return f"$({part.key} of {part.path})"
        case _:
            return part


def _text(text: Text) -> dict[str, object]:
    parts = [part if isinstance(part, str) else _ref(part) for part in text.parts]
    return {"parts": parts, "optional": True} if text.optional else {"parts": parts}


def _ref(part: Ref | Tag | FileKey) -> dict[str, str]:
    if isinstance(part, Tag):
        raise TypeError(f"the tag {part.name} was not filled in")
    if isinstance(part, FileKey):
        return {"file": part.path, "key": part.key}
    return {"env": part.variable} if part.otherwise is None else {"env": part.variable, "else": part.otherwise}
