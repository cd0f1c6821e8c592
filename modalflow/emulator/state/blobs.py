"""Content on disk, addressed by SHA-256: the 8 MiB blocks of Volume files, and whole uploads.

Flows in: bytes. Flows out: bytes, and whether a content is here. No meaning is attached to them; ``volume_tree`` names them.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, BinaryIO

BLOCK_SIZE = 8 * 1024 * 1024
"""Bytes of one block of a Volume file (``modal.volume.BLOCK_SIZE`` in 1.6.4); the last one of a file may be shorter."""

_DIGEST = re.compile(r"[0-9a-f]{64}")


class BlobStore:
    """A folder of contents. Safe to use from several threads: a content appears whole or not at all.

    With ``durable`` that also holds over a power cut.
    """

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Where the content of that SHA-256 (hex) is, or would be. ``ValueError`` if it is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 in hex: {digest!r}")
        return self._folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the content is here."""
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Keep ``data`` and return its digest."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        if target.exists():
            return digest
        target.parent.mkdir(exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=target.parent)
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(target)
        return digest

    def put_file(self, file: BinaryIO) -> tuple[tuple[str, ...], int]:
        """Keep a whole file as blocks; return their digests and the size in bytes.

        A block is kept without its trailing zero bytes, as modal 1.6.4 hashes and uploads it.
        """
        blocks: list[str] = []
        size = 0
        while data := file.read(BLOCK_SIZE):
            blocks.append(self.put(data.rstrip(b"\0")))
            size += len(data)
        return tuple(blocks), size

    def get(self, digest: str) -> bytes:
        """Return the content; ``FileNotFoundError`` if it is not here."""
        return self.path(digest).read_bytes()

    def collect(self, keep: Collection[str]) -> int:
        """Remove every content but those, and what an interrupted ``put`` left; return how many. Nobody may be writing."""
        found = [path for path in self._folder.glob("??/*") if path.name not in keep]
        for path in found:
            path.unlink()
        return len(found)

    def write_file(self, blocks: tuple[str, ...], size: int, target: Path, *, mode: int, mtime_ns: int) -> None:
        """Write the file of ``size`` bytes that ``blocks`` make, whole or not at all, replacing what is there."""
        fd, temporary = tempfile.mkstemp(dir=target.parent, prefix=".modal-")
        try:
            with os.fdopen(fd, "wb", buffering=0) as file:
                for number, digest in enumerate(blocks):
                    os.lseek(file.fileno(), number * BLOCK_SIZE, os.SEEK_SET)
                    with self.path(digest).open("rb") as source:
                        _copy(source, file)
                os.ftruncate(file.fileno(), size)
                os.fchmod(file.fileno(), mode)
            os.utime(temporary, ns=(mtime_ns, mtime_ns))
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    """Copy without the bytes passing through this process."""
    while os.sendfile(target.fileno(), source.fileno(), None, BLOCK_SIZE):
        pass
