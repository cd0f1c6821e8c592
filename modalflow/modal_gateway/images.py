"""An ``ImagePlan`` as a ``modal.Image``.

Pure description: nothing is built or looked up here; ``gateway`` builds each image once and keeps it.
"""

from __future__ import annotations

import re

from modal import Image, Secret

from modalflow.translation.plan import ImagePlan

_ECR = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_GOOGLE = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)")


def _pulled(reference: str, secret: Secret | None) -> Image:
    """Describe an image of a registry. With a Secret, Amazon's and Google's take the keys of their clouds (modal 1.6.4)."""
    host = reference.partition("/")[0]
    if secret is not None and _ECR.fullmatch(host):
        return Image.from_aws_ecr(reference, secret=secret)
    if secret is not None and _GOOGLE.fullmatch(host):
        return Image.from_gcp_artifact_registry(reference, secret=secret)
    return Image.from_registry(reference, secret=secret)


def describe_image(plan: ImagePlan, environment: str | None) -> Image:
    """Return the image, not yet built. ``environment`` is where the registry's Secret lives."""
    if plan.reference is None:
        image = Image.debian_slim(plan.python_version or None)
        if plan.packages:
            image = image.uv_pip_install(*plan.packages)
    else:
        secret = None
        if plan.registry_secret is not None:
            secret = Secret.from_name(plan.registry_secret, environment_name=environment)
        image = _pulled(plan.reference, secret)
    return image if plan.entrypoint is None else image.entrypoint(list(plan.entrypoint))
