"""What becomes of each field of a sandbox's definition, declared once: the table of the coverage page.

Flows in: nothing. Flows out: ``FIELDS``, by message. A test holds it against the installed ``modal_proto``, so that a field of
a new client cannot go by unseen. Whoever makes a field real changes its line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Fate = Literal["honoured", "partly", "recorded", "refused", "ignored"]
"""honoured: it takes effect. partly: some of it does. recorded: kept and shown, without effect. refused: the call fails.
ignored: neither; no public client sends it, or it steers Modal's own machines."""


@dataclass(frozen=True, slots=True)
class Field:
    """The fate of one field, with a few words where they help."""

    fate: Fate
    words: str = ""


_INNER = Field("ignored", "steers Modal's own machines")

SANDBOX: Mapping[str, Field] = {
    "entrypoint_args": Field("honoured"),
    "mount_ids": Field("honoured"),
    "image_id": Field("partly", "this machine plays every base image; without containers, RUN is recorded"),
    "secret_ids": Field("honoured"),
    "resources": Field("partly", "see Resources"),
    "cloud_provider": Field("recorded"),
    "timeout_secs": Field("honoured"),
    "workdir": Field("honoured"),
    "nfs_mounts": Field("recorded", "network file systems are not served, so no id of one exists"),
    "runtime_debug": _INNER,
    "block_network": Field("honoured", "with `--network own`; otherwise the client is warned"),
    "s3_mounts": Field("ignored", "the form before cloud_bucket_mounts"),
    "cloud_bucket_mounts": Field("partly", "folders of this machine; credentials open nothing"),
    "volume_mounts": Field("honoured"),
    "pty_info": Field("honoured"),
    "scheduler_placement": Field("partly", "a region can be made unavailable; it runs here all the same, in `local`"),
    "worker_id": _INNER,
    "open_ports": Field("honoured", "tunnels on addresses of this machine, trusted by a certificate authority of the emulator"),
    "i6pn_enabled": Field("recorded"),
    "network_access": Field("partly", "with `--network own`; otherwise the client is warned; domains by TLS on port 443"),
    "proxy_id": Field("recorded"),
    "enable_snapshot": Field("recorded"),
    "snapshot_version": _INNER,
    "cloud_provider_str": Field("partly", "a cloud can be made unavailable; it runs here all the same"),
    "runsc_runtime_version": _INNER,
    "runtime": Field("recorded"),
    "verbose": Field("recorded"),
    "name": Field("honoured"),
    "experimental_options": Field("partly", "as experimental_options_v2, by older clients"),
    "preload_path_prefixes": _INNER,
    "idle_timeout_secs": Field("honoured"),
    "direct_sandbox_commands_enabled": Field("ignored", "exec always goes to the command router"),
    "_restore_instance_type": _INNER,
    "custom_domain": Field("recorded"),
    "include_oidc_identity_token": Field("honoured", "signed by the emulator, so no cloud accepts it"),
    "readiness_probe": Field("honoured"),
    "inbound_cidr_allowlist": Field("honoured"),
    "environment_variables": Field("recorded", "clients send variables as Secrets"),
    "experimental_options_v2": Field("partly", "`enable_docker` makes its folder; there is no daemon"),
    "experimental_outbound_policy": Field("refused"),
    "include_x509_svid": Field("recorded"),
    "outbound_policy": Field("refused"),
}

RESOURCES: Mapping[str, Field] = {
    "memory_mb": Field("partly", "taken from the stock, if there is one; not set aside on this machine"),
    "milli_cpu": Field("partly", "taken from the stock, if there is one; in containers, its share when all want more"),
    "gpu_config": Field("partly", "type and count are taken from the stock; there is no device inside"),
    "memory_mb_max": Field("partly", "in containers, a limit of all processes together; else of what each can allocate"),
    "ephemeral_disk_mb": Field("recorded"),
    "milli_cpu_max": Field("partly", "in containers, a hard limit; else recorded"),
    "rdma": Field("recorded"),
    "skip_num_threads_env_vars": Field("recorded"),
}

CREATE: Mapping[str, Field] = {
    "app_id": Field("honoured"),
    "definition": Field("partly", "see Sandbox"),
    "environment_name": Field("ignored", "the App's counts"),
    "tags": Field("honoured"),
}

CREATE_V2: Mapping[str, Field] = {
    "app_id": Field("honoured"),
    "definition": Field("partly", "see Sandbox"),
    "ephemeral_secrets": Field("honoured", "never written to disk"),
    "tags": Field("honoured"),
    "cloud_bucket_mount_credentials": Field("recorded", "every bucket is open"),
    "secret_sources": Field("honoured"),
}

FIELDS: Mapping[str, Mapping[str, Field]] = {
    "SandboxCreateRequest": CREATE,
    "SandboxCreateV2Request": CREATE_V2,
    "Sandbox": SANDBOX,
    "Resources": RESOURCES,
}
"""By the bare name of the message in ``modal_proto.api_pb2``, then by field."""
