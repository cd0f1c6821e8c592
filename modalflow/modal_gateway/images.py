"""An ``ImagePlan`` as a ``modal.Image``.

Pure description: nothing is built or looked up here; ``gateway`` builds each image once and keeps it.
"""

from __future__ import annotations

from modal import Image, Secret

from modalflow.translation.plan import ImagePlan


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
        image = Image.from_registry(plan.reference, secret=secret)
    return image if plan.entrypoint is None else image.entrypoint(list(plan.entrypoint))
