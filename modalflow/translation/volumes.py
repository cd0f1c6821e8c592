"""Modal Volumes, buckets and Secrets by name: ``{"/models": "models", "/raw": {"bucket": "raw"}}`` and ``["huggingface"]``."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping

from modalflow.translation.buckets import read_bucket
from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.images import read_object_name
from modalflow.translation.plan import BucketPlan, SecretPlan, VolumePlan
from modalflow.translation.report import Place, kind_of, shown

RESERVED = "/mnt/modalflow"
"""Mount point of modalflow's own Volumes (task logs, DAGs)."""
_REFUSED_PATHS = ("/", "/root", "/tmp")  # noqa: S108 - what modal 1.6.4 refuses, not a file of ours
_VOLUME_KEYS = ("name", "sub_path", "read_only")
_SECRET_KEYS = ("name", "required_keys")


def read_volumes(value: object, place: Place) -> dict[str, VolumePlan | BucketPlan] | None:
    """Read ``{mount path: name}``, ``{mount path: {"name", "sub_path", "read_only"}}`` or a bucket (``buckets.KEYS``)."""
    if not isinstance(value, dict):
        place.error("bad-volumes", f'expected a dict such as {{"/models": "models"}}, got {kind_of(value)}')
        return None
    found: dict[str, VolumePlan | BucketPlan] = {}
    for path, what in value.items():
        at = place.at(path)
        if what is not None and check_mount_path(path, at) and (volume := _read_volume(path, what, at)) is not None:
            found[path] = volume
    return found


def check_mount_path(path: object, place: Place) -> bool:
    """Report a mount path that Modal, or modalflow, cannot give."""
    plain = isinstance(path, str) and path.startswith("/") and not path.startswith("//") and path.isprintable()
    if not isinstance(path, str) or not plain or posixpath.normpath(path) != path:
        place.error("bad-mount-path", f"expected an absolute path without '..' or a trailing slash, got {shown(path)}")
        return False
    if path in _REFUSED_PATHS:
        place.error("bad-mount-path", f"Modal mounts nothing at {shown(path)}", 'write a path of its own, e.g. "/models"')
        return False
    if RESERVED.startswith(path + "/") or path == RESERVED or path.startswith(RESERVED + "/"):
        place.error(
            "bad-mount-path",
            f"{RESERVED} is modalflow's own"
            if path.startswith(RESERVED)
            else f"would cover {RESERVED}, which is modalflow's own",
            'write another path, e.g. "/models"',
        )
        return False
    return True


def _read_volume(path: str, value: object, place: Place) -> VolumePlan | BucketPlan | None:
    if not isinstance(value, dict):
        name = read_object_name(value, place, "Volume")
        return None if name is None else VolumePlan(mount_path=path, name=name)
    if "bucket" in value:
        bucket = read_bucket(value, place)
        return None if bucket is None else BucketPlan(mount_path=path, bucket=bucket)
    before = len(place.findings)
    _refuse_unknown(value, _VOLUME_KEYS, place)
    name = read_object_name(value.get("name"), place.at("name"), "Volume")
    sub_path = value.get("sub_path")
    if sub_path is not None:
        _check_sub_path(sub_path, place.at("sub_path"))
    read_only = value.get("read_only")
    if read_only is not None and not isinstance(read_only, bool):
        place.at("read_only").error("bad-volumes", f"expected True or False, got {shown(read_only)}")
    if len(place.findings) > before or name is None:
        return None
    return VolumePlan(mount_path=path, name=name, sub_path=sub_path, read_only=bool(read_only))


def _check_sub_path(value: object, place: Place) -> None:
    parts = value.strip("/").split("/") if isinstance(value, str) else []
    if not isinstance(value, str) or not value.strip("/") or any(part in {"", ".", ".."} for part in parts):
        place.error("bad-sub-path", f"expected a folder inside the Volume, got {shown(value)}", "write it without '..'")


def _refuse_unknown(value: dict[object, object], known: tuple[str, ...], place: Place) -> None:
    for key in value:
        if key not in known:
            hint = did_you_mean(key, known) if isinstance(key, str) else ""
            place.error("unknown-key", f"unknown key {shown(key)}", hint or f"known: {', '.join(known)}")


def check_once(mounts: Iterable[VolumePlan | BucketPlan], places: Mapping[str, Place], findings: list[Diagnostic]) -> None:
    """Refuse one Volume at two paths: modal 1.6.4 does, later and less clearly."""
    first: dict[str, str] = {}
    for mount in mounts:
        if isinstance(mount, BucketPlan):
            continue
        if mount.name in first:
            places[f"volumes.{mount.mount_path}"].into(findings).error(
                "volume-twice",
                f'the Volume "{mount.name}" is mounted at "{first[mount.name]}" already; Modal mounts one at one path only',
            )
        first.setdefault(mount.name, mount.mount_path)


def read_secrets(value: object, place: Place) -> dict[str, SecretPlan] | None:
    """Read a list of Secret names, or of ``{"name", "required_keys"}``; ``[]`` drops those of weaker layers."""
    if not isinstance(value, (list, tuple)):
        hint = f"write [{shown(value)}]" if isinstance(value, str) else ""
        place.error("bad-secrets", f"expected a list of Secret names, got {kind_of(value)}", hint)
        return None
    found: dict[str, SecretPlan] = {}
    for index, entry in enumerate(value):
        secret = _read_secret(entry, place.at(index))
        if secret is not None:
            found[secret.name] = both(found.get(secret.name), secret)
    return found


def both(known: SecretPlan | None, more: SecretPlan) -> SecretPlan:
    """Return a Secret that must have the keys which either mention of it demands."""
    if known is None:
        return more
    keys = tuple(dict.fromkeys((*known.required_keys, *more.required_keys)))
    return SecretPlan(name=more.name, required_keys=keys, optional=known.optional and more.optional)


def _read_secret(value: object, place: Place) -> SecretPlan | None:
    if not isinstance(value, dict):
        name = read_object_name(value, place, "Secret")
        return None if name is None else SecretPlan(name=name)
    _refuse_unknown(value, _SECRET_KEYS, place)
    name = read_object_name(value.get("name"), place.at("name"), "Secret")
    keys = value.get("required_keys")
    if keys is None:
        keys = ()
    if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) for key in keys):
        place.at("required_keys").error("bad-secrets", "expected a list of key names")
        return None
    return None if name is None else SecretPlan(name=name, required_keys=tuple(keys))
