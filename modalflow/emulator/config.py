"""How an emulator is set up: one frozen value, checked where it is made.

Flows in: the command line, a fixture or a test. Flows out: ``EmulatorConfig``, read by ``server``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal, get_args

from modalflow.emulator.state.conditions import Conditions, ConditionsError

_LAST_PORT = 65535
NETWORKS = ("auto", "own", "host")
_SMALLEST_RANGE = 28
ISOLATIONS = ("auto", "container", "process")
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
ImageBuildMode = Literal["auto", "run", "record"]


class EmulatorConfigError(ValueError):
    """A setting that cannot be used; the text names it, its value and what to write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmulatorConfig:
    """Settings of one emulator.

    ``port``: of the control plane, 0 takes a free one. ``host``: loopback unless ``allow_remote``. ``gpus``: devices in stock by
    Modal's names (``None``: unlimited, ``{}``: none). ``latency``: seconds added to every RPC. ``state_dir``: keeps apps, named
    Secrets, Volumes, Dicts, Queues, images and what became of sandboxes across restarts, and the token if none is given; ``None``
    keeps all in a temporary folder that goes with the emulator. ``python``: the interpreter, or the environment's folder, that
    plays every image; ``None`` is the interpreter that runs the emulator.
    ``token_id`` and ``token_secret``: the credentials it accepts, random if ``None``. ``any_token``: accept any, each a
    workspace of its own. ``record_calls``: keep each request in memory for tests to look at.
    ``faults``: a YAML file of faults that are in force from the start (``faults.documents``).
    ``control``: listen for commands too (``control``), on 127.0.0.1 with a token of its own.
    ``conditions``: what else a workspace meets: CPUs, delays, limits, preemption (``state.conditions``).
    ``frozen_clock``: the emulator's time stands still until it is advanced.
    ``isolation``: ``auto`` runs sandboxes as containers where the machine allows it and else as processes; ``container`` and
    ``process`` insist.
    ``network``: ``auto`` gives each sandbox a network of its own if it is a container and the machine allows it, else this
    machine's; ``own`` and ``host`` insist. ``network_range``: private addresses to take networks from.
    ``buckets``: local folders that play cloud buckets, by name; any other bucket is a folder below ``state_dir``.
    ``image_builds``: ``run`` runs the commands of image builds, ``record`` records them, ``auto`` runs them if sandboxes are
    containers; files are copied in any case.
    """

    port: int = 0
    host: str = "127.0.0.1"
    allow_remote: bool = False
    gpus: Mapping[str, int] | None = None
    latency: float = 0.0
    state_dir: Path | None = None
    python: Path | None = None
    token_id: str | None = None
    token_secret: str | None = field(default=None, repr=False)
    any_token: bool = False
    record_calls: bool = False
    frozen_clock: bool = False
    faults: Path | None = None
    isolation: str = "auto"
    control: bool = False
    network: str = "auto"
    network_range: str = "198.18.0.0/15"
    conditions: Conditions = field(default_factory=Conditions)
    buckets: Mapping[str, Path] = field(default_factory=dict)
    image_builds: ImageBuildMode = "auto"

    def __post_init__(self) -> None:
        if self.host not in LOOPBACK and not self.allow_remote:
            raise EmulatorConfigError(
                f"host: {self.host!r} is not loopback; whoever reaches the emulator can run commands here. "
                "Write 127.0.0.1, or allow it explicitly (allow_remote)"
            )
        if self.host not in LOOPBACK and self.any_token:
            raise EmulatorConfigError(f"any_token: refused on {self.host!r}; it accepts everybody and is for 127.0.0.1 only")
        if self.isolation not in ISOLATIONS:
            raise EmulatorConfigError(f"isolation: expected auto, container or process, got {self.isolation!r}")
        if self.network not in NETWORKS:
            raise EmulatorConfigError(f"network: expected auto, own or host, got {self.network!r}")
        if self.network == "own" and self.isolation == "process":
            raise EmulatorConfigError("network: own needs containers; write isolation container or auto, or network host")
        parse_network_range(self.network_range)
        if not 0 <= self.port <= _LAST_PORT:
            raise EmulatorConfigError(f"port: expected 0 to 65535, got {self.port}")
        if self.image_builds not in get_args(ImageBuildMode):
            raise EmulatorConfigError(f"image_builds: expected auto, run or record, got {self.image_builds!r}")
        if not 0 <= self.latency < math.inf:
            raise EmulatorConfigError(f"latency: expected seconds of at least 0, got {self.latency}")
        if (self.token_id is None) != (self.token_secret is None):
            raise EmulatorConfigError("token_id and token_secret: give both, or neither for random ones")

    def conditions_at_start(self) -> Conditions:
        """Return ``conditions`` with ``gpus``. ``EmulatorConfigError`` for an unknown type."""
        if self.gpus is None:
            return self.conditions
        try:
            return replace(self.conditions, gpus=self.gpus)
        except ConditionsError as error:
            raise EmulatorConfigError(str(error)) from error


def url_host(host: str) -> str:
    """Return ``host`` as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def parse_network_range(text: str) -> IPv4Network:
    """Read addresses for sandboxes. ``EmulatorConfigError`` unless they are private IPv4 with room for some."""
    try:
        found = IPv4Network(text)
    except ValueError as error:
        raise EmulatorConfigError(f"network_range: {error}; write one such as 198.18.0.0/15") from error
    if not found.is_private or found.prefixlen > _SMALLEST_RANGE:
        raise EmulatorConfigError(f"network_range: expected private addresses, /{_SMALLEST_RANGE} or more of them, got {text}")
    return found


def parse_buckets(texts: Iterable[str]) -> dict[str, Path]:
    """Read ``NAME=FOLDER`` entries. ``EmulatorConfigError`` for anything else, or a folder that is not there."""
    found: dict[str, Path] = {}
    for text in texts:
        name, _, folder = text.partition("=")
        if not name.strip() or not folder.strip():
            raise EmulatorConfigError(f"bucket: expected NAME=FOLDER such as raw=./data; got {text!r}")
        if not Path(folder).is_dir():
            raise EmulatorConfigError(f"bucket: {name}: there is no folder {folder!r}")
        found[name.strip()] = Path(folder)
    return found


def parse_gpus(text: str) -> dict[str, int]:
    """Read ``A10G=2,H100=8``; the empty string is an empty stock. ``EmulatorConfigError`` for anything else."""
    stock: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, equals, count = part.partition("=")
        if not equals or not count.strip().isdigit():
            raise EmulatorConfigError(f"gpus: expected TYPE=COUNT such as A10G=2,H100=8; got {part!r}")
        stock[name.strip()] = stock.get(name.strip(), 0) + int(count)
    return stock
