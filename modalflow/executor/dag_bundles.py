"""Airflow's DAG bundles as a sandbox is to have them.

In: Airflow's configuration, ``dag_source``, and which folders this host has (looked at once, at start). Out: ``Bundles``: what
Airflow in a sandbox is told of them, what is mounted, which folders are brought to Modal. Next: ``worker_environment`` and
``dag_code``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from modalflow.executor.configuration import ConfigurationView
from modalflow.option_table import SECTION
from modalflow.settings import Settings, SettingsError
from modalflow.translation.plan import VolumePlan

BUNDLES_MOUNT = "/mnt/modalflow/bundles"
LOCAL_BUNDLE = "LocalDagBundle"
REFUSED_BY: Mapping[str, tuple[str, ...]] = {
    "git": (LOCAL_BUNDLE, "S3DagBundle", "GCSDagBundle"),
    "bucket": (LOCAL_BUNDLE, "GitDagBundle"),
}
"""Classes of Airflow's that are not what ``dag_source`` says; a site's own class may be anything."""
WANTED: Mapping[str, str] = {"git": "GitDagBundle", "bucket": "S3DagBundle or GCSDagBundle"}
BUNDLE_LIST = "[dag_processor] dag_bundle_config_list"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundles:
    """``env`` is for every sandbox; ``volumes`` are mounted in each, those of ``code`` where the bundle is needed.

    ``folders`` are the local ones that are brought to Modal, by bundle. ``warnings`` are for the scheduler's log.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[VolumePlan, ...] = ()
    code: Mapping[str, VolumePlan] = field(default_factory=dict)
    folders: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def read_bundles(view: ConfigurationView, settings: Settings, is_folder: Callable[[str], bool] = os.path.isdir) -> Bundles:
    """Read the bundles and decide where each comes from. Raises ``SettingsError``.

    Their teams stay behind: a worker has no ``[core] multi_team``, without which Airflow refuses a bundle of a team (3.3.2).
    """
    dags_folder = os.path.expanduser(view.get("core", "dags_folder"))  # noqa: PTH111 - text in, text out
    text = view.get("dag_processor", "dag_bundle_config_list")
    listed = _bundle_list(text) if text else []
    local = {str(bundle["name"]): _folder_of(bundle, dags_folder) for bundle in listed if _class_of(bundle) == LOCAL_BUNDLE}
    _check_source(settings, listed)
    volume, warnings = settings.dags_volume, list[str]()
    if volume:
        mounts = {name: f"{BUNDLES_MOUNT}/{name}" for name in local}
        folders: dict[str, str] = {}
    else:
        folders, warnings = _brought(settings.dag_code.source, local, is_folder)
        mounts = {name: mount_of(name) for name in folders}
    env = {}
    if dags_folder:
        env["AIRFLOW__CORE__DAGS_FOLDER"] = _dags_folder(dags_folder, local, mounts, default="dags-folder" if volume else None)
    if text:
        moved = [_moved(bundle, mounts) for bundle in listed]
        env["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps(moved)
    return Bundles(
        env=env,
        volumes=(VolumePlan(mount_path=BUNDLES_MOUNT, name=volume, read_only=True, is_ours=True),) if volume else (),
        code={
            name: VolumePlan(
                mount_path=mount_of(name), name=settings.dag_code.volume, read_only=True, version=2, is_ours=True, code_of=name
            )
            for name in folders
        },
        folders=folders,
        warnings=tuple(warnings),
    )


def mount_of(bundle: str) -> str:
    """Return where the code of a bundle is mounted; any name is one folder's."""
    name = quote(bundle, safe="")
    return f"{BUNDLES_MOUNT}/{name if name.strip('.') else name.replace('.', '%2E')}"


def _class_of(bundle: Mapping[str, Any]) -> str:
    return str(bundle.get("classpath", "")).rpartition(".")[2]


def _folder_of(bundle: Mapping[str, Any], dags_folder: str) -> str:
    path = (bundle.get("kwargs") or {}).get("path")
    return os.path.abspath(dags_folder if path is None else str(path))  # noqa: PTH100 - text in, text out


def _check_source(settings: Settings, listed: list[dict[str, Any]]) -> None:
    source = settings.dag_code.source
    if settings.dags_volume and source != "auto":
        raise SettingsError(
            f"[{SECTION}] dag_source = {source}, and dags_volume = {settings.dags_volume}: only one of them can hold. Leave "
            f"dags_volume out, or dag_source = auto"
        )
    refused = [bundle for bundle in listed if _class_of(bundle) in REFUSED_BY.get(source, ())]
    if refused:
        found = ", ".join(f"{bundle['name']} ({_class_of(bundle)})" for bundle in refused)
        raise SettingsError(
            f"[{SECTION}] dag_source = {source}: {BUNDLE_LIST} has {found}; expected {WANTED[source]}. Configure such "
            "a bundle, or write dag_source = auto"
        )


def _brought(source: str, local: Mapping[str, str], is_folder: Callable[[str], bool]) -> tuple[dict[str, str], list[str]]:
    """Return the folders that are brought to Modal, and what to say of those that are not."""
    if source not in {"auto", "volume"}:
        return {}, []
    missing = {name: folder for name, folder in local.items() if not is_folder(folder)}
    if missing and source == "volume":
        name, folder = next(iter(missing.items()))
        raise SettingsError(
            f"[{SECTION}] dag_source = volume: bundle {name!r} of {BUNDLE_LIST} is {folder}, which is no folder of the "
            "scheduler's host. Put the DAGs there, or write dag_source = image if the image has them"
        )
    said = [
        f"bundle {name!r} is {folder}, which is no folder of the scheduler's host: tasks have its code only if their image "
        f"has it there. Say [{SECTION}] dag_source = image if that is meant"
        for name, folder in missing.items()
    ]
    return {name: folder for name, folder in local.items() if name not in missing}, said


def _dags_folder(dags_folder: str, local: Mapping[str, str], mounts: Mapping[str, str], default: str | None) -> str:
    """Return where ``[core] dags_folder`` is in a sandbox: where the bundle is that is this folder."""
    if default is not None:
        return f"{BUNDLES_MOUNT}/{default}"
    here = os.path.abspath(dags_folder)  # noqa: PTH100 - text in, text out
    return next((mounts[name] for name, folder in local.items() if folder == here and name in mounts), dags_folder)


def _bundle_list(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(f"{BUNDLE_LIST}: not JSON: {error}") from error
    if not isinstance(found, list) or not all(isinstance(bundle, dict) and "name" in bundle for bundle in found):
        raise SettingsError(f"{BUNDLE_LIST}: expected a JSON list of objects with a name; got {text!r}")
    return found


def _moved(bundle: Mapping[str, Any], mounts: Mapping[str, str]) -> dict[str, Any]:
    told = {key: value for key, value in bundle.items() if key != "team_name"}
    mount = mounts.get(str(bundle["name"]))
    return told if mount is None else {**told, "kwargs": {**(bundle.get("kwargs") or {}), "path": mount}}
