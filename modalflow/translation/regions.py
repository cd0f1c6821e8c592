"""Cloud regions and zones as Modal regions.

Modal's names: modal.com/docs/guide/region-selection (read 2026-11, in a copy of about 2025; Modal then took the clouds' own
names too).
"""

from __future__ import annotations

import re

REGION_KEYS = ("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region")
ZONE_KEYS = (
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/zone",
    "topology.gke.io/zone",
    "topology.ebs.csi.aws.com/zone",
)

BROAD = ("us", "eu", "ap", "uk", "ca", "me", "sa", "af", "mx")
NARROW = (
    *("us-east", "us-central", "us-south", "us-west", "eu-west", "eu-north", "eu-south"),
    *("ap-northeast", "ap-southeast", "ap-south", "ap-melbourne", "jp", "au"),
)
WIDE = ("eu", "ap")
"""Modal's regions of many countries: who named a place in one of them is told that it is widened."""

_TABLE: tuple[tuple[str, str], ...] = (
    (r"us-east-\d|us-east\d+|us-ashburn-1|eastus\d?", "us-east"),
    (r"us-central\d|us-chicago-1|us-phoenix-1|centralus|northcentralus|westcentralus", "us-central"),
    (r"southcentralus|us-south\d", "us-south"),
    (r"us-west-\d|us-west\d+|us-sanjose-1|westus\d?", "us-west"),
    (r"eu-west-2|uk-\w+-1|uksouth|ukwest|europe-west2", "uk"),
    (r"europe-west6|switzerland\w+", ""),  # Zurich and Geneva: not in the European Economic Area, which "eu" promises
    (r"europe-west(?:8|12)|europe-southwest1|eu-south-\d|eu-milan-1|eu-madrid-1|italynorth|spaincentral", "eu-south"),
    (r"eu-west-\d|europe-west\d+|westeurope|northeurope", "eu-west"),
    (r"eu-north-1|eu-stockholm-1|europe-north\d|swedencentral|norway\w+", "eu-north"),
    (r"eu-central-1|eu-frankfurt-1|eu-paris-1|germany\w+|europe-central\d|france\w+|polandcentral|austriaeast", "eu"),
    (r"ap-northeast-1|ap-northeast-3|ap-tokyo-1|ap-osaka-1|asia-northeast[12]|japan(?:east|west)", "jp"),
    (r"ap-northeast-2|ap-seoul-1|asia-northeast3|korea\w+", "ap-northeast"),
    (r"ap-southeast-[24]|ap-sydney-1|ap-melbourne-1|australia\w+|australia-southeast\d", "au"),
    (r"ap-southeast-\d|ap-singapore-1|asia-southeast\d|southeastasia|malaysia\w+|indonesia\w+", "ap-southeast"),
    (r"ap-south-\d|ap-mumbai-1|asia-south\d|\w+india", "ap-south"),
    (r"ap-\w+-\d|asia-\w+\d|eastasia|newzealandnorth", "ap"),
    (r"ca-\w+-\d|northamerica-northeast\d|canada\w+", "ca"),
    (r"sa-\w+-\d|southamerica-\w+\d|brazil\w+|chilecentral", "sa"),
    (r"me-\w+-\d|me-\w+\d|il-central-1|uae\w+|qatarcentral|israelcentral", "me"),
    (r"af-\w+-\d|africa-\w+\d|southafrica\w+", "af"),
    (r"mx-\w+-\d|northamerica-south1|mexicocentral", "mx"),
)
_COMPILED = tuple((re.compile(pattern, re.ASCII), region) for pattern, region in _TABLE)
_ZONE = re.compile(r"(.+?)-?[a-f]|(.+)-\d", re.ASCII)
"""``us-east-1a`` (AWS), ``us-east4-b`` (GCE), ``eastus-1`` (Azure)."""


def modal_region(region: str) -> str | None:
    """Return the Modal region that holds a cloud's region, ``None`` if unknown."""
    if region in BROAD or region in NARROW:
        return region
    return next((name for pattern, name in _COMPILED if pattern.fullmatch(region.lower())), None) or None


def modal_region_of_zone(zone: str) -> str | None:
    """Return the Modal region around a cloud's zone, ``None`` if unknown."""
    match = _ZONE.fullmatch(zone.lower())
    return None if match is None else modal_region(match.group(1) or match.group(2))
