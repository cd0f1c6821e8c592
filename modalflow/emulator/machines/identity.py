"""The token of its identity that a sandbox gets which was created with ``include_oidc_identity_token``.

Flows in: a sandbox and who owns it. Flows out: a JWT with the claims that Modal documents for Functions
(modal.com/docs/guide/oidc-integration, 2026-11), without ``function_id`` and ``function_name``; what it documents of sandboxes is
only the variable. It is signed by the emulator, so no cloud accepts it. ``sandboxes`` puts it into the environment.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

from modalflow.emulator import jwt
from modalflow.emulator.state.store import Sandbox, Workspace

AUDIENCE = "oidc.modal.com"
LIFETIME = 48 * 3600
"""Seconds, those of the example on that page."""


def identity_token(workspace: Workspace, sandbox: Sandbox, sign: Callable[[str], str]) -> str:
    """Return the token; ``sign`` returns the signature of a text in URL-safe characters."""
    app = workspace.apps[sandbox.app_id]
    environment = workspace.environments.get(app.environment)  # deleted meanwhile, it is known by no id
    now = int(workspace.clock.time())
    who = {
        "workspace_id": workspace.workspace_id,
        "environment_name": app.environment,
        "app_name": app.name,
        "container_id": sandbox.task_id,
    }
    claims = {
        "sub": ":".join(["modal", *(part for pair in who.items() for part in pair)]),
        "aud": AUDIENCE,
        "exp": now + LIFETIME,
        "iat": now,
        "iss": f"https://{AUDIENCE}",
        "jti": str(uuid.uuid4()),
        **who,
        "environment_id": environment.environment_id if environment else "",
        "app_id": sandbox.app_id,
    }
    return jwt.signed(claims, sign)
