"""What the text of an option becomes: one reader for each kind of value that ``[modal_executor]`` has.

In: the text that Airflow keeps. Out: a value; a text of another kind raises ``ValueError``, ``TypeError`` or ``KeyError``, which
``settings`` turns into one sentence with the option's name. Next: ``settings``, whose table names these readers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.env import NAME, variable_of
from modalflow.translation.functions.plan import DISK, FunctionTarget
from modalflow.translation.images import read_image
from modalflow.translation.inputs import ClaimSource, SecretSource
from modalflow.translation.layers import OPTIONS as OPTIONS_ROOT
from modalflow.translation.plan import Home
from modalflow.translation.quantities import read_disk
from modalflow.translation.report import Place

LEAST_KEEP_DAYS = 2
"""One day in which tasks are launched with a copy of the DAGs' code, and one (Modal's 24 h) in which the last of them ends."""


def read_text(raw: str) -> str:
    """Return the text as it is."""
    return raw


def read_name(raw: str) -> str:
    """Read a name of letters, digits, ``-``, ``_`` and ``.``, which is a folder's name too: not of dots alone."""
    if not re.fullmatch(r"(?!\.+$)[A-Za-z0-9._-]{1,63}", raw.strip()):
        raise ValueError
    return raw.strip()


def read_count(raw: str) -> int:
    """Read a whole number of 1 or more."""
    value = int(raw)
    if value < 1:
        raise ValueError
    return value


def read_count_or_none(raw: str) -> int:
    """Read a whole number of 0 or more."""
    value = int(raw)
    if value < 0:
        raise ValueError
    return value


def read_seconds(raw: str) -> float:
    """Read seconds, 0 or more."""
    value = float(raw)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def read_bound(raw: str) -> float:
    """Read seconds, more than none: a bound of 0 would end everything at once."""
    value = read_seconds(raw)
    if value == 0:
        raise ValueError
    return value


def read_boolean(raw: str) -> bool:
    """Read a boolean in Airflow's spellings."""
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    return known[raw.strip().lower()]


def read_json_object(raw: str) -> dict[str, object]:
    """Read a JSON object."""
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise TypeError
    return value


def read_json_list(raw: str) -> list[object]:
    """Read a JSON list."""
    value = json.loads(raw)
    if not isinstance(value, list):
        raise TypeError
    return value


def read_json_or_text(raw: str) -> object:
    """Read a list, object or number where the text is JSON, else the text itself (``us-east``, ``64Gi``)."""
    try:
        return json.loads(raw)
    except json.JSONDecodeError:
        return raw


def read_names(raw: str) -> list[str]:
    """Read a comma-separated list of names."""
    return [part.strip() for part in raw.split(",") if part.strip()]


def _text_in(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def read_name_map(raw: str) -> dict[str, str]:
    """Read a JSON object of texts."""
    return {name: _text_in(value) for name, value in read_json_object(raw).items()}


def read_claims(raw: str) -> dict[str, ClaimSource]:
    """Read ``VOLUME`` or ``VOLUME/FOLDER`` by the name of a claim."""
    found = {}
    for claim, target in read_name_map(raw).items():
        volume, _, folder = target.partition("/")
        if ".." in folder.split("/") or not volume:
            raise ValueError
        found[claim] = ClaimSource(volume=volume, sub_path=folder.strip("/") or None)
    return found


def _secret_source(value: object, field: str) -> SecretSource:
    """Read ``name``, or ``{field: name, "keys": [...]}`` with the keys as a list, or as a map to the variables that hold them."""
    if not isinstance(value, dict):
        return SecretSource(name=_text_in(value))
    if not set(value) <= {field, "keys"}:
        raise ValueError
    keys = value.get("keys")
    if isinstance(keys, list):
        keys = {_text_in(key): variable_of(key) for key in keys}
    elif isinstance(keys, dict):
        keys = {key: _text_in(variable) for key, variable in keys.items()}
    elif keys is not None:
        raise TypeError
    if not all(NAME.fullmatch(variable) for variable in (keys or {}).values()):
        raise ValueError
    return SecretSource(name=_text_in(value.get(field)), keys=keys)


def read_secret_sources(raw: str) -> dict[str, SecretSource]:
    """Read Modal Secrets by the name of a cluster's Secret."""
    return {name: _secret_source(value, "name") for name, value in read_json_object(raw).items()}


def read_config_maps(raw: str) -> dict[str, str | SecretSource]:
    """Read an absolute path or a Modal Secret by the name of a ConfigMap."""
    found: dict[str, str | SecretSource] = {}
    for name, value in read_json_object(raw).items():
        found[name] = _secret_source(value, "secret") if isinstance(value, dict) else _text_in(value)
        if isinstance(value, str) and not value.startswith("/"):
            raise ValueError
    return found


def read_functions(raw: str) -> dict[str, FunctionTarget]:
    """Read deployed Functions by a name of the site."""
    return {name: _function(value) for name, value in read_json_object(raw).items()}


def _function(value: object) -> FunctionTarget:
    if not isinstance(value, dict) or not set(value) <= {"app", "function", "image", "disk"}:
        raise ValueError
    findings: list[Diagnostic] = []
    place = Place(OPTIONS_ROOT, ("functions",), findings)
    disk = read_disk(value["disk"], place) if "disk" in value else DISK
    image = read_image(value.get("image", "auto"), place)
    if disk is None or image is None:
        raise ValueError
    app, function = read_name(_text_in(value.get("app"))), read_name(_text_in(value.get("function")))
    return FunctionTarget(app=app, function=function, image=image, disk=disk)


def read_namespaces(raw: str) -> dict[str, Home]:
    """Read ``ENVIRONMENT/APP`` by namespace, or an object with ``conn_id``, ``environment``, ``app``.

    A part that is empty or absent is modalflow's own.
    """
    found: dict[str, Home] = {}
    for name, text in read_json_object(raw).items():
        if isinstance(text, dict):
            found[name] = _home(text)
            continue
        if not isinstance(text, str) or (text and text.count("/") != 1):
            raise ValueError
        environment, _, app = text.partition("/")
        found[name] = Home(environment=read_name(environment) if environment else None, app=read_name(app) if app else None)
    return found


def _home(parts: dict[str, object]) -> Home:
    if not set(parts) <= {"conn_id", "environment", "app"}:
        raise ValueError
    return Home(**{part: read_name(_text_in(value)) for part, value in parts.items()})


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a reader of these words, in any case."""

    def read(raw: str) -> str:
        value = raw.strip().lower()
        if value not in choices:
            raise ValueError
        return value

    read.__doc__ = " or ".join(choices)
    return read


def read_keep_days(raw: str) -> int:
    """Read whole days, ``LEAST_KEEP_DAYS`` or more."""
    value = int(raw)
    if value < LEAST_KEEP_DAYS:
        raise ValueError
    return value
