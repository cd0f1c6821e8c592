"""An ``ImagePlan`` as the calls that describe it to Modal, as plain data.

``images`` makes the calls; ``source`` writes them down. So what is shown is what is done. Pure, no modal object.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from modalflow.translation.plan import ImagePlan

_ECR = re.compile(r"[0-9]{12}\.dkr\.ecr\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_GOOGLE = re.compile(r"(?:[a-z0-9-]+-docker\.pkg\.dev|(?:[a-z]+\.)?gcr\.io)")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageCall:
    """One call: a constructor of ``modal.Image`` first, methods of what it returns then.

    ``secret`` names a Modal Secret, given as the keyword ``secret_keyword``; ``secrets`` those of a build's step. ``options`` are
    further keywords. ``force_build``: what it describes, and all that follows, is built anew.
    """

    method: str
    arguments: tuple[object, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    secret: str | None = None
    secret_keyword: str = "secret"  # noqa: S105 - a keyword's name
    secrets: tuple[str, ...] = ()
    force_build: bool = False


def image_calls(plan: ImagePlan) -> tuple[ImageCall, ...]:
    """Return the calls in order. With a Secret, Amazon's and Google's registries take the keys of their clouds (modal 1.6.4).

    What changes seldom comes first: Modal keeps each layer, and builds anew from the first that is another.
    """
    return (_base(plan), *_layers(plan))


def _base(plan: ImagePlan) -> ImageCall:
    anew, secret = plan.force_build, plan.registry_secret
    added: dict[str, object] = {"add_python": plan.python_version} if plan.python_version else {}
    if plan.dockerfile is not None:
        return ImageCall(
            method="from_dockerfile",
            arguments=(plan.dockerfile,),
            options={"context_dir": plan.context, **added},
            secret=secret,
            secret_keyword="registry_secret",  # noqa: S106 - a keyword's name
            secrets=plan.build_secrets,
            force_build=anew,
        )
    if plan.reference is not None:
        method = "from_registry" if secret is None else _constructor(plan.reference)
        return ImageCall(method=method, arguments=(plan.reference,), options=added, secret=secret, force_build=anew)
    return ImageCall(method="debian_slim", arguments=(plan.python_version,) if plan.python_version else (), force_build=anew)


def _layers(plan: ImagePlan) -> Iterator[ImageCall]:
    if plan.apt_packages:
        yield ImageCall(method="apt_install", arguments=plan.apt_packages)
    if plan.packages:
        yield ImageCall(method="uv_pip_install", arguments=plan.packages)
    if plan.requirements:
        # With Airflow's exact versions again: what does not go with them fails here, and replaces none of them.
        options = {"extra_options": " ".join(plan.pip_options)} if plan.pip_options else {}
        yield ImageCall(
            method="uv_pip_install",
            arguments=(*plan.packages, *plan.requirements),
            options=options,
            secrets=plan.build_secrets,
        )
    if plan.entrypoint is not None:
        yield ImageCall(method="entrypoint", arguments=(list(plan.entrypoint),))


def _constructor(reference: str) -> str:
    host = reference.partition("/")[0]
    if _ECR.fullmatch(host):
        return "from_aws_ecr"
    return "from_gcp_artifact_registry" if _GOOGLE.fullmatch(host) else "from_registry"
