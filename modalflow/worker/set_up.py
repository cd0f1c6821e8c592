"""Sets a sandbox up as its pod wanted it: variables, folders, links, files, host names and the user, before Airflow is imported.

``bootstrap_source`` puts this file and those it imports into the sandbox's program, so only the standard library is here. Flows
in: the JSON of ``translation/setup_plan.py`` in ``MODALFLOW_SETUP``, and the variables that Modal Secrets injected. No text that
is raised or said here quotes a value. Under the emulator, which gives a sandbox a private root folder, everything is made below
that.
"""

# Imports stand where they are used: a sandbox without a set-up loads none. Paths are text, for the bootstrap avoids pathlib.
# ruff: noqa: S108

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from modalflow.worker.commands import run_command
from modalflow.worker.ending import STOP_PLACE, how_it_ends, tell_how_it_ends
from modalflow.worker.errors import EXIT_COMMAND_FAILED, SetUpError
from modalflow.worker.hooks import HookError, run_hook
from modalflow.worker.repositories import clone
from modalflow.worker.texts import OURS, SETUP, Texts, is_of_file
from modalflow.worker.user import User

MEMORY_FOLDER = "/dev/shm"


class SetUp:
    """The set-up that ``environ`` holds, if any (``asked``); it is taken out of there. ``ending``: how the task ends."""

    def __init__(self, environ: Any, say: Callable[[str, str], None]) -> None:
        text = environ.pop(SETUP, None)
        self.asked = bool(text)
        self._plan = json.loads(text) if text else {}
        self.ending = how_it_ends(self._plan, environ)
        self._environ = environ
        self._say = say
        self._given = dict(environ)
        self._texts = Texts(self._given)
        self._user = User(self._plan["user"]) if "user" in self._plan else None

    @property
    def runs(self) -> Any:
        """The init containers."""
        return self._plan.get("runs", [])

    def make(self) -> None:
        """Make variables, folders, links, files and host names."""
        plan = self._plan
        # All texts come from the variables as they were given, before any of them is renamed or removed.
        written = {name: text for name, text in plan.get("exports", {}).items() if not is_of_file(text)}
        exports = {name: self._texts.text(text, f"the variable {name}") for name, text in written.items()}
        files = [(one, self._texts.text(one["text"], f"the file {one['path']}")) for one in plan.get("files", [])]
        for folder in plan.get("folders", []):
            self._folder(folder["path"], in_memory=folder["memory"])
        for one in plan.get("clones", []):
            self._own_all(clone(one, self._texts.place(one["path"]), self._given, self._say))
        for path, target in plan.get("links", []):
            self._link(self._texts.place(path), self._texts.place(target))
        for one, text in files:
            if text is not None:
                self._file(one, text)
        self._hosts(plan.get("hosts", []))
        tell_how_it_ends(self._texts.place(STOP_PLACE), self.ending, plan.get("user"), self._say)
        for name in plan.get("remove", []):
            self._environ.pop(name, None)
        for name, text in exports.items():
            if text is not None:
                self._environ[name] = text

    def run(self) -> None:
        """Run the init containers, each to its end, and read the variables that are in files now."""
        for one in self.runs:
            what = f'the init container "{one["name"]}"'
            user = User(one["user"]) if "user" in one else None
            if user is not None:
                user.check()
            argv = [self._texts.text(word, what) or "" for word in one["argv"]]
            self._say("info", f"{what} starts")
            folder = self._texts.place(one["folder"]) if "folder" in one else None
            run_command(what, argv, self._say, environ=self._environ_of(one, user), folder=folder, user=user)
        for name, text in self._plan.get("exports", {}).items():
            if is_of_file(text) and (value := self._texts.text(text, f"the variable {name}")) is not None:
                self._environ[name] = value

    def _environ_of(self, one: Any, user: Any) -> dict[str, str]:
        """Return an init container's variables: the image's and its own, none of the task's."""
        hidden = set(self._plan.get("hide", ()))
        found = {name: text for name, text in self._given.items() if name not in hidden and not name.startswith(OURS)}
        found.setdefault("PATH", os.defpath)
        if user is not None and user.uid != os.geteuid():
            found["HOME"] = user.home if os.path.isdir(user.home) else found.get("TMPDIR", "/tmp")
        for name, text in one["env"].items():
            value = self._texts.text(text, f"the variable {name}")
            if value is not None:
                found[name] = value
        return found

    def become(self, paths: Any) -> None:
        """Become the pod's user, who gets ``paths`` too, and run the hook of its start."""
        if self._user is not None:
            self._user.check()
            for path in paths:
                self._user.own(path)
            self._user.become(self._environ, self._say)
        if "post_start" in self._plan:
            try:
                run_hook(self._plan["post_start"], seconds=None, environ=dict(self._environ))
            except HookError as error:
                raise SetUpError(f"postStart: {error}", EXIT_COMMAND_FAILED) from error

    def _folder(self, path: str, *, in_memory: bool) -> None:
        place = self._texts.place(path)
        if in_memory and not os.path.lexists(place):
            import tempfile

            if os.access(MEMORY_FOLDER, os.W_OK | os.X_OK):
                memory = tempfile.mkdtemp(prefix="modalflow-", dir=MEMORY_FOLDER)
                self._own(memory, shared=True)
                self._link(place, memory)
                return
            self._say("warning", f"{MEMORY_FOLDER} cannot be written: {path} is on disk, not in memory")
        self._make(place, shared=True)

    def _make(self, folder: str, *, shared: bool = False) -> None:
        try:
            os.makedirs(folder, exist_ok=True)
            # What the image has there keeps its owner.
            if shared and not os.listdir(folder):
                self._own(folder, shared=True)
        except OSError as error:
            raise SetUpError(f"cannot make the folder {folder} ({error.strerror})") from error

    def _own_all(self, folder: str) -> None:
        if self._user is not None:
            for place, _, names in os.walk(folder):
                self._own(place)
                for name in names:
                    path = os.path.join(place, name)
                    if not os.path.islink(path):  # a repository's link may lead anywhere
                        self._own(path)

    def _own(self, path: str, *, shared: bool = False) -> None:
        if self._user is not None:
            self._user.own(path, shared=shared)

    def _link(self, path: str, target: str) -> None:
        self._make(os.path.dirname(path))
        if not os.path.lexists(target):
            self._make(target, shared=True)
        try:
            if os.path.islink(path):
                os.unlink(path)
            elif os.path.isdir(path):
                os.rmdir(path)
            os.symlink(target, path)
        except OSError as error:
            raise SetUpError(f"cannot put a link to {target} at {path}, which the image may have ({error.strerror})") from error

    def _file(self, one: Any, text: str) -> None:
        place = self._texts.place(one["path"])
        self._make(os.path.dirname(place))
        content = text.encode()
        if one["encoded"]:
            import base64

            content = base64.b64decode(content)
        try:
            if os.path.lexists(place):
                os.unlink(place)
            # Created for its owner alone: nobody reads a secret before the mode is set.
            with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), one["mode"])
            self._own(place)
        except OSError as error:
            raise SetUpError(f"cannot write the file {place} ({error.strerror})") from error

    def _hosts(self, hosts: Any) -> None:
        if not hosts:
            return
        place = self._texts.place("/etc/hosts")
        try:
            if self._texts.root:
                self._make(os.path.dirname(place))
            with open(place, "a", encoding="utf-8") as file:
                file.write(
                    "\n# hostAliases of the pod\n" + "".join(f"{address}\t{' '.join(names)}\n" for address, names in hosts)
                )
        except OSError as error:
            self._say("warning", f"hostAliases: cannot write /etc/hosts ({error.strerror}); their names are not known here")
