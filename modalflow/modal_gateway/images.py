"""An ``ImagePlan`` as a ``modal.Image``.

Pure description: nothing is built or looked up here; ``gateway`` builds each image once and keeps it.
"""

from __future__ import annotations

from typing import Any

from modal import Image, Secret

from modalflow.modal_gateway.image_calls import image_calls
from modalflow.translation.plan import ImagePlan


def describe_image(plan: ImagePlan, environment: str | None) -> Image:
    """Return the image, not yet built. ``environment`` is where the registry's Secret lives."""
    image: Image | type[Image] = Image
    for call in image_calls(plan):
        given: dict[str, Any] = dict(call.options)
        if call.secret is not None:
            given[call.secret_keyword] = Secret.from_name(call.secret, environment_name=environment)
        if call.secrets:
            given["secrets"] = [Secret.from_name(name, environment_name=environment) for name in call.secrets]
        if call.force_build:
            given["force_build"] = True
        image = getattr(image, call.method)(*call.arguments, **given)
    if not isinstance(image, Image):
        raise TypeError("a description of an image makes at least one call")
    return image
