"""Cloud regions and zones as Modal regions. Modal's names: modal.com/docs/guide/region-selection, 2026-09 (partly recalled)."""

from __future__ import annotations

import re

REGION_KEYS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")

_TABLE: tuple[tuple[str, str], ...] = (
    (r"us-east-\d|us-east\d+|eastus\d?", "us-east"),
    (r"us-central\d|centralus|northcentralus", "us-central"),
    (r"southcentralus|us-south\d", "us-south"),
    (r"us-west-\d|us-west\d+|westus\d?", "us-west"),
    (r"eu-west-2|uksouth|ukwest|europe-west2", "uk"),
    (r"eu-west-\d|europe-west\d+|westeurope|northeurope", "eu-west"),
    (r"eu-north-1|europe-north\d|swedencentral", "eu-north"),
    (r"eu-south-\d", "eu-south"),
    (r"eu-central-1|germany\w+|europe-central\d|francecentral|polandcentral", "eu"),
    (r"ap-northeast-1|ap-northeast-3|asia-northeast[12]|japan(?:east|west)", "jp"),
    (r"ap-southeast-2|australia\w+|australia-southeast\d", "au"),
    (r"ap-south-\d|asia-south\d|centralindia|southindia", "ap-south"),
    (r"ap-\w+-\d|asia-\w+\d|(?:east|southeast)asia|korea\w+", "ap"),
    (r"ca-\w+-\d|northamerica-northeast\d|canada\w+", "ca"),
    (r"sa-\w+-\d|southamerica-\w+\d|brazil\w+", "sa"),
    (r"me-\w+-\d|me-\w+\d|uae\w+|qatarcentral|israelcentral", "me"),
    (r"af-\w+-\d|africa-\w+\d|southafrica\w+", "af"),
    (r"mx-\w+-\d|mexicocentral", "mx"),
)
_COMPILED = tuple((re.compile(pattern, re.ASCII), region) for pattern, region in _TABLE)
_ZONE = re.compile(r"(.+?)-?[a-f]|(.+)-\d", re.ASCII)
"""``us-east-1a`` (AWS), ``us-east4-b`` (GCE), ``eastus-1`` (Azure)."""


def modal_region(region: str) -> str | None:
    """Return the Modal region that holds a cloud's region, ``None`` if unknown."""
    return next((name for pattern, name in _COMPILED if pattern.fullmatch(region)), None)


def modal_region_of_zone(zone: str) -> str | None:
    """Return the Modal region around a cloud's zone, ``None`` if unknown."""
    match = _ZONE.fullmatch(zone)
    return None if match is None else modal_region(match.group(1) or match.group(2))
