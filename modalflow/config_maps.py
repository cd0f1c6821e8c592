"""The data of Kubernetes ConfigMaps from files on the scheduler's host: a manifest, or a folder with one file for each key.

Flows in: a path that ``[modal_executor] config_maps`` names. Flows out: the content by key, for ``translation.pod_sources``.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from modalflow.translation.inputs import FileContent

LARGEST = 1024 * 1024
"""Bytes: what Kubernetes lets a ConfigMap hold, and so what is read."""


def read_config_map(path: str) -> Mapping[str, FileContent] | str:
    """Return the data, or what is wrong. A folder is read as ``kubectl create configmap --from-file`` reads it. Never raises."""
    place = Path(path)
    if not place.is_absolute():
        return "expected an absolute path"
    try:
        return _folder(place) if place.is_dir() else _manifest(place)
    except OSError as error:
        return f"cannot be read: {error.strerror or type(error).__name__}"
    except ValueError:
        return "cannot be read: no valid file name"


def _folder(folder: Path) -> Mapping[str, FileContent] | str:
    found: dict[str, FileContent] = {}
    left = LARGEST
    for entry in sorted(os.scandir(folder), key=lambda one: one.name):
        if entry.name.startswith("..") or not entry.is_file():  # a mounted ConfigMap keeps its versions in folders named ..
            continue
        content = _bounded(Path(entry.path), left)
        if content is None:
            return f"holds more than {LARGEST} bytes"
        left -= len(content)
        found[entry.name] = _content(content)
    return found


class _Unreadable(Exception):
    """The manifest is none; the text says why."""


def _manifest(file: Path) -> Mapping[str, FileContent] | str:
    content = _bounded(file, LARGEST)
    if content is None:
        return f"holds more than {LARGEST} bytes"
    try:
        document = yaml.safe_load(content)
        if not isinstance(document, dict) or document.get("kind") != "ConfigMap":
            return "is no manifest of kind: ConfigMap"
        return {**_texts(document, "data"), **{key: _decoded(key, text) for key, text in _texts(document, "binaryData").items()}}
    except (yaml.YAMLError, ValueError, RecursionError):
        return "is not YAML"
    except _Unreadable as error:
        return str(error)


def _texts(document: dict[str, Any], name: str) -> dict[str, str]:
    values = document.get(name) or {}
    if not isinstance(values, dict) or not all(isinstance(part, str) for pair in values.items() for part in pair):
        raise _Unreadable(f"its {name} is no map of texts")
    return values


def _decoded(key: str, text: str) -> FileContent:
    try:
        return _content(base64.b64decode(text))
    except binascii.Error:
        raise _Unreadable(f"its binaryData {key!r} is not base64") from None


def _bounded(file: Path, most: int) -> bytes | None:
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    return content if len(content) <= most else None


def _content(content: bytes) -> FileContent:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return base64.b64encode(content)
