"""Tokens in the form of a JWT: what clients expect of the control plane's tokens and of identity tokens.

Flows in: claims, and whoever signs. Flows out: the token. ``auth`` and ``machines.identity`` make them; only ``auth`` reads any.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping


def signed(claims: Mapping[str, object], sign: Callable[[str], str]) -> str:
    """Return the token; ``sign`` returns the signature of a text in URL-safe characters."""
    text = ".".join(_encode(part) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{sign(text)}"


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
