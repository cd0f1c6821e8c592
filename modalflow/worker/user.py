"""Makes the sandbox's process the user that the pod asked for, and hands it what was made as root.

Part of the sandbox's program, see ``set_up``. Flows in: ``user`` of the set-up's JSON (``UserPlan``). Kubernetes' rules: a user
without a group has that of /etc/passwd, else 0; its groups of /etc/group count too, unless the policy is Strict. A Modal Volume
may ignore chown (its FUSE has one owner), so there the mode is widened instead.
"""

# Imports stand where they are used: a sandbox without a user in its pod loads none.
# ruff: noqa: S108

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from modalflow.worker.errors import EXIT_ROOT, SetUpError

NOBODY_KNOWN = "default"
"""What a user is called whom /etc/passwd does not know, as in apache/airflow's images: Airflow asks for its name."""


class User:
    """Who the task is to be: ``uid``, ``gid``, all its ``groups``, the ``home`` of /etc/passwd, if it is there."""

    def __init__(self, plan: Any) -> None:
        import pwd

        start = os.geteuid()
        self._plan = plan
        self.uid: int = plan.get("uid", start)
        try:
            entry = pwd.getpwuid(self.uid)
        except KeyError:
            entry = None
        self.known = entry is not None
        self.home = entry.pw_dir if entry is not None else ""
        other = self.uid != start
        self.gid: int = plan.get("gid", (entry.pw_gid if entry is not None else 0) if other else os.getegid())
        self.fs_group: int | None = plan.get("fs_group")
        groups = {self.gid, *plan.get("groups", ())}
        if self.fs_group is not None:
            groups.add(self.fs_group)
        if not plan.get("strict"):
            groups.update(os.getgrouplist(entry.pw_name, self.gid) if other and entry else () if other else os.getgroups())
        self.groups = sorted(groups)

    def check(self) -> None:
        """Raise if root is what this comes to, against the pod's word."""
        if self._plan.get("non_root") and (self.uid if os.geteuid() == 0 else os.geteuid()) == 0:
            text = "runAsNonRoot: the image's user is root; set USER in the image or runAsUser"
            raise SetUpError(text, EXIT_ROOT)

    @property
    def arguments(self) -> Any:
        """How ``subprocess`` starts a process as this user; none where the sandbox does not start as root."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups} if os.geteuid() == 0 else {}

    def own(self, path: str, *, shared: bool = False) -> None:
        """Hand over one file or folder that root made. ``shared``: everybody may write it, as in a volume of Kubernetes."""
        if os.geteuid() != 0:
            return
        group = self.gid if self.fs_group is None else self.fs_group
        folder = os.path.isdir(path)
        try:
            os.chown(path, self.uid, group)
            status = os.stat(path)
            refused = status.st_uid != self.uid
        except OSError:
            refused, status = True, os.stat(path)
        mode = status.st_mode & 0o7777
        if refused or (shared and folder):
            mode |= 0o777 if folder else 0o666
        if self.fs_group is not None and not refused:
            mode |= 0o2070 if folder else mode >> 3 & 0o070
        if mode != status.st_mode & 0o7777:
            os.chmod(path, mode)

    def become(self, environ: Any, say: Callable[[str, str], None]) -> None:
        """Go on as this user; where that cannot be, say so."""
        start, group = os.geteuid(), os.getegid()
        if start != 0:
            self._say_what_stays(start, group, say)
            return
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)
        if self.uid != start:
            self.adapt(environ)

    def adapt(self, environ: Any) -> None:
        """Give the variables of a process what belongs to this user: a home that it can enter, and a name."""
        home = environ.get("HOME")
        if not home or not self._may_enter(home):
            environ["HOME"] = self.home if self.home and os.path.isdir(self.home) else environ.get("TMPDIR") or "/tmp"
        if not self.known:
            environ["USER"] = environ["LOGNAME"] = NOBODY_KNOWN

    def _may_enter(self, folder: str) -> bool:
        if os.geteuid() == self.uid:
            return os.access(folder, os.R_OK | os.X_OK)
        try:
            status = os.stat(folder)
        except OSError:
            return False
        bits = 0o500 if status.st_uid == self.uid else 0o050 if status.st_gid in self.groups else 0o005
        return status.st_mode & bits == bits

    def _say_what_stays(self, start: int, group: int, say: Callable[[str, str], None]) -> None:
        lacking = sorted(set(self._plan.get("groups", ())) - set(os.getgroups()))
        if self.fs_group is not None and self.fs_group not in os.getgroups():
            lacking.append(self.fs_group)
        wrong = [f"runAsUser {self.uid}"] if self.uid != start else []
        wrong += [f"runAsGroup {self._plan['gid']}"] if self._plan.get("gid", group) != group else []
        wrong += [f"the groups {', '.join(map(str, lacking))}"] if lacking else []
        if wrong:
            text = (
                f"cannot be given: this image's user is {start}, and only root can change that; the task runs as {start}:{group}"
            )
            say("warning", f"{' and '.join(wrong)} {text}")
