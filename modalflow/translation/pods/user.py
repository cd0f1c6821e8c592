"""Who a pod's task runs as: runAsUser, runAsGroup, supplementalGroups, fsGroup and runAsNonRoot.

Flows in: the parts of the security contexts of pod and container, the pod's first. Flows out: a ``UserPlan``, which the sandbox
itself carries out (``worker/user.py``): Modal has no parameter for it.
"""

from __future__ import annotations

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.pods.merge import Piece
from modalflow.translation.report import shown
from modalflow.translation.setup_plan import UserPlan

USER_FIELDS = frozenset({"runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "fsGroup", "runAsNonRoot"})
LARGEST_ID = 2**31 - 1
"""Kubernetes' own bound."""

Chosen = dict[str, Piece]
"""The piece that decides each field."""


def choose(chosen: Chosen, part: Piece, findings: list[Diagnostic]) -> None:
    """Take one field; what came before it, from the pod, is overruled by the container's own."""
    name = str(part.path[-1])
    if name in chosen:
        chosen[name].place(findings).notice("overruled-user", f"the container's own {name} holds")
    chosen[name] = part


def read_user(chosen: Chosen, findings: list[Diagnostic]) -> UserPlan | None:
    """Return the user, ``None`` if nothing is asked for. What is wrong is reported and left out."""
    uid = _id(chosen.get("runAsUser"), findings)
    plan = UserPlan(
        uid=uid,
        gid=_id(chosen.get("runAsGroup"), findings),
        groups=_groups(chosen.get("supplementalGroups"), findings),
        fs_group=_id(chosen.get("fsGroup"), findings),
        strict=_is_strict(chosen.get("supplementalGroupsPolicy"), findings),
        non_root=_is_non_root(chosen.get("runAsNonRoot"), uid, findings),
    )
    return plan if plan != UserPlan() else None


def _id(piece: Piece | None, findings: list[Diagnostic]) -> int | None:
    if piece is None:
        return None
    if _is_id(piece.value):
        return int(piece.value)
    piece.place(findings).error("bad-user", f"expected a number from 0 to {LARGEST_ID}, got {shown(piece.value)}", "write 50000")
    return None


def _groups(piece: Piece | None, findings: list[Diagnostic]) -> tuple[int, ...]:
    if piece is None:
        return ()
    if isinstance(piece.value, list) and all(_is_id(group) for group in piece.value):
        return tuple(piece.value)
    piece.place(findings).error("bad-user", f"expected a list of numbers from 0 to {LARGEST_ID}", "write [1000]")
    return ()


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_ID


def _is_strict(piece: Piece | None, findings: list[Diagnostic]) -> bool:
    if piece is None or piece.value in {"Merge", "Strict"}:
        return piece is not None and piece.value == "Strict"
    piece.place(findings).error("bad-user", f"expected Merge or Strict, got {shown(piece.value)}")
    return False


def _is_non_root(piece: Piece | None, uid: int | None, findings: list[Diagnostic]) -> bool:
    if piece is None:
        return False
    if not isinstance(piece.value, bool):
        piece.place(findings).error("bad-user", f"expected true or false, got {shown(piece.value)}")
    elif not piece.value:
        piece.place(findings).notice("no-effect", "this is how a sandbox is anyway")
    elif uid == 0:
        piece.place(findings).error("root-user", "the pod also says runAsUser 0, which is root", "write another runAsUser")
    return piece.value is True
