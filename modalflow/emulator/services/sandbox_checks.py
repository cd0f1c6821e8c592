"""What Modal refuses of a sandbox or a sidecar, and Secrets by their ids: shared by all that creates one.

Flows in: definitions as they were sent. Flows out: nothing, or the status that the client turns into Modal's own exception.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.buckets import BucketError, Buckets
from modalflow.emulator.state.store import Workspace
from modalflow.emulator.state.volume_tree import parts_of
from modalflow.emulator.wire import fail

CLOUDS = frozenset(name.removeprefix("CLOUD_PROVIDER_").lower() for name in api_pb2.CloudProvider.DESCRIPTOR.values_by_name) - {
    "unspecified"
}
"""As the installed protocol names them."""
REGIONS = (
    *("us", "eu", "ap", "uk", "ca", "me", "sa", "af", "mx", "jp", "au"),
    *("us-east", "us-central", "us-south", "us-west", "eu-west", "eu-north", "eu-south"),
    *("ap-northeast", "ap-southeast", "ap-south", "ap-melbourne"),
)
"""Modal's own (modal.com/docs/guide/region-selection, read November 2026)."""
_CLOUD_REGION = re.compile(r"[a-z]+(?:-?[a-z]+)*-?\d+(?:-[a-z])?|[a-z]+(?:us|europe|asia|uk|india|japan)|(?:us|eu)gov\w*")
"""A cloud's own name of a region or zone, such as ``us-east-1``, ``europe-west4`` or ``westeurope``; there are hundreds."""
NAME = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_TAG = re.compile(r"[a-zA-Z0-9._-]{0,63}")


def checked_tags(tags: Sequence[api_pb2.SandboxTag]) -> dict[str, str]:
    """Return tags as a dict; INVALID_ARGUMENT for what Modal documents as no tag (read November 2026 for App tags)."""
    found = {tag.tag_name: tag.tag_value for tag in tags}
    for name, value in found.items():
        if not name or not _TAG.fullmatch(name) or not _TAG.fullmatch(value):
            fail(Status.INVALID_ARGUMENT, f"Invalid tag {name!r}: expected up to 63 of letters, digits, '.', '_' and '-'")
    return found


def secrets_from(workspace: Workspace, sources: Sequence[api_pb2.SecretSource]) -> list[dict[str, str]]:
    """Return the environments of V2 secret sources in order; NOT_FOUND for an unknown id."""
    return [
        secrets_by_id(workspace, [source.secret_id])[0] if source.secret_id else dict(source.env.contents) for source in sources
    ]


def secrets_by_id(workspace: Workspace, secret_ids: Sequence[str]) -> list[dict[str, str]]:
    """Return the environments of Secrets in order; NOT_FOUND for an unknown id."""
    for secret_id in secret_ids:
        if secret_id not in workspace.secrets:
            fail(Status.NOT_FOUND, f"Secret '{secret_id}' not found")
        workspace.secrets[secret_id].last_used_at = workspace.clock.time()
    return [dict(workspace.secrets[secret_id].values) for secret_id in secret_ids]


def check_name(workspace: Workspace, app_id: str, name: str) -> None:
    """Refuse a name that is none, or that a running sandbox of the App has."""
    if name and not NAME.fullmatch(name):
        fail(Status.INVALID_ARGUMENT, f"Invalid sandbox name {name!r}: expected 1 to 64 of letters, digits, '.', '_' and '-'")
    if (app_id, name) in workspace.running_names:
        fail(Status.ALREADY_EXISTS, f"A running sandbox named '{name}' already exists in this App")


def check_volumes(workspace: Workspace, mounts: Sequence[api_pb2.VolumeMount]) -> None:
    """Refuse wrong Volume mounts."""
    seen: set[str] = set()
    for mount in mounts:
        if mount.volume_id not in workspace.volumes:
            fail(Status.NOT_FOUND, f"Volume '{mount.volume_id}' not found")
        if mount.volume_id in seen:
            fail(Status.INVALID_ARGUMENT, f"Volume '{mount.volume_id}' is mounted more than once")
        seen.add(mount.volume_id)
        if not mount.mount_path.startswith("/") or not parts_of(mount.mount_path):
            fail(Status.INVALID_ARGUMENT, f"Volume mount path {mount.mount_path!r} must be absolute and not the root")
        parts_of(mount.sub_path)


def check_buckets(buckets: Buckets, workspace: Workspace, definition: api_pb2.Sandbox) -> None:
    """Refuse wrong bucket mounts."""
    mounts = definition.cloud_bucket_mounts
    for mount in mounts:
        if mount.credentials_secret_id and mount.credentials_secret_id not in workspace.secrets:
            fail(Status.NOT_FOUND, f"Secret '{mount.credentials_secret_id}' not found")
        if not mount.mount_path.startswith("/") or not parts_of(mount.mount_path):
            fail(Status.INVALID_ARGUMENT, f"Bucket mount path {mount.mount_path!r} must be absolute and not the root")
        parts_of(mount.key_prefix)
        try:
            buckets.folder(mount.bucket_name, workspace.name)
        except BucketError as error:
            fail(Status.INVALID_ARGUMENT, str(error))
    taken = [mount.mount_path for mount in mounts] + [volume.mount_path for volume in definition.volume_mounts]
    for mount in mounts:
        if any(path.rstrip("/").startswith(mount.mount_path.rstrip("/") + "/") for path in taken):
            fail(Status.UNIMPLEMENTED, f"This emulator mounts nothing below the bucket at '{mount.mount_path}'")


def check_placement(definition: api_pb2.Sandbox) -> None:
    """Refuse clouds and regions that there are not, and experimental options of a wrong kind."""
    cloud = definition.cloud_provider_str
    if cloud and cloud.lower() not in CLOUDS:
        fail(Status.INVALID_ARGUMENT, f"Invalid cloud {cloud!r}: expected one of {', '.join(sorted(CLOUDS))}")
    for region in definition.scheduler_placement.regions:
        if region not in REGIONS and not _CLOUD_REGION.fullmatch(region):
            fail(
                Status.INVALID_ARGUMENT, f"Invalid region {region!r}: expected one of {', '.join(REGIONS)}, or a cloud's own name"
            )
    docker = definition.experimental_options_v2.get("enable_docker", "False")
    if docker.lower() not in ("true", "false"):
        fail(Status.INVALID_ARGUMENT, f"experimental option enable_docker must be a bool, got {docker!r}")
