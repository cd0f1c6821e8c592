"""Images, the files they mount at start, and the names they are published under.

Flows in: what ``services.images``, ``image_names`` and ``uploads`` decide. Flows out: the objects they answer from. An image is
its settings and a chain of layers; a layer is a folder, known here by its name only (``machines.layer_store``).
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from modal_proto import api_pb2

from modalflow.emulator.state.ids import new_id
from modalflow.emulator.state.image_layers import ImageSettings

_IMAGE_NAME = re.compile(r"[a-zA-Z0-9._-]{1,63}")
GLOBAL_MOUNT_PREFIXES = ("modal-client-mount-", "python-build-standalone.")
"""Files of Modal's own that clients name and never upload; the interpreter that plays the image takes their place."""


class ImageNameError(ValueError):
    """No name of an image; says what one looks like."""


class MountPathError(ValueError):
    """A file that would not be below the root it is mounted at."""


@dataclass(kw_only=True, slots=True)
class Image:
    """A built image. ``layers`` by name, the lowest first; ``detached``: nothing of this machine's file system is below them.

    ``recorded`` tells in words what of its own definition did not take effect. ``expires_at``: seconds since the epoch, 0: never.
    ``key``: digest of the definition that means this image; empty if none does.
    """

    image_id: str
    definition: api_pb2.Image
    settings: ImageSettings
    builder_version: str
    layers: tuple[str, ...] = ()
    detached: bool = False
    recorded: tuple[str, ...] = ()
    expires_at: float = 0.0
    key: str = ""


@dataclass(frozen=True, slots=True)
class MountedFile:
    """One file: absolute path, content (SHA-256 in hex) and permission bits."""

    path: str
    sha256: str
    mode: int


@dataclass(frozen=True, kw_only=True, slots=True)
class FileMount:
    """Files that a sandbox gets at its start, or a build as its context. ``name``: one of Modal's own, without files."""

    mount_id: str
    files: tuple[MountedFile, ...] = ()
    name: str = ""

    @property
    def checksum(self) -> str:
        """SHA-256 over paths, contents and permissions, in hex."""
        text = "\n".join(f"{file.path}\0{file.sha256}\0{file.mode:o}" for file in sorted(self.files, key=lambda one: one.path))
        return hashlib.sha256(f"{self.name}\n{text}".encode()).hexdigest()


def mounted(files: Iterable[api_pb2.MountFile]) -> FileMount:
    """Return the mount of those files, the same id for the same files. ``MountPathError`` for a path with ``..`` or none."""
    found = tuple(
        MountedFile(_checked_path(one.filename), one.sha256_hex, (one.mode or 0o644) & 0o777 | 0o400)
        for one in sorted(files, key=lambda one: one.filename)
    )
    checksum = FileMount(mount_id="", files=found).checksum
    return FileMount(mount_id=f"mo-{checksum[:22]}", files=found)


def _checked_path(path: str) -> str:
    parts = path.split("/")
    if ".." in parts or "\0" in path or not path.strip("/."):
        raise MountPathError(f"mount: {path!r} is no path of a file below the root; write an absolute path without '..'")
    return posixpath.normpath("/" + path.lstrip("/"))


@dataclass(frozen=True, slots=True)
class Revision:
    """One publishing of a name."""

    revision_id: str
    image_id: str
    published_at: float


@dataclass(kw_only=True, slots=True)
class ImageName:
    """A name with its tag, and what it stood for, the newest last."""

    tag: str
    environment: str
    revisions: list[Revision] = field(default_factory=list)

    @property
    def key(self) -> str:
        """``ENVIRONMENT/NAME:TAG``."""
        return f"{self.environment}/{self.tag}"

    @property
    def image_id(self) -> str:
        """What it stands for now."""
        return self.revisions[-1].image_id

    def publish(self, image_id: str) -> Revision:
        """Let it stand for that image from now on."""
        revision = Revision(new_id("rv"), image_id, time.time())
        self.revisions.append(revision)
        return revision


def split_name(text: str, default_environment: str) -> tuple[str, str]:
    """Read ``[ENVIRONMENT/]NAME[:TAG]`` as (environment, ``NAME:TAG``). ``ImageNameError`` if it is none."""
    prefix, slash, rest = text.rpartition("/")
    name, _, tag = rest.partition(":")
    tag = tag or "latest"
    if (slash and not prefix) or "/" in prefix or name.startswith("im-"):
        raise ImageNameError(f"Invalid image name {text!r}: expected [ENVIRONMENT/]NAME[:TAG]")
    for part in (name, tag):
        if not _IMAGE_NAME.fullmatch(part):
            raise ImageNameError(
                f"Invalid image name {text!r}: expected 1 to 63 of letters, digits, '.', '_' and '-', got {part!r}"
            )
    return prefix or default_environment, f"{name}:{tag}"


def definition_key(
    definition: api_pb2.Image, builder_version: str, mounts: Mapping[str, FileMount], secrets: Iterable[str], salt: str = ""
) -> str:
    """Return the digest that says whether two definitions are the same image.

    Context files count by their content, ``secrets`` (one text a Secret, in order) instead of their ids, which differ with each
    client; ``salt`` sets a build apart that is forced.
    """
    plain = api_pb2.Image()
    plain.CopyFrom(definition)
    plain.ClearField("secret_ids")
    plain.image_registry_config.ClearField("secret_id")
    context = mounts.get(definition.context_mount_id)
    if context is not None:
        plain.context_mount_id = context.checksum
    digest = hashlib.sha256(plain.SerializeToString(deterministic=True))
    for part in (builder_version, salt, *secrets):
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()
