"""What one copy of a bundle holds: names, sizes, modes and the hashes of the content. Pure.

Flows in: what ``reading`` found. Flows out: a ``Manifest``, whose digest names the copy, for ``copies`` and the gateway.
A block is what a Modal Volume of version 2 stores: 8 MiB of a file, the last one shorter, without zeros at its end (modal 1.6.4,
``_utils/blob_utils.py``). Equal blocks are sent once, whatever file, folder or bundle they belong to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

BLOCK_SIZE = 8 * 1024 * 1024
"""Bytes."""
FORMAT = b"modalflow dag code 1\n"
"""Changes whenever equal content is to be another copy."""
DIGEST_LENGTH = 32
"""Hex digits of a copy's name: 128 bits, and with the day it fits a tag of 63 characters."""
MIB = 1024 * 1024


class UnsafeNameError(ValueError):
    """A name that leads out of the folder, or that no Volume can hold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeFile:
    """A file of a copy. ``path`` is relative to the bundle's root, with slashes; ``blocks`` are SHA-256, 32 bytes each."""

    path: str
    size: int
    executable: bool = False
    blocks: tuple[bytes, ...] = ()

    @property
    def mode(self) -> int:
        """Permission bits on the Volume: everybody reads, for a task may run as any user."""
        return 0o755 if self.executable else 0o644


@dataclass(frozen=True, slots=True)
class Manifest:
    """All files of a copy, by path."""

    files: tuple[CodeFile, ...]
    digest: str = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", _digest(self.files))

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def manifest_of(files: Iterable[CodeFile]) -> Manifest:
    """Return the manifest of ``files``, given in any order. Raises ``UnsafeNameError``, also for a path that is given twice."""
    ordered = tuple(sorted(files, key=lambda file: file.path))
    for before, file in zip((None, *ordered), ordered, strict=False):
        check_name(file.path)
        if before is not None and before.path == file.path:
            raise UnsafeNameError(f"{file.path!r} is there twice")
    return Manifest(ordered)


def check_name(path: str) -> None:
    """Refuse what is no plain relative path. Raises ``UnsafeNameError``."""
    if not path or path.startswith("/") or "\0" in path or any(part in {"", ".", ".."} for part in path.split("/")):
        raise UnsafeNameError(f"{path!r} is not a path inside the folder")
    if not is_text(path):
        raise UnsafeNameError(f"{path!r} is not UTF-8")


def is_text(name: str) -> bool:
    """Whether a name of the file system can be said to Modal."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def block_count(size: int) -> int:
    """Blocks of a file of ``size`` bytes."""
    return -(-size // BLOCK_SIZE)


def block_content(block: bytes) -> bytes:
    """Return what of a block is stored."""
    return block.rstrip(b"\0")


def block_hash(block: bytes) -> bytes:
    """Return the hash that a Volume knows a block by."""
    return hashlib.sha256(block_content(block)).digest()


def _digest(files: Iterable[CodeFile]) -> str:
    whole = hashlib.sha256(FORMAT)
    for file in files:
        # Lengths before the text: no two manifests make the same bytes.
        path = file.path.encode()
        whole.update(b"%d %d %d %d\n" % (len(path), file.size, file.executable, len(file.blocks)))
        whole.update(path)
        whole.update(b"".join(file.blocks))
    return whole.hexdigest()[:DIGEST_LENGTH]


def amount(size: int) -> str:
    """Write a number of bytes for people."""
    for unit, bytes_of_it in (("GiB", MIB * 1024), ("MiB", MIB), ("KiB", 1024)):
        if size >= bytes_of_it:
            return f"{size / bytes_of_it:.1f} {unit}"
    return f"{size} bytes"
