"""Volumes of ``gitRepo``, and what git-sync would bring: repositories that the sandbox clones itself.

Flows in: one volume's source, or a git-sync container. Flows out: a ``ClonePlan`` without its folder, which ``pods.volumes``
knows. ``worker/repositories.py`` carries it out.
"""

from __future__ import annotations

import re
from typing import Any

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.pods.env import PodEnv
from modalflow.translation.pods.merge import ContainerPieces, Piece
from modalflow.translation.report import Place, shown
from modalflow.translation.setup_plan import ClonePlan

_FIELDS = ("repository", "revision", "directory")
_ADDRESS = re.compile(
    r"(?:https?|ssh|git)://(?:\w[\w.-]*@)?\w[\w.-]*(?::\d+)?/\S+|file:///\S+|\w[\w.-]*@\w[\w.-]*:[^\s:]\S*", re.ASCII
)
"""A scheme that git knows itself, or ``user@host:path``; never with a password, never a helper (``ext::``)."""
_REVISION = re.compile(r"[^-\s][^\s~^:?*\[\\]*(?:[~^]\d*)*", re.ASCII)
_SECRETS = (
    "PASSWORD",
    "PASSWORD_FILE",
    "SSH",
    "SSH_KEY_FILE",
    "ASKPASS_URL",
    "COOKIE_FILE",
    "GITHUB_APP_PRIVATE_KEY",
    "USERNAME",
)


def read_git_repo(source: Piece, findings: list[Diagnostic]) -> ClonePlan | None:
    """Read a ``gitRepo`` volume; ``None`` if it cannot be, which is reported."""
    place, content = source.place(findings), source.value
    for field in content:
        if field not in _FIELDS:
            place.at(field).error("unknown-field", "Kubernetes has no such field", did_you_mean(field, _FIELDS))
    return _checked(content.get("repository"), content.get("revision"), content.get("directory"), place)


def _checked(repository: object, revision: object, directory: object, place: Place) -> ClonePlan | None:
    good = True
    if not isinstance(repository, str) or not _ADDRESS.fullmatch(repository):
        text = "an address without a password" if isinstance(repository, str) and "@" in repository else "an address"
        example = 'write e.g. "https://github.com/me/data.git"'
        place.at("repository").error("bad-repository", f"expected {text} that git clones by itself", example)
        good = False
    if revision and (not isinstance(revision, str) or not _REVISION.fullmatch(revision)):
        place.at("revision").error("bad-repository", f"expected a branch, tag or commit, got {shown(revision)}")
        good = False
    if directory and (not isinstance(directory, str) or not _is_inside(directory)):
        place.at("directory").error("bad-sub-path", f"expected a path inside the volume, got {shown(directory)}")
        good = False
    if not good:
        return None
    return ClonePlan(repository=str(repository), revision=str(revision or ""), directory=str(directory or ""))


def _is_inside(path: str) -> bool:
    return path.isprintable() and not path.startswith(("/", "-")) and ".." not in path.split("/")


def read_git_sync(container: ContainerPieces, env: PodEnv, mount_path: str, findings: list[Diagnostic]) -> ClonePlan | None:
    """Return what a git-sync container would bring into its mount at ``mount_path``; ``None`` if that cannot be told or had."""
    said = {**_of_env(env), **_of_args(container)}
    place = container.whole.place(findings)
    if secret := next((name for name in _SECRETS if said.get(name)), None):
        place.error("refused-field", f"clones with credentials ({secret}), which is not done here", "clone it in the task")
        return None
    root = str(said.get("ROOT") or mount_path)
    repository = str(said.get("REPO") or "")
    link = str(said.get("LINK") or said.get("DEST") or repository.rstrip("/").rpartition("/")[2].removesuffix(".git"))
    inside = f"{root.rstrip('/')}/{link}".removeprefix(mount_path.rstrip("/") + "/")
    revision = said.get("REF") or (said.get("REV") if said.get("REV") != "HEAD" else None) or said.get("BRANCH") or ""
    return _checked(repository, revision, inside, place)


def _of_env(env: PodEnv) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for prefix in ("GIT_SYNC_", "GITSYNC_"):
        found |= {name.removeprefix(prefix): value for name, value in env.values.items() if name.startswith(prefix)}
    return found


def _of_args(container: ContainerPieces) -> dict[str, Any]:
    piece = container.fields.get("args")
    words = piece.value if piece is not None and isinstance(piece.value, list) else []
    found: dict[str, Any] = {}
    for index, word in enumerate(words):
        if isinstance(word, str) and word.startswith("-"):
            name, has_value, value = word.lstrip("-").partition("=")
            following = words[index + 1] if index + 1 < len(words) else "true"
            found[name.upper().replace("-", "_")] = value if has_value else following
    return found
