"""Connect tokens: signed texts that open one port of one sandbox, as long as it lives.

Flows in: a task, a port and the caller's metadata. Flows out: a token, and what it opens. ``connect_proxy`` asks for each.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Callable

DEFAULT_PORT = 8080
MAX_METADATA_CHARACTERS = 512
"""Modal's documented limit (read November 2026)."""


class ConnectTokenError(ValueError):
    """A token that cannot be made; the text says why."""


def mint(sign: Callable[[str], str], *, task_id: str, port: int, metadata: str) -> str:
    """Return a token. ``ConnectTokenError`` for metadata that is too long or fits no header, or a port that is none."""
    if not 1 <= port <= 65535:  # noqa: PLR2004 -- ports
        raise ConnectTokenError(f"Invalid port {port}: expected 1 to 65535")
    if len(metadata) >= MAX_METADATA_CHARACTERS:
        raise ConnectTokenError(f"user_metadata: expected less than {MAX_METADATA_CHARACTERS} characters, got {len(metadata)}")
    if not (metadata.isascii() and metadata.isprintable()):
        raise ConnectTokenError("user_metadata: expected printable ASCII, as it is sent in a header; pass a dict for JSON")
    body = base64.urlsafe_b64encode(json.dumps([task_id, port, metadata]).encode()).rstrip(b"=").decode()
    return f"{body}.{sign(_signed(body))}"


def read(sign: Callable[[str], str], token: str) -> tuple[str, int, str] | None:
    """Return task id, port and metadata of a token of ours, ``None`` for any other text."""
    body, _, signature = token.partition(".")
    if not token.isascii():
        return None
    if not hmac.compare_digest(signature.encode(), sign(_signed(body)).encode()):
        return None
    try:
        task_id, port, metadata = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error):
        return None
    return str(task_id), int(port), str(metadata)


def _signed(body: str) -> str:
    """Return what is signed: no other signed text of ours begins so, or a token could pass for one of another kind."""
    return f"connect token {body}"
