"""Sandbox tags: text of 63 safe characters. Anything else is made safe, with a hash so that two values stay apart."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

from modalflow.translation.report import Place, kind_of, shown

GRACE_TAG = "stop_grace"
"""Seconds that a sandbox may take to end, where its pod says so; absent, ``[modal_executor] stop_grace`` holds."""
KEEP_TAG = "keep_on_failure"
"""Seconds for which the sandbox is kept if its task fails; absent where it is not."""
GPU_TAG = "gpu"
"""Model and number of GPUs, ``H100.2``; absent on CPU."""
INSTANCE_TAG = "task_instance"
"""Id of the task instance, by which Airflow's database finds it; absent for what is no task."""
CODE_TAG = "dag_code"
"""The copy of the DAG's code that the sandbox mounts; absent where modalflow brought none."""
RESERVED = frozenset(
    {
        "deployment",
        "launch",
        "dag_id",
        "task_id",
        "run_id",
        "try_number",
        "map_index",
        INSTANCE_TAG,
        GRACE_TAG,
        GPU_TAG,
        KEEP_TAG,
        CODE_TAG,
    }
)
"""Tags by which modalflow finds its sandboxes again."""
LONGEST = 63
"""Modal's rule for the tags of an App (modal.com/docs, 2026-09), taken for sandboxes too."""
_HASH_LENGTH = 9
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)
_SAFE = re.compile(r"[A-Za-z0-9._-]{0,63}", re.ASCII)


@lru_cache(maxsize=4096)
def safe(text: str) -> str:
    """Return ``text`` if it can be a tag, else a readable form of it with a hash of the whole."""
    if _SAFE.fullmatch(text):
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{_UNSAFE.sub('_', text)[: LONGEST - _HASH_LENGTH - 1]}-{digest}"


def read_tags(value: object, place: Place) -> dict[str, str] | None:
    """Read ``{name: text}``; unsafe text is changed with a notice, modalflow's own names are refused."""
    if not isinstance(value, dict):
        place.error("bad-tags", f'expected a dict such as {{"team": "ml"}}, got {kind_of(value)}')
        return None
    found: dict[str, str] = {}
    for name, text in value.items():
        if text is not None and (pair := read_tag(name, text, place.at(name))) is not None:
            found[pair[0]] = pair[1]
    return found


def read_tag(name: object, text: object, place: Place) -> tuple[str, str] | None:
    """Return one tag as it is sent."""
    if not isinstance(name, str) or not name or not isinstance(text, str):
        got = f"the name {shown(name)}" if not isinstance(name, str) or not name else kind_of(text)
        place.error("bad-tag", f"expected text, got {got}")
        return None
    if name in RESERVED:
        place.warn("reserved-tag", f"{shown(name)} is one of modalflow's own tags and keeps its value", "use another name")
        return None
    sent = safe(name), safe(text)
    if sent != (name, text):
        place.notice("changed-tag", f"sent as {sent[0]}={sent[1]}")
    return sent
