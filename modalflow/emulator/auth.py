"""Who may call: tokens of the control plane, and the signed tokens that it hands out for the command router and the block store.

Flows in: metadata of a call. Flows out: the workspace it may act for, which is called by its first token's id. The signing key
follows from the credentials, so what a client holds stays valid over a restart with the same ones.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass

from modalflow.emulator import jwt
from modalflow.emulator.config import EmulatorConfig

AUTH_TOKEN_SECONDS = 1200
ROUTER_TOKEN_SECONDS = 3600


class RefusedError(Exception):
    """The caller is not who it should be; the text is fit for the wire."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskAccess:
    """One task of one workspace, which is all that a token of the command router opens."""

    workspace: str
    task_id: str


class Authority:
    """Checks and mints."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.any_token = config.any_token
        self.token_id = config.token_id or "ak-" + secrets.token_hex(11)
        self.token_secret = config.token_secret or "as-" + secrets.token_hex(22)
        self._further: dict[str, tuple[str, str]] = {}
        self._revoked: set[str] = set()
        self._key = hashlib.sha256(f"modalflow emulator\0{self.token_id}\0{self.token_secret}".encode()).digest()

    def accept(self, token_id: str, token_secret: str, workspace: str) -> None:
        """Accept a further token of that workspace, until this emulator restarts."""
        self._further[token_id] = (token_secret, workspace)
        self._revoked.discard(token_id)

    def revoke(self, token_id: str) -> None:
        """Accept this token no more, until this emulator restarts."""
        self._revoked.add(token_id)

    def workspace_of(self, metadata: Mapping[str, object]) -> str:
        """Return the workspace of the caller's token. ``RefusedError`` unless it is one that is accepted."""
        token_id = _text(metadata.get("x-modal-token-id"))
        token_secret = _text(metadata.get("x-modal-token-secret"))
        if not token_id or not token_secret:
            raise RefusedError("Token missing. Could not authenticate client.")
        if token_id in self._revoked:
            raise RefusedError("Token revoked. Could not authenticate client.")
        if (further := self._further.get(token_id)) is not None and _equal(token_secret, further[0]):
            return further[1]
        if self.any_token:
            return token_id
        right = _equal(token_id, self.token_id)
        if not (_equal(token_secret, self.token_secret) and right):
            raise RefusedError("Invalid token: this emulator accepts only the one it was started with")
        return token_id

    def mint(self, workspace: str, *, seconds: int, **claims: str) -> str:
        """Return a JWT for that workspace. The client reads ``exp`` only."""
        return jwt.signed({**claims, "ws": workspace, "exp": time.time() + seconds}, self.signature)

    def task_of(self, token: str) -> TaskAccess:
        """Return what a command router's JWT of ours is good for. ``RefusedError`` if it is forged, too old or another kind."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature.encode(), self.signature(signed).encode()):
            raise RefusedError("Invalid command router token")
        body = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        if body["exp"] < time.time():
            raise RefusedError("Command router token has expired")
        if "task" not in body:
            raise RefusedError("Invalid command router token")
        return TaskAccess(workspace=str(body["ws"]), task_id=str(body["task"]))

    def bearer(self, metadata: Mapping[str, object]) -> TaskAccess:
        """Return what an ``authorization: Bearer`` header is good for. ``RefusedError`` without a good one."""
        kind, _, token = _text(metadata.get("authorization")).partition(" ")
        if kind.lower() != "bearer" or not token:
            raise RefusedError("Command router token missing")
        return self.task_of(token)

    def signature(self, text: str) -> str:
        """Return the signature of ``text`` in URL-safe characters."""
        return base64.urlsafe_b64encode(hmac.digest(self._key, text.encode(), "sha256")).rstrip(b"=").decode()


def _equal(given: str, known: str) -> bool:
    return hmac.compare_digest(given.encode(), known.encode())


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
