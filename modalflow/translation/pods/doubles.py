"""Entries that two layers, or one, write twice: lists of pods are appended, and Kubernetes refuses what then stands there twice.

Flows in: two ``Piece``s of the same list. Flows out: findings at the later one, which ``pods.volumes`` and ``pods.env`` leave
out.
"""

from __future__ import annotations

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.merge import Piece

REFUSED = "lists of pods are appended, and Kubernetes refuses it twice"
INSTEAD = 'choose another one, or write {"modal": {"merge": "strategic"}} to replace it'


def report_volume_twice(first: Piece, again: Piece, findings: list[Diagnostic]) -> None:
    """Report a volume whose name is taken: harmless if both say the same."""
    place, other = again.place(findings), first.place(findings).origin
    if first.value == again.value:
        place.notice("duplicate-volume", f"says the same as {other}, which is used")
    else:
        place.error("duplicate-volume", f"the name is that of {other}: {REFUSED}", INSTEAD)


def report_mount_twice(first: Piece, again: Piece, findings: list[Diagnostic]) -> None:
    """Report a mount at a path that is taken: harmless if both say the same."""
    place, other = again.place(findings), first.place(findings).origin
    if first.value == again.value:
        place.notice("duplicate-mount", f"says the same as {other}, which is used")
    else:
        place.error("duplicate-mount", f"the mountPath is that of {other}: {REFUSED}", INSTEAD)


def without_doubles(pieces: list[Piece], findings: list[Diagnostic]) -> list[Piece]:
    """Return the entries of an ``envFrom`` that no earlier one repeats; each repetition is a notice."""
    found: list[Piece] = []
    for piece in pieces:
        first = next((known for known in found if known.value == piece.value), None)
        if first is None:
            found.append(piece)
        else:
            piece.place(findings).notice("duplicate-env-from", f"says the same as {first.place(findings).origin}")
    return found
