"""One plan for each field of a plan, differing from ``BASE`` in that field only.

A field of ``SandboxPlan``, or of what it holds, that has no sample here fails ``test_rendering``: whoever adds a field adds a
sample, and so learns which of the commands do not show it yet.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from modalflow.translation.plan import Bucket, BucketPlan, Home, ImagePlan, SandboxPlan, SecretPlan, VolumePlan
from modalflow.translation.setup_plan import (
    ClonePlan,
    FilePlan,
    FolderPlan,
    GracePlan,
    HookPlan,
    RunPlan,
    SetupPlan,
    Text,
    UserPlan,
)

BASE = SandboxPlan(image=ImagePlan(reference="me/train:1"))
GPU = replace(BASE, gpu_candidates=("H100",))
AUTO = replace(BASE, image=ImagePlan(reference=None, python_version="3.11", packages=("apache-airflow-core==3.3.2",)))
SECRET = replace(BASE, secrets=(SecretPlan(name="warehouse"),))
VOLUME = replace(BASE, volumes=(VolumePlan(mount_path="/m", name="models"),))
BUCKET = replace(BASE, buckets=(BucketPlan(mount_path="/b", bucket=Bucket(name="images")),))


@dataclass(frozen=True, kw_only=True)
class Sample:
    """``value`` at ``field`` of ``of``. ``in_call``: ``Sandbox.create`` is told. ``in_words``: a ``modal`` key says it."""

    field: str
    value: Any
    of: SandboxPlan = BASE
    in_call: bool = True
    in_words: bool = True

    def plan(self) -> SandboxPlan:
        """The plan with the value."""
        changed = _changed(self.of, self.field.split("."), self.value)
        assert isinstance(changed, SandboxPlan)
        return changed


def _changed(holder: Any, path: Sequence[str], value: object) -> Any:
    """Return a copy of ``holder`` with ``value`` at ``path``; of several entries the first is meant."""
    head, rest = path[0], path[1:]
    held = getattr(holder, head)
    if rest and isinstance(held, tuple):
        inner: object = (_changed(held[0], rest, value),)
    else:
        inner = _changed(held, rest, value) if rest else value
    return replace(holder, **{head: inner})


def _sample(field: str, value: object, **more: Any) -> tuple[str, Sample]:
    return field, Sample(field=field, value=value, **more)


SAMPLES: dict[str, Sample] = dict(
    [
        _sample("image.reference", "me/other:2"),
        _sample("image.python_version", "3.12", of=AUTO, in_words=False),
        _sample("image.packages", ("apache-airflow-core==3.3.2", "numpy==2.0.0"), of=AUTO, in_words=False),
        _sample("image.dockerfile", "/opt/airflow/Dockerfile", of=AUTO, in_words=False),
        _sample("image.context", "/opt/airflow", of=AUTO, in_words=False),
        _sample("image.apt_packages", ("git",), of=AUTO, in_words=False),
        _sample("image.requirements", ("pandas==2.3.3",), of=AUTO, in_words=False),
        _sample("image.pip_options", ("--no-index",), of=AUTO, in_words=False),
        _sample("image.build_secrets", ("pypi",), of=AUTO, in_words=False),
        _sample("image.name", "auto:train", of=AUTO),
        _sample("image.registry_secret", "ghcr"),
        _sample("image.entrypoint", ("/usr/bin/env",)),
        _sample("image.force_build", True),
        _sample("gpu_candidates", ("H100", "A100-80GB")),
        _sample(
            "candidate_regions",
            (("us-east",), ("eu",)),
            of=replace(GPU, gpu_candidates=("H100", "L4"), region=("us-east", "eu")),
            in_words=False,
        ),
        _sample("gpu_wait", 60.0, of=replace(GPU, gpu_candidates=("H100", "L4"))),
        _sample("cpu", (0.5, 2.0)),
        _sample("memory", (512, 1024)),
        _sample("env", {"A": "it's"}),
        _sample("secrets.name", "hf", of=SECRET),
        _sample("secrets.required_keys", ("HF_TOKEN",), of=SECRET),
        _sample("secrets.optional", True, of=SECRET, in_words=False),
        _sample("volumes.mount_path", "/n", of=VOLUME),
        _sample("volumes.name", "data", of=VOLUME),
        _sample("volumes.read_only", True, of=VOLUME),
        _sample("volumes.sub_path", "v2", of=VOLUME),
        _sample("volumes.version", 2, of=VOLUME, in_words=False),
        _sample("volumes.create_if_missing", True, of=VOLUME, in_words=False),
        _sample("volumes.is_ours", True, of=VOLUME, in_call=False, in_words=False),
        _sample("volumes.code_of", "etl", of=VOLUME, in_call=False, in_words=False),
        _sample("buckets.mount_path", "/c", of=BUCKET),
        _sample("buckets.bucket.name", "others", of=BUCKET),
        _sample("buckets.bucket.prefix", "raw/", of=BUCKET),
        _sample("buckets.bucket.endpoint", "https://r2.example.com", of=BUCKET),
        _sample("buckets.bucket.secret", SecretPlan(name="warehouse"), of=BUCKET),
        _sample("buckets.bucket.role_arn", "arn:aws:iam::123456789012:role/r", of=BUCKET),
        _sample("buckets.bucket.read_only", True, of=BUCKET),
        _sample("buckets.bucket.requester_pays", True, of=BUCKET),
        _sample("buckets.bucket.path_style", True, of=BUCKET),
        _sample("timeout", 3600),
        _sample("region", ("us-east", "eu")),
        _sample("cloud", "aws"),
        _sample("workdir", "/w"),
        _sample("oidc", True),
        _sample("keep_on_failure", 600, in_call=False),
        _sample("runtime", "vm"),
        _sample("namespace", "ml", in_call=False),
        _sample("home", Home(conn_id="modal_ml", environment="prod", app="ml-tasks"), in_call=False),
        _sample("tags", {"team": "ml"}),
        _sample("setup.exports", {"A": Text(("a",))}, in_call=False, in_words=False),
        _sample("setup.remove", ("A",), in_call=False, in_words=False),
        _sample("setup.folders", (FolderPlan(path="/f"),), in_call=False, in_words=False),
        _sample("setup.links", (("/a", "/b"),), in_call=False, in_words=False),
        _sample("setup.files", (FilePlan(path="/f", text=Text(("a",))),), in_call=False, in_words=False),
        _sample("setup.user", UserPlan(uid=1000), in_call=False, in_words=False),
        _sample("setup.runs", (RunPlan(name="sync", argv=(Text(("true",)),)),), in_call=False, in_words=False),
        _sample("setup.hide", ("A",), in_call=False, in_words=False),
        _sample("setup.post_start", HookPlan(argv=("true",)), in_call=False, in_words=False),
        _sample("setup.grace", GracePlan(seconds=30), in_call=False, in_words=False),
        _sample("setup.clones", (ClonePlan(repository="https://h/r", path="/r"),), in_call=False, in_words=False),
        _sample("setup.hosts", (("1.2.3.4", ("a",)),), in_call=False, in_words=False),
    ]
)


def fields_of_a_plan() -> set[str]:
    """Every field that a sample is due for."""
    held: dict[str, type] = {
        "image": ImagePlan,
        "secrets": SecretPlan,
        "volumes": VolumePlan,
        "buckets": BucketPlan,
        "buckets.bucket": Bucket,
        "setup": SetupPlan,
    }
    found = {field.name for field in dataclasses.fields(SandboxPlan)}
    for name, kind in held.items():
        found = (found - {name}) | {f"{name}.{part.name}" for part in dataclasses.fields(kind)}
    return found


def with_everything(**changes: Any) -> SandboxPlan:
    """A plan with everything that a sample changes in the call and that goes together."""
    plan = replace(
        BASE,
        image=ImagePlan(reference="me/train:1", registry_secret="ghcr", entrypoint=("/usr/bin/env",)),
        secrets=(SecretPlan(name="warehouse"), SecretPlan(name="hf", required_keys=("HF_TOKEN",))),
        volumes=(
            VolumePlan(mount_path="/m", name="models", read_only=True, sub_path="v2"),
            VolumePlan(mount_path="/d", name="data", create_if_missing=True, version=2),
        ),
        buckets=(
            BucketPlan(
                mount_path="/b", bucket=Bucket(name="images", prefix="raw/", secret=SecretPlan(name="aws"), requester_pays=True)
            ),
            BucketPlan(
                mount_path="/c",
                bucket=Bucket(name="more", endpoint="https://r2.example.com", path_style=True, read_only=True),
            ),
        ),
    )
    for sample in SAMPLES.values():
        if sample.in_call and "." not in sample.field:
            plan = replace(plan, **{sample.field: sample.value})
    return replace(plan, **changes)
