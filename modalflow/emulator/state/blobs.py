"""Content on disk, addressed by SHA-256: the 8 MiB blocks of Volume files, and whole uploads.

Flows in: bytes. Flows out: bytes, and whether a content is here. No meaning is attached to them; ``volume_tree`` names them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from modalflow.emulator.state.state_folder import StateError

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
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, digest: str) -> Path:
        """Where the content of that SHA-256 (hex) is, or would be. ``ValueError`` if it is no digest."""
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"not a SHA-256 in hex: {digest!r}")
        return self._folder / digest[:2] / digest

    def has(self, digest: str) -> bool:
        """Whether the content is here."""
        return self.path(digest).exists()

    def put(self, data: bytes) -> str:
        """Keep ``data`` and return its digest. ``StateError`` if it cannot be written; nothing is left of it then."""
        digest = hashlib.sha256(data).hexdigest()
        target = self.path(digest)
        if target.exists():
            return digest
        try:
            target.parent.mkdir(exist_ok=True)
            self._write(target, data)
        except OSError as error:
            raise StateError(f"{str(self._folder)!r} could not be written: {error.strerror}") from error
        return digest

    def _write(self, target: Path, data: bytes) -> None:
        """Make ``target`` whole or not at all."""
        fd, name = tempfile.mkstemp(dir=target.parent)
        temporary = Path(name)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

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

    def digest(self, blocks: tuple[str, ...], size: int) -> str:
        """Return the SHA-256 (hex) of the file of ``size`` bytes that ``blocks`` make; blocks."""
        whole = hashlib.sha256()
        for number, block in enumerate(blocks):
            whole.update(self.get(block).ljust(min(BLOCK_SIZE, size - number * BLOCK_SIZE), b"\0"))
        return whole.hexdigest()

    def get(self, digest: str) -> bytes:
        """Return the content; ``FileNotFoundError`` if it is not here."""
        return self.path(digest).read_bytes()

    def collect(self, keep: Collection[str]) -> int:
        """Remove every content but those, and what an interrupted ``put`` left; return how many. Nobody may be writing."""
        found = [path for path in self._folder.glob("??/*") if path.name not in keep]
        for path in found:
            path.unlink()
        return len(found)

    def put_descriptor(self, fd: int, size: int) -> tuple[tuple[str, ...], int]:
        """Keep the first ``size`` bytes of an open file as blocks, as ``put_file`` does; holes in it cost no reading."""
        blocks: list[str] = []
        data_at = _next_data(fd, 0)
        for start in range(0, size, BLOCK_SIZE):
            if data_at is not None and data_at < start:
                data_at = _next_data(fd, start)
            if data_at is None or data_at >= start + BLOCK_SIZE:
                blocks.append(self.put(b""))
                continue
            data = os.pread(fd, min(BLOCK_SIZE, size - start), start)
            blocks.append(self.put(data.rstrip(b"\0")))
        return tuple(blocks), size

    def write_to(self, fd: int, blocks: tuple[str, ...], size: int) -> None:
        """Write the file of ``size`` bytes that ``blocks`` make into an open, empty one."""
        for number, digest in enumerate(blocks):
            os.lseek(fd, number * BLOCK_SIZE, os.SEEK_SET)
            with self.path(digest).open("rb") as source:
                _copy(source.fileno(), fd)
        os.ftruncate(fd, size)


def _next_data(fd: int, start: int) -> int | None:
    """Return where the file's next byte that is no hole is; ``None`` if there is none."""
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return None
        raise


def _copy(source: int, target: int) -> None:
    """Copy without the bytes passing through this process."""
    while os.sendfile(target, source, None, BLOCK_SIZE):
        pass
