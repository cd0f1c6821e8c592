"""Image references: what counts as one, and which of them can change under a running deployment."""

from __future__ import annotations

import re
from functools import lru_cache

from modalflow.translation.report import Place, kind_of, shown

AUTO = "auto"
"""The image that modalflow describes itself."""
NAMED = f"{AUTO}:"
"""Begins the name of an image of ``[modal_executor] images``."""
_REFERENCE = re.compile(
    r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?::\d{1,5}(?=/))?(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*"
    r"(?P<tag>:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?P<digest>@sha256:[0-9a-f]{64})?",
    re.ASCII,
)
_LONGEST = 512


def read_image(value: object, place: Place) -> str | None:
    """Read ``auto`` or a registry reference; a reference that may move is accepted with a warning."""
    if not isinstance(value, str):
        place.error("bad-image", f'expected "auto" or an image reference, got {kind_of(value)}')
        return None
    if value == AUTO:
        return value
    match = _matched(value) if len(value) <= _LONGEST else None
    if match is None:
        place.error("bad-image", f"{shown(value)} is no image reference", 'write e.g. "ghcr.io/me/train:1.2"')
        return None
    tag = match.group("tag")
    if match.group("digest") is None and tag in {None, ":latest"}:
        place.warn(
            "moving-image",
            f"{shown(value)} names no fixed version; Modal keeps the first one it pulls",
            "write a version tag or a digest",
        )
    return value


def is_reference(text: str) -> bool:
    """Whether ``text`` is a registry reference, and none of modalflow's own names."""
    return text != AUTO and not text.startswith(NAMED) and len(text) <= _LONGEST and _matched(text) is not None


@lru_cache(maxsize=256)  # a deployment has few images
def _matched(reference: str) -> re.Match[str] | None:
    return _REFERENCE.fullmatch(reference)


def read_registry_secret(value: object, place: Place) -> str | None:
    """Read the name of the Modal Secret that a private registry needs."""
    return read_object_name(value, place, "Secret")


def read_entrypoint(value: object, place: Place) -> tuple[str, ...] | None:
    """Read a list of words that replaces the image's ENTRYPOINT; ``[]`` clears it."""
    if not isinstance(value, (list, tuple)):
        place.error(
            "bad-entrypoint", f"expected a list of words, got {kind_of(value)}", 'write e.g. ["/usr/bin/env"], or [] for none'
        )
        return None
    bad = [index for index, word in enumerate(value) if not isinstance(word, str) or "\0" in word]
    for index in bad:
        got = shown(value[index]) if isinstance(value[index], str) else kind_of(value[index])
        place.at(index).error("bad-entrypoint", f"expected text without NUL characters, got {got}")
    return None if bad else tuple(value)


_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)


def read_object_name(value: object, place: Place, kind: str) -> str | None:
    """Read the name of a Modal Secret or Volume (modal 1.6.4: letters, digits, ``-_.``, at most 64)."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    got = shown(value) if isinstance(value, str) else kind_of(value)
    place.error(
        "bad-name", f"expected the name of a Modal {kind}, got {got}", "a name has letters, digits, '-', '_' and '.', at most 64"
    )
    return None
