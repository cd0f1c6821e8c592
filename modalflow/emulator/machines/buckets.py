"""Cloud buckets as folders of this machine: what stands in for S3, R2 and Cloud Storage.

Flows in: a sandbox's ``CloudBucketMount``. Flows out: the bucket's folder itself at its mount path, so that sandboxes see each
other's writes at once, as with a bucket; a read-only mount is a copy, as of a Volume. ``furnishing`` calls it. Credentials are
looked up but open nothing: in a workspace every bucket exists.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Mapping
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.containers import Container
from modalflow.emulator.machines.untrusted_folder import Descent, UntrustedFolder
from modalflow.emulator.state.volume_tree import parts_of

_CHUNK = 8 * 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


class BucketError(ValueError):
    """A mount that is not to be had; the text is fit for the wire."""


class Buckets:
    """The folders of all buckets: those of ``given`` by name, the others below ``folder``, each workspace's apart.

    Those of the workspace ``own``, the emulator's own token's, are ``folder / name``.
    """

    def __init__(self, folder: Path, given: Mapping[str, Path], own: str) -> None:
        self._folder = folder
        self._given = dict(given)
        self._own = own

    def folder(self, name: str, workspace: str) -> Path:
        """Return the folder of a bucket, made if it is not there. ``BucketError`` for what is no name of a bucket."""
        if not _NAME.fullmatch(name) or ".." in name:
            raise BucketError(f"Invalid bucket name {name!r}")
        apart = self._folder
        if workspace != self._own:
            apart = self._folder / ".workspaces" / hashlib.sha256(workspace.encode()).hexdigest()[:32]
        folder = self._given.get(name, apart / name)
        # Root's folder can be entered by all: what is in it is found by those only who know its name.
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o711)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def mount(self, wanted: api_pb2.CloudBucketMount, container: Container, workspace: str) -> None:
        """Show the bucket, or its part under the key prefix, at its mount path; a read-only one is a copy.

        A bucket holds folders and files; a link that a sandbox made in it is followed nowhere. ``OSError`` if one is in the way.
        """
        folder = self.folder(wanted.bucket_name, workspace)
        prefix = parts_of(wanted.key_prefix)
        shown = UntrustedFolder(folder.joinpath(*prefix))
        if not wanted.read_only:
            shown.make(below=folder)
            container.bind(shown.path, wanted.mount_path)
            return
        copy = UntrustedFolder(container.mount_folder(wanted.mount_path, read_only=True))
        copy.make(below=container.root)
        with UntrustedFolder(folder).opened() as source, copy.opened() as target:
            base = "/".join(prefix)
            if source.has_folder(base):
                _copy(source, base, target)


def _copy(source: Descent, base: str, target: Descent) -> None:
    """Copy folders and files; a bucket has nothing else."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        for name, status in source.entries(posixpath.join(base, prefix).rstrip("/")):
            path = posixpath.join(prefix, name)
            if stat.S_ISDIR(status.st_mode):
                target.make_folder(path)
                pending.append(path)
            elif (file := source.open_file(posixpath.join(base, path))) is not None:
                try:
                    _copy_file(file, path, target, status)
                finally:
                    os.close(file)


def _copy_file(file: int, path: str, target: Descent, status: os.stat_result) -> None:
    def write(fd: int) -> None:
        while os.sendfile(fd, file, None, _CHUNK):
            pass

    target.write_file(path, write, mode=stat.S_IMODE(status.st_mode), mtime_ns=status.st_mtime_ns)
