"""Keys that other tools write in a dict about GPUs, as our own: SkyPilot, Ray, dstack, Flyte, Metaflow.

Flows in: the dict of a ``gpu`` key. Flows out, to ``gpus.requests``: the same with our keys, and what to write instead of a key
that means nothing there. Sources: docs.skypilot.co yaml-spec and docs.ray.io accelerator-types, 2026-11; dstack's GPUSpec,
flytekit's accelerators and Metaflow's kubernetes decorator, 2026-09.
"""

from __future__ import annotations

from modalflow.translation.report import Place, shown

_SAME = {"accelerator_type": "name", "num_gpus": "count", "gpu_vendor": "vendor"}
"""Ray's and Metaflow's."""

_ELSEWHERE = {
    "infra": 'write {"modal": {"region": REGION}} or {"modal": {"cloud": CLOUD}}',
    "region": 'write {"modal": {"region": REGION}}, beside "gpu"',
    "zone": 'Modal offers no zones: write {"modal": {"region": REGION}}',
    "cloud": 'write {"modal": {"cloud": CLOUD}}, beside "gpu"',
    "use_spot": "remove it: GPU sandboxes can always be preempted",
    "spot_policy": "remove it: GPU sandboxes can always be preempted",
    "cpus": 'write {"modal": {"cpu": CORES}}, beside "gpu"',
    "num_cpus": 'write {"modal": {"cpu": CORES}}, beside "gpu"',
    "cpu": 'write {"modal": {"cpu": CORES}}, beside "gpu"',
    "disk_size": 'write {"modal": {"volumes": {PATH: NAME}}}',
    "shm_size": "remove it",
    "instance_type": 'write the model: {"name": "A10G"}',
    "max_hourly_cost": 'write "max_price", USD an hour for one GPU',
    "accelerator_args": "remove it",
    "partition": "remove it: Modal rents whole GPUs",
    "type": 'did you mean "name"?',
    "model": 'did you mean "name"?',
    "gpu": 'did you mean "name"?',
    "device": 'did you mean "name"?',
}


def hint_for(key: object) -> str:
    """Return what to write instead of another tool's key, empty if nobody knows it."""
    return _ELSEWHERE.get(key, "") if isinstance(key, str) else ""


def with_our_keys(value: dict[object, object], place: Place) -> dict[object, object]:
    """Return ``value`` under our keys, and dstack's ``{"min": 1, "max": 4}`` as a range in text."""
    found: dict[object, object] = {}
    for key, entry in value.items():
        ours = _SAME.get(key, key) if isinstance(key, str) else key
        if ours in found or (ours != key and ours in value):
            place.error("bad-gpu", f"{shown(key)} and {shown(ours)} say the same", "keep one of them")
            continue
        unit = {"memory": "GB", "total_memory": "GB", "count": ""}.get(str(ours))
        found[ours] = entry if unit is None else _range(entry, unit)
    return found


def _range(entry: object, unit: str) -> object:
    """Return ``24GB..80GB`` for ``{"min": 24, "max": "80GB"}``; a number is in ``unit``."""
    if not isinstance(entry, dict) or not entry or not set(entry) <= {"min", "max"}:
        return entry
    ends = [entry.get("min"), entry.get("max")]
    if any(end is not None and type(end) not in {str, int} for end in ends):
        return entry
    return "..".join("" if end is None else f"{end}{unit}" if type(end) is int else str(end) for end in ends)
