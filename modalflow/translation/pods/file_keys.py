"""Variables of ``fileKeyRef``: a key in a file of a volume, which an init container wrote.

Flows in: the reference and the pod. Flows out: a ``Text`` that the sandbox puts together once the file is there
(``worker/env_files.py`` reads it).
"""

from __future__ import annotations

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.pods.merge import Piece, PodPieces
from modalflow.translation.report import shown
from modalflow.translation.setup_plan import FileKey, Text

_FIELDS = ("volumeName", "path", "key", "optional")


def file_key_of(pod: PodPieces, part: Piece, findings: list[Diagnostic]) -> Text | None:
    """Return the text; ``None`` if the reference is none, which is reported."""
    place, content = part.place(findings), part.value
    for field in content:
        if field not in _FIELDS:
            place.at(field).error("unknown-field", "Kubernetes has no such field", did_you_mean(field, _FIELDS))
    volume, path, key = (content.get(name) for name in ("volumeName", "path", "key"))
    if not all(isinstance(text, str) and text for text in (volume, path, key)):
        place.error("bad-pod", "expected volumeName, path and key")
        return None
    if path.startswith("/") or ".." in path.split("/"):
        place.at("path").error("bad-sub-path", f"expected a path inside the volume, got {shown(path)}", "write it without '..'")
        return None
    folder = _folder_of(pod, volume)
    if folder is None:
        place.at("volumeName").error("no-such-volume", f"no container mounts a volume {shown(volume)} as a whole", "mount it")
        return None
    return Text((FileKey(f"{folder}/{path}", key),), content.get("optional") is True)


def _folder_of(pod: PodPieces, volume: str) -> str | None:
    for container in (*pod.containers[:1], *pod.init_containers):
        for mount in container.lists.get("volumeMounts", ()):
            entry = mount.value
            if isinstance(entry, dict) and entry.get("name") == volume and not entry.get("subPath"):
                path = entry.get("mountPath")
                if isinstance(path, str) and path.startswith("/"):
                    return path.rstrip("/")
    return None
