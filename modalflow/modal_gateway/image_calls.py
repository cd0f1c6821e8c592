"""An ``ImagePlan`` as the calls that describe it to Modal, as plain data.

``images`` makes the calls; ``source`` writes them down. So what is shown is what is done. Pure, no modal object.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modalflow.translation.plan import ImagePlan

_ECR = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_GOOGLE = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCall:
    """One call: a constructor of ``modal.Image`` first, methods of what it returns then. ``secret`` names a Modal Secret.

    ``force_build``: what it describes, and all that follows, is built anew.
    """

    method: str
    arguments: tuple[object, ...] = ()
    secret: str | None = None
    force_build: bool = False


def image_calls(plan: ImagePlan) -> tuple[ImageCall, ...]:
    """Return the calls in order. With a Secret, Amazon's and Google's registries take the keys of their clouds (modal 1.6.4)."""
    anew = plan.force_build
    if plan.reference is None:
        calls = [
            ImageCall(method="debian_slim", arguments=(plan.python_version,) if plan.python_version else (), force_build=anew)
        ]
        if plan.packages:
            calls.append(ImageCall(method="uv_pip_install", arguments=plan.packages))
    else:
        secret = plan.registry_secret
        method = "from_registry" if secret is None else _constructor(plan.reference)
        calls = [ImageCall(method=method, arguments=(plan.reference,), secret=secret, force_build=anew)]
    if plan.entrypoint is not None:
        calls.append(ImageCall(method="entrypoint", arguments=(list(plan.entrypoint),)))
    return tuple(calls)


def _constructor(reference: str) -> str:
    host = reference.partition("/")[0]
    if _ECR.fullmatch(host):
        return "from_aws_ecr"
    return "from_gcp_artifact_registry" if _GOOGLE.fullmatch(host) else "from_registry"
