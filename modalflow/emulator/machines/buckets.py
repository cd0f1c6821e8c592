"""Cloud buckets as folders of this machine: what stands in for S3, R2 and Cloud Storage.

Flows in: a sandbox's ``CloudBucketMount``. Flows out: its mount path as a link to the bucket's folder, so that sandboxes see each
other's writes at once, as with a bucket; a read-only mount is a copy, as of a Volume. ``sandboxes`` calls it. Credentials are
looked up but open nothing: every bucket exists and is everybody's.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from modal_proto import api_pb2

from modalflow.emulator.machines.containers import Container
from modalflow.emulator.state.volume_tree import parts_of

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")


class BucketError(ValueError):
    """A mount that is not to be had; the text is fit for the wire."""


class Buckets:
    """The folders of all buckets: those of ``given`` by name, the others below ``folder``."""

    def __init__(self, folder: Path, given: Mapping[str, Path]) -> None:
        self._folder = folder
        self._given = dict(given)

    def folder(self, name: str) -> Path:
        """Return the folder of a bucket, made if it is not there. ``BucketError`` for what is no name of a bucket."""
        if not _NAME.fullmatch(name) or ".." in name:
            raise BucketError(f"Invalid bucket name {name!r}")
        folder = self._given.get(name, self._folder / name)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def mount(self, wanted: api_pb2.CloudBucketMount, container: Container) -> None:
        """Show the bucket, or its part under the key prefix, at its mount path; a read-only one is a copy."""
        folder = self.folder(wanted.bucket_name).joinpath(*parts_of(wanted.key_prefix))
        if not wanted.read_only:
            folder.mkdir(parents=True, exist_ok=True)
            container.bind(folder, wanted.mount_path)
            return
        place = container.mount_folder(wanted.mount_path)
        place.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            shutil.copytree(folder, place, dirs_exist_ok=True)
