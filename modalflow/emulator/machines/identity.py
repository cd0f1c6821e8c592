"""The token of its identity that a sandbox gets which was created with ``include_oidc_identity_token``.

Flows in: a sandbox and who owns it. Flows out: a JWT with the claims that Modal documents for Functions
(modal.com/docs/guide/oidc-integration, 2026-11), without ``function_id`` and ``function_name``; what it documents of sandboxes is
only the variable. It is signed by the emulator, so no cloud accepts it. ``sandboxes`` puts it into the environment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Callable

from modalflow.emulator.state.store import Sandbox, Workspace

AUDIENCE = "oidc.modal.com"
LIFETIME = 48 * 3600
"""Seconds, those of the example on that page."""


def identity_token(workspace: Workspace, sandbox: Sandbox, sign: Callable[[str], str]) -> str:
    """Return the token; ``sign`` returns the signature of a text in URL-safe characters."""
    app = workspace.apps[sandbox.app_id]
    owner, now = _id("ac", workspace.name), int(workspace.clock.time())
    who = {"workspace_id": owner, "environment_name": app.environment, "app_name": app.name, "container_id": sandbox.task_id}
    claims = {
        "sub": ":".join(["modal", *(part for pair in who.items() for part in pair)]),
        "aud": AUDIENCE,
        "exp": now + LIFETIME,
        "iat": now,
        "iss": f"https://{AUDIENCE}",
        "jti": str(uuid.uuid4()),
        **who,
        "environment_id": _id("en", app.environment),
        "app_id": sandbox.app_id,
    }
    text = ".".join(_encode(part) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return f"{text}.{sign(text)}"


def _id(kind: str, name: str) -> str:
    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:22]}"


def _encode(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()
