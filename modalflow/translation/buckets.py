"""Cloud buckets as folders: ``{"/data": {"bucket": "raw", "prefix": "2026/", "secret": "aws"}}``.

Flows in: an entry of the ``volumes`` key, or of ``[modal_executor] buckets``. Flows out: a ``Bucket``, which ``volumes`` and
``pods.csi`` put at a path. What Modal mounts, and how it tells the kinds apart: ``modal.CloudBucketMount`` of modal 1.6.4.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from modalflow.translation.diagnostics import did_you_mean
from modalflow.translation.images import read_object_name
from modalflow.translation.plan import Bucket, SecretPlan
from modalflow.translation.report import Place, kind_of, shown

KEYS = ("bucket", "prefix", "endpoint", "secret", "role_arn", "read_only", "requester_pays", "path_style")
GOOGLE = "https://storage.googleapis.com"

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,5})?", re.ASCII)
_ROLE = re.compile(r"arn:[a-z0-9-]+:iam::[0-9]{12}:role/[\w+=,.@/-]+", re.ASCII)
_FLAGS = ("read_only", "requester_pays", "path_style")


def read_bucket(value: object, place: Place, *, name: str | None = None) -> Bucket | None:
    """Read one bucket; ``name`` is its name where the entry gives none. ``None`` if it cannot be read, which is reported."""
    if not isinstance(value, dict):
        place.error("bad-bucket", f'expected a dict such as {{"bucket": "raw", "secret": "aws"}}, got {kind_of(value)}')
        return None
    before = len(place.findings)
    for key in value:
        if key not in KEYS:
            hint = did_you_mean(key, KEYS) if isinstance(key, str) else ""
            place.error("unknown-key", f"unknown key {shown(key)}", hint or f"known: {', '.join(KEYS)}")
    called = _name(value.get("bucket", name), place.at("bucket"))
    endpoint = _endpoint(value.get("endpoint"), place.at("endpoint"))
    prefix = read_prefix(value.get("prefix"), place.at("prefix"))
    secret = value.get("secret")
    named = None if secret is None else read_object_name(secret, place.at("secret"), "Secret")
    role = value.get("role_arn")
    if role is not None and not (isinstance(role, str) and _ROLE.fullmatch(role)):
        hint = "write e.g. arn:aws:iam::123456789012:role/reader"
        place.at("role_arn").error("bad-bucket", f"expected the ARN of an IAM role, got {shown(role)}", hint)
    for flag in _FLAGS:
        if value.get(flag) is not None and not isinstance(value[flag], bool):
            place.at(flag).error("bad-bucket", f"expected True or False, got {shown(value[flag])}")
    if secret is not None and role is not None:
        place.at("role_arn").error("bad-bucket", "a bucket is opened with a secret or with a role, not with both", "remove one")
    if len(place.findings) > before or called is None:
        return None
    bucket = Bucket(
        name=called,
        prefix=prefix,
        endpoint=endpoint,
        secret=None if named is None else SecretPlan(name=named, required_keys=keys_of(endpoint)),
        role_arn=role,
        read_only=bool(value.get("read_only")),
        requester_pays=bool(value.get("requester_pays")),
        path_style=bool(value.get("path_style")),
    )
    return bucket if can_pay(bucket, place) else None


def can_pay(bucket: Bucket, place: Place) -> bool:
    """Report a bucket whose requests the reader is to pay, without a Secret that says who that is: Modal refuses it."""
    if bucket.requester_pays and bucket.secret is None:
        place.error("bad-bucket", "who pays for the requests is known only by a secret", 'add "secret"')
        return False
    return True


def keys_of(endpoint: str | None) -> tuple[str, ...]:
    """Return the keys that a Modal Secret needs for a bucket of that endpoint: Google calls its HMAC keys otherwise."""
    kind = "GOOGLE" if endpoint is not None and (urlsplit(endpoint).hostname or "").endswith("storage.googleapis.com") else "AWS"
    return (
        ("GOOGLE_ACCESS_KEY_ID", "GOOGLE_ACCESS_KEY_SECRET")
        if kind == "GOOGLE"
        else ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    )


def read_prefix(value: object, place: Place) -> str | None:
    """Read a folder of a bucket; what comes out ends in a slash, as Modal wants it, or is ``None`` for the whole bucket."""
    if value is None or value == "":
        return None
    parts = value.strip("/").split("/") if isinstance(value, str) else []
    if not isinstance(value, str) or not value.isprintable() or any(part in {"", ".", ".."} for part in parts):
        place.error("bad-sub-path", f"expected a folder of the bucket, got {shown(value)}", "write it without '..'")
        return None
    return "/".join(parts) + "/"


def _name(value: object, place: Place) -> str | None:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    hint = "write the name alone, and the folder as prefix" if isinstance(value, str) and ("/" in value or ":" in value) else ""
    got = shown(value) if isinstance(value, str) else kind_of(value)
    place.error("bad-bucket", f"expected the name of a bucket, got {got}", hint)
    return None


def _endpoint(value: object, place: Place) -> str | None:
    if value is None:
        return None
    if isinstance(value, str) and value.startswith(("https://", "http://")):
        host = value.partition("://")[2].removesuffix("/")
        if _HOST.fullmatch(host):
            return value.removesuffix("/")
    # Not quoted: an address may hold a password.
    place.error("bad-bucket", "expected the address of an S3-compatible service", 'write e.g. "https://storage.googleapis.com"')
    return None
