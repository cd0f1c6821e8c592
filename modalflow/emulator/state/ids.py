"""Object ids in Modal's shapes. The client chooses the V1 or V2 protocol of a sandbox by the shape of its id alone."""

from __future__ import annotations

import secrets
import string
import time

_ALPHABET = string.ascii_letters + string.digits
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def new_id(prefix: str) -> str:
    """Return ``<prefix>-`` and 22 alphanumerics, e.g. ``ap-…``."""
    return f"{prefix}-" + "".join(secrets.choice(_ALPHABET) for _ in range(22))


def sandbox_id(*, v2: bool) -> str:
    """V1: 22 alphanumerics. V2: a ULID of 26 (modal 1.6.4 takes any other length than 22 for V2)."""
    if not v2:
        return new_id("sb")
    value = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "sb-" + "".join(_CROCKFORD[(value >> shift) & 31] for shift in range(125, -1, -5))


def task_id(*, v2: bool) -> str:
    """Task ids of V2 sandboxes end in ``V``; those of V1 never do."""
    return new_id("ta") + ("V" if v2 else "0")
