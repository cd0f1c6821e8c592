"""Finds workload tokens wherever a task, or somebody after it, could read one.

A workload token is a JWT whose payload has a ``sub``; the search decodes every JWT-shaped text it meets and reports those
whose subject is wanted. It says where (never the token).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

JWT = re.compile(rb"[A-Za-z0-9_-]{8,}\.([A-Za-z0-9_-]{8,})\.[A-Za-z0-9_-]*")
LARGEST_FILE = 64 * 1024 * 1024


def _subject(payload: bytes) -> str | None:
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + b"=" * (-len(payload) % 4)))
    except (binascii.Error, ValueError):
        return None
    return str(claims.get("sub")) if isinstance(claims, dict) else None


def holds_token(content: bytes, subjects: frozenset[str]) -> bool:
    """Whether a token of one of these subjects stands in ``content``."""
    return any(_subject(match.group(1)) in subjects for match in JWT.finditer(content))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, PermissionError):  # a process that ended, or a place that nobody may read
        return b""


def _process_files(name: str) -> Iterator[Path]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            yield folder / name


def _folder_files(folder: Path) -> Iterator[Path]:
    """All files below, as far as they stay: a sandbox that ends takes its folder along."""
    for root, _, names in os.walk(folder):  # which passes over folders that have gone
        for path in (Path(root) / name for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and not path.is_symlink() and path.stat().st_size <= LARGEST_FILE:
                    yield path


def search(subjects: Iterable[str], *, folders: Iterable[Path], records: Mapping[str, str]) -> list[str]:
    """Return every place that holds a token of ``subjects``: ``/proc`` cmdlines and environs, files, named records (tags…)."""
    wanted = frozenset(subjects)
    places = [*_process_files("cmdline"), *_process_files("environ")]
    for folder in folders:
        places += _folder_files(folder)
    found = [str(path) for path in places if holds_token(_read(path), wanted)]
    return found + [name for name, text in records.items() if holds_token(text.encode(), wanted)]
