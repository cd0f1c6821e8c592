"""CSI volumes of a pod: buckets become Modal's bucket mounts, and the drivers that Modal has nothing for say why.

Flows in: the ``csi`` source of a volume, and ``[modal_executor] buckets``, which says how each bucket is opened. Flows out: a
``Bucket`` for ``pods.volumes``. Attributes: those of the drivers' own documentation (Mountpoint for S3 CSI v2, GKE's Cloud
Storage FUSE CSI, Azure's Blob CSI, Secrets Store CSI; 2026-10).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from modalflow.translation.buckets import GOOGLE, can_pay, keys_of, read_bucket, read_prefix
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.plan import Bucket
from modalflow.translation.pods.merge import Piece
from modalflow.translation.report import Place, kind_of, shown

SECRETS_STORE = "secrets-store.csi.k8s.io"
FIELDS = ("driver", "fsType", "nodePublishSecretRef", "readOnly", "volumeAttributes")


@dataclass(frozen=True, slots=True)
class _Driver:
    """A driver of buckets: the attribute that names the bucket, and where it is unless the pod or the mapping says it."""

    attribute: str
    endpoint: str | None = None


_AZURE = "blob.csi.azure.com"
_DRIVERS: Mapping[str, _Driver] = {
    "s3.csi.aws.com": _Driver("bucketName"),
    "gcsfuse.csi.storage.gke.io": _Driver("bucketName", GOOGLE),
    _AZURE: _Driver("containerName"),
}
_IN_A_VOLUME = 'copy the data to a Modal Volume and write {"modal": {"volumes": {PATH: NAME}}}'
_OTHERS: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(
        ("ebs.csi.aws.com", "pd.csi.storage.gke.io", "disk.csi.azure.com", "cinder.csi.openstack.org"),
        ("a sandbox has no block devices", _IN_A_VOLUME),
    ),
    **dict.fromkeys(
        (
            "efs.csi.aws.com",
            "fsx.csi.aws.com",
            "filestore.csi.storage.gke.io",
            "file.csi.azure.com",
            "nfs.csi.k8s.io",
            "smb.csi.k8s.io",
            "cephfs.csi.ceph.com",
        ),
        ("a sandbox cannot mount network file systems", _IN_A_VOLUME),
    ),
}
"""Drivers whose data Modal cannot reach: why, and what to do."""

_HARMLESS = re.compile(
    r"(?:--)?(?:allow[-_](?:delete|overwrite|other|root)|region|implicit[-_]dirs|(?:.*-)?(?:cache|ttl)(?:-.*)?|(?:file|metadata)-cache:.*"
    r"|log.*|debug.*|foreground|auto[-_]unmount|.*throughput.*|max[-_](?:threads|conns).*|(?:read-|write-)?part-size|read_ahead_kb"
    r"|rename-dir-limit|sequential-read-size-mb|client-protocol|enable-.*|profile)"
)
"""Mount options about speed, caches and logs, and rights that Modal gives anyway."""
_REFUSED = re.compile(r"sse(?:-.*)?|expected-bucket-owner|billing-project|key-file|token-url|acl|assume-role.*")
"""Mount options about who may read, how it is encrypted and who pays."""
_PREFIX = ("prefix", "only-dir")
_HARMLESS_ATTRIBUTES = re.compile(
    r"(?:fileCache|metadata|gcsfuseLogging|gcsfuseMetadata|skipCSIBucketAccessCheck|disableMetrics|enableMetrics|cache)\w*"
    r"|authenticationSource|stsRegion|protocol|storageAccount|resourceGroup|subscriptionID|csi\.storage\.k8s\.io/.*"
)


def read_csi_bucket(source: Piece, findings: list[Diagnostic], options: TranslationOptions) -> Bucket | None:
    """Return the bucket of a ``csi`` volume; ``None`` if it is none or cannot be had, which is reported."""
    place, value = source.place(findings), source.value
    name = value.get("driver")
    driver = _DRIVERS.get(name) if isinstance(name, str) else None
    if driver is None:
        reason, hint = _OTHERS.get(str(name), ("drivers of a cluster are not in a sandbox", _IN_A_VOLUME))
        place.error("refused-field", f"{shown(name)}: {reason}", hint)
        return None
    for field in ("fsType", "nodePublishSecretRef"):
        if field in value:
            place.at(field).notice("no-effect", "has no effect: [modal_executor] buckets says how the bucket is opened")
    attributes = value.get("volumeAttributes")
    if not isinstance(attributes, dict):
        place.at("volumeAttributes").error("bad-pod", f"expected a mapping with {driver.attribute}, got {kind_of(attributes)}")
        return None
    bucket = attributes.get(driver.attribute)
    wanted = _Wanted(place.at("volumeAttributes"), is_read_only=value.get("readOnly") is True)
    for key, text in attributes.items():
        wanted.attribute(key, text, driver)
    mapped = _opened(bucket, name, place, options, public=wanted.is_public)
    return None if mapped is None else wanted.applied(mapped, driver)


def is_store(source: object) -> bool:
    """Tell a volume of the Secrets Store driver, whose files come from a Modal Secret."""
    return isinstance(source, dict) and source.get("driver") == SECRETS_STORE


def below(bucket: Bucket, folder: str, *, read_only: bool) -> Bucket:
    """Return a folder of the bucket, as one mount wants it."""
    prefix = f"{bucket.prefix or ''}{folder.strip('/')}/" if folder.strip("/") else bucket.prefix
    return replace(bucket, prefix=prefix, read_only=bucket.read_only or read_only)


def _opened(bucket: object, driver: object, place: Place, options: TranslationOptions, *, public: bool) -> Bucket | None:
    if not isinstance(bucket, str) or not bucket:
        place.error("bad-pod", f"expected the name of a bucket in its attributes, got {shown(bucket)}")
        return None
    if bucket == "_":
        place.error("refused-field", "all buckets of a project cannot be mounted at once", "mount each by its name")
        return None
    mapped = options.buckets.get(bucket)
    if mapped is not None:
        return mapped
    if driver == _AZURE:
        place.error(
            "unknown-bucket",
            "Modal mounts buckets of S3, R2 and Cloud Storage; Azure Blob Storage does not speak S3",
            f'copy the container to such a bucket and add {{{shown(bucket)}: {{"bucket": BUCKET, "secret": NAME}}}} to '
            "[modal_executor] buckets, or use a Modal Volume",
        )
        return None
    if public:
        return read_bucket({}, place, name=bucket)
    place.error(
        "unknown-bucket",
        f"[modal_executor] buckets does not say how the bucket {shown(bucket)} is opened: a sandbox has no Kubernetes identity",
        f'add {{{shown(bucket)}: {{"secret": NAME_OF_A_MODAL_SECRET}}}}, or {{{shown(bucket)}: {{}}}} for a public one',
    )
    return None


class _Wanted:
    """What a volume asks for beside the bucket's name."""

    def __init__(self, place: Place, *, is_read_only: bool) -> None:
        self.is_public = False
        self._place = place
        self._read_only = is_read_only
        self._prefix: str | None = None
        self._endpoint: str | None = None
        self._pays = False
        self._path_style = False

    def attribute(self, key: str, value: object, driver: _Driver) -> None:
        place = self._place.at(key)
        if key == driver.attribute:
            return
        if not isinstance(value, str):
            place.error("bad-pod", f"expected text, got {kind_of(value)}")
        elif key == "mountOptions":
            # "allow-delete,region us-west-2", "--prefix a/ --read-only" and "-o ro" are all written.
            for option in re.split(r",|\s+(?=-)", value):
                self._option(option.strip(), place)
        elif _HARMLESS_ATTRIBUTES.fullmatch(key):
            place.notice("no-effect", "has no effect: Modal mounts the bucket its own way")
        else:
            place.warn("dropped", "is not honoured: Modal's bucket mounts have no such setting", "remove it")

    def _option(self, option: str, place: Place) -> None:
        name, _, value = re.sub(r"^(?:-o[ =]?)?(?:--)?", "", option).replace("=", " ", 1).partition(" ")
        value = value.strip()
        if name in _PREFIX:
            self._prefix = read_prefix(value, place)
        elif name == "endpoint-url":
            read = read_bucket({"endpoint": value}, place, name="any")
            self._endpoint = None if read is None else read.endpoint
        elif name in {"read-only", "ro"}:
            self._read_only = True
        elif name == "requester-pays":
            self._pays = True
        elif name == "force-path-style":
            self._path_style = True
        elif _REFUSED.fullmatch(name):
            place.error(
                "refused-field", f"Modal's bucket mounts have no option {shown(name)}", "set it at the bucket, and remove it"
            )
        elif name == "no-sign-request":
            self.is_public = True
            place.notice("no-effect", f"{shown(option)} has no effect: Modal mounts the bucket its own way")
        elif name in {"", "rw"} or _HARMLESS.fullmatch(name):
            place.notice("no-effect", f"{shown(option)} has no effect: Modal mounts the bucket its own way")
        else:
            place.warn("dropped", f"{shown(option)} is not honoured: Modal's bucket mounts have no such option", "remove it")

    def applied(self, bucket: Bucket, driver: _Driver) -> Bucket | None:
        """Return the bucket with all that; the mapping's endpoint wins, its prefix is the root that the pod's is below."""
        endpoint = bucket.endpoint or self._endpoint or driver.endpoint
        found = replace(
            bucket,
            endpoint=endpoint,
            secret=None if bucket.secret is None else replace(bucket.secret, required_keys=keys_of(endpoint)),
            requester_pays=bucket.requester_pays or self._pays,
            path_style=bucket.path_style or self._path_style,
        )
        found = below(found, self._prefix or "", read_only=self._read_only)
        return found if can_pay(found, self._place) else None
