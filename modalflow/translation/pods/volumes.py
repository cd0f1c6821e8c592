"""The volumes of a pod as its main container mounts them: claims become Modal Volumes, scratch folders, and files.

Flows in: the pieces of the merged pod. Flows out: ``Setting``s of ``volumes``, and folders, links and files of a ``SetupPlan``.
``pods.files`` reads what files are made of.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, NamedTuple

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.inputs import ClaimSource, TranslationOptions
from modalflow.translation.malformed import in_quantity, report_malformed
from modalflow.translation.merge import Setting
from modalflow.translation.plan import Bucket, BucketPlan, VolumePlan
from modalflow.translation.pods import verdicts
from modalflow.translation.pods.csi import FIELDS, below, is_store, read_csi_bucket
from modalflow.translation.pods.doubles import report_mount_twice, report_volume_twice
from modalflow.translation.pods.env import PodEnv
from modalflow.translation.pods.files import Entries, FileReader
from modalflow.translation.pods.git import read_git_repo, read_git_sync
from modalflow.translation.pods.merge import ContainerPieces, Piece, PodPieces
from modalflow.translation.quantities import parse_quantity
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.setup_plan import ClonePlan, FilePlan, FolderPlan
from modalflow.translation.volumes import RESERVED, check_mount_path

SHARED = f"{RESERVED}/volumes"
"""Where a Volume is mounted that a pod wants at several paths; Modal mounts one at one path only."""
SCRATCH = "/tmp/modalflow-scratch"  # noqa: S108 - inside the sandbox, which holds one task
LARGEST_DISK = Decimal(512) * 1024**3
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the one of a sandbox

_MOUNT = ("name", "mountPath", "subPath", "subPathExpr", "readOnly", "mountPropagation", "recursiveReadOnly")
_CONFIGURATION = "airflow.cfg"
_OF_THE_SITE = ("airflow_local_settings.py", "webserver_config.py")


class Mount(NamedTuple):
    """One ``volumeMounts`` entry, checked."""

    piece: Piece
    path: str
    sub_path: str
    read_only: bool


class PodVolumes:
    """Reads volumes. ``settings``, ``folders``, ``links`` and ``files`` hold what it found."""

    def __init__(
        self,
        pod: PodPieces,
        findings: list[Diagnostic],
        options: TranslationOptions,
        env: PodEnv,
        before: Sequence[ContainerPieces] = (),
    ) -> None:
        """``before`` are the init containers that are run: a sandbox has one file system, so their mounts are the task's too."""
        self.settings: list[Setting] = []
        self.folders: list[FolderPlan] = []
        self.links: list[tuple[str, str]] = []
        self.files: list[FilePlan] = []
        self.clones: list[ClonePlan] = []
        self.in_memory: list[tuple[Decimal, Place]] = []
        """Bytes that volumes in memory may take, and where that is said."""
        self._pod = pod
        self._findings = findings
        self._options = options
        self._env = env
        self._before = before
        self._reader = FileReader(pod, findings, env.sources)
        self._claims: dict[str, list[tuple[Mount, VolumePlan]]] = {}

    def read(self) -> None:
        """Read every volume and every mount of the first container."""
        mounts = self._mounts()
        synced = {
            mount.value.get("name"): container
            for container in self._pod.init_containers
            if is_git_sync(container)
            for mount in container.lists.get("volumeMounts", ())
            if isinstance(mount.value, dict)
        }
        volumes: dict[str, Piece] = {}
        for piece in self._pod.volumes:
            name = piece.value.get("name") if isinstance(piece.value, dict) else None
            if not isinstance(name, str):
                piece.place(self._findings).error("bad-pod", "expected a volume with a name")
            elif volumes.setdefault(name, piece) is not piece:
                report_volume_twice(volumes[name], piece, self._findings)
            elif name not in mounts:
                verdicts.apply(verdicts.UNMOUNTED, piece.value, piece.place(self._findings))
            elif name in synced and "emptyDir" in piece.value:
                self._synced(piece, synced[name], mounts.pop(name))
            else:
                self._volume(piece, mounts.pop(name))
        for name, left in mounts.items():
            for mount in left:
                mount.piece.place(self._findings).error("no-such-volume", f"the pod has no volume {shown(name)}")
        self._place_claims()
        self.links.sort(key=lambda link: len(link[0]))

    # -- mounts

    def _mounts(self) -> dict[str, list[Mount]]:
        found: dict[str, list[Mount]] = {}
        pieces = self._pod.containers[0].lists.get("volumeMounts", []) if self._pod.containers else []
        paths: dict[str, Piece] = {}
        for piece in pieces:
            place = piece.place(self._findings)
            entry = piece.value
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                place.error("bad-pod", "expected a mount with name and mountPath")
                continue
            mounts = found.setdefault(entry["name"], [])
            if (mount := self._mount(piece, entry, place)) is None:
                continue
            if paths.setdefault(mount.path, piece) is piece:
                mounts.append(mount)
            else:
                report_mount_twice(paths[mount.path], piece, self._findings)
        for container in self._before:
            self._add_mounts_of(container, found)
        return found

    def _add_mounts_of(self, container: ContainerPieces, found: dict[str, list[Mount]]) -> None:
        """Add what an init container mounts elsewhere than the task; at one path there can be only one thing."""
        for piece in container.lists.get("volumeMounts", ()):
            place, entry = piece.place(self._findings), piece.value
            if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
                place.error("bad-pod", "expected a mount with name and mountPath")
                continue
            if "subPathExpr" in entry:
                place.at("subPathExpr").error("refused-field", "its variables are known only in the sandbox", "write subPath")
                continue
            mount = self._mount(piece, entry, place)
            if mount is None:
                continue
            there = [(name, other) for name, mounts in found.items() for other in mounts if other.path == mount.path]
            if not there:
                found.setdefault(entry["name"], []).append(mount)
            elif (there[0][0], there[0][1].sub_path) == (entry["name"], mount.sub_path):
                place.notice("no-effect", "has no effect: it is mounted there for the task too")
            else:
                origin = there[0][1].piece.place(self._findings).origin
                text = f"{origin} mounts something else there, and a sandbox has one file system"
                place.error("mount-conflict", text, "use another path")

    def _mount(self, piece: Piece, entry: dict[str, Any], place: Place) -> Mount | None:
        known(entry, _MOUNT, place)
        path = _normal(entry.get("mountPath"))
        if path is None or path == RESERVED or path.startswith(RESERVED + "/"):
            asked = shown(entry.get("mountPath"))
            place.at("mountPath").error("bad-mount-path", f"expected an absolute path of the task's own, got {asked}")
            return None
        if entry.get("mountPropagation") not in {None, "None"}:
            place.at("mountPropagation").error("refused-field", "a sandbox shares no mounts with a host", "remove it")
        for field in ("mountPropagation", "recursiveReadOnly"):
            if field in entry and entry.get(field) != "":
                place.at(field).notice("no-effect", "has no effect: nothing is mounted below it")
        sub_path = entry.get("subPath") or ""
        if "subPathExpr" in entry:
            if sub_path:
                place.at("subPath").error("bad-pod", "subPath and subPathExpr exclude each other", "keep one of them")
                return None
            sub_path = self._env.expand(entry["subPathExpr"]) if isinstance(entry["subPathExpr"], str) else None
            if sub_path is not None and not isinstance(sub_path, str):
                place.at("subPathExpr").error("refused-field", "its variables are known only in the sandbox", "write subPath")
                return None
            if sub_path == "":
                place.at("subPathExpr").notice("no-effect", "has no effect: it is empty, which is the whole volume")
        if not isinstance(sub_path, str) or sub_path.startswith("/") or ".." in sub_path.split("/"):
            place.error("bad-sub-path", f"expected a path inside the volume, got {shown(sub_path)}", "write it without '..'")
            return None
        return Mount(piece, path, sub_path.strip("/"), entry.get("readOnly") is True)

    # -- volumes

    def _volume(self, piece: Piece, mounts: list[Mount]) -> None:
        kinds = [field for field in piece.value if field != "name"]
        if len(kinds) > 1:
            piece.place(self._findings).error("bad-pod", f"names more than one source: {', '.join(map(shown, kinds))}")
            return
        kind = kinds[0] if kinds else "emptyDir"  # Kubernetes: no source is an emptyDir
        source = piece.part(piece.value.get(kind, {}), kind)
        self._tell_read_only(mounts, is_kept=kind == "persistentVolumeClaim" or (kind == "csi" and not is_store(source.value)))
        place = source.place(self._findings)
        readers: Mapping[str, Callable[[str, Piece, list[Mount]], None]] = {
            "persistentVolumeClaim": self._claim,
            "emptyDir": self._scratch,
            "ephemeral": self._ephemeral,
            "hostPath": self._host_path,
            "gitRepo": self._git_repo,
            "csi": self._csi,
            **dict.fromkeys(("configMap", "secret", "downwardAPI", "projected"), self._files),
        }
        if kind in verdicts.VOLUME_SOURCES:
            verdicts.apply(verdicts.VOLUME_SOURCES[kind], source.value, place)
        elif kind not in readers:
            hint = did_you_mean(kind, (*readers, *verdicts.VOLUME_SOURCES))
            place.error("unknown-field", "Kubernetes has no such field", hint)
        elif not isinstance(source.value, dict):
            place.error("bad-pod", f"expected a mapping, got {kind_of(source.value)}")
        else:
            readers[kind](piece.value["name"], source, mounts)

    def _tell_read_only(self, mounts: list[Mount], *, is_kept: bool) -> None:
        for mount in mounts:
            place = mount.piece.place(self._findings).at("readOnly")
            if "readOnly" in mount.piece.value and not mount.read_only:
                place.notice("no-effect", "this is how a mount is anyway")
            elif mount.read_only and not is_kept:
                place.notice("no-effect", "has no effect: a folder of the sandbox's own disk, which can be written")

    def _claim(self, _name: str, source: Piece, mounts: list[Mount]) -> None:
        place = source.place(self._findings)
        known(source.value, ("claimName", "readOnly"), place)
        claim = source.value.get("claimName")
        target = self._options.claims.get(claim) if isinstance(claim, str) else None
        bucket = self._options.buckets.get(claim) if target is None and isinstance(claim, str) else None
        if bucket is not None:
            self._bucket(bucket, mounts, read_only=source.value.get("readOnly") is True)
            return
        if target is None:
            place.error(
                "unknown-claim",
                f"[modal_executor] claims does not say which Modal Volume holds the claim {shown(claim)}",
                f'add {{{shown(claim)}: NAME_OF_A_MODAL_VOLUME}}, or write {{"modal": {{"volumes": {{PATH: NAME}}}}}}',
            )
            return
        for mount in mounts:
            if "readOnly" in source.value and (mount.read_only or not source.value["readOnly"]):
                place.at("readOnly").notice("no-effect", "has no effect: the mount says so itself, or can be written anyway")
            if check_mount_path(mount.path, mount.piece.place(self._findings).at("mountPath")):
                read_only = mount.read_only or source.value.get("readOnly") is True
                self._claims.setdefault(target.volume, []).append((mount, _plan(mount, target, read_only=read_only)))

    def _csi(self, _name: str, source: Piece, mounts: list[Mount]) -> None:
        place = source.place(self._findings)
        known(source.value, FIELDS, place)
        if is_store(source.value):
            entries = self._reader.store(source, self._options)
            if entries is not None:
                for mount in mounts:
                    self._place_files(entries, mount)
        elif (bucket := read_csi_bucket(source, self._findings, self._options)) is not None:
            self._bucket(bucket, mounts, read_only=False)

    def _bucket(self, bucket: Bucket, mounts: list[Mount], *, read_only: bool) -> None:
        for mount in mounts:
            if check_mount_path(mount.path, mount.piece.place(self._findings).at("mountPath")):
                seen = below(bucket, mount.sub_path, read_only=read_only or mount.read_only)
                self._add(mount, BucketPlan(mount_path=mount.path, bucket=seen))

    def _place_claims(self) -> None:
        """Mount each Modal Volume once; where it is wanted at several paths, these are links into that one."""
        for name, wanted in self._claims.items():
            if len(wanted) == 1:
                self._add(*wanted[0])
                continue
            shared = f"{SHARED}/{name}"
            read_only = all(plan.read_only for _, plan in wanted)
            self._add(wanted[0][0], VolumePlan(mount_path=shared, name=name, read_only=read_only))
            for mount, plan in wanted:
                self.links.append((mount.path, f"{shared}/{plan.sub_path}" if plan.sub_path else shared))
                if plan.read_only and not read_only:
                    mount.piece.place(self._findings).warn(
                        "shared-mount", f'the Volume "{name}" is also mounted for writing, and so it can be written here too'
                    )

    def _add(self, mount: Mount, plan: VolumePlan | BucketPlan) -> None:
        place, path = mount.piece.place(self._findings), plan.mount_path
        self.settings.append(Setting(key="volumes", value={path: plan}, place=place, rank=mount.piece.rank, places={path: place}))

    def _ephemeral(self, name: str, source: Piece, mounts: list[Mount]) -> None:
        value: Any = source.value
        for key in ("volumeClaimTemplate", "spec", "resources", "requests"):
            value = value.get(key) if isinstance(value, dict) else None
        size = value.get("storage") if isinstance(value, dict) else None
        place = source.place(self._findings)
        place.notice("no-effect", "has no effect but its size: a folder of the sandbox's disk, which goes with it")
        self._make_scratch(name, source, mounts, size=size, memory=False)

    def _scratch(self, name: str, source: Piece, mounts: list[Mount]) -> None:
        place = source.place(self._findings)
        known(source.value, ("medium", "sizeLimit"), place)
        medium = source.value.get("medium") or ""
        if medium not in {"", "Memory"}:
            place.at("medium").error("refused-field", f"a sandbox has no {shown(medium)}", 'write "Memory", or remove it')
            return
        self._make_scratch(name, source, mounts, size=source.value.get("sizeLimit"), memory=medium == "Memory")

    def _make_scratch(self, name: str, source: Piece, mounts: list[Mount], *, size: object, memory: bool) -> None:
        place = source.place(self._findings)
        if size is not None:
            number = parse_quantity(size)
            if number is None:
                report_malformed(place, "bad-quantity", 'a quantity such as "10Gi"', size, in_quantity)
            elif not memory and number > LARGEST_DISK:
                place.error("refused-field", f"a sandbox's disk has at most 512 GiB, not {shown(size)}", "use a Modal Volume")
            elif number < 0:
                place.at("sizeLimit").error("bad-quantity", f"expected a quantity of at least 0, got {shown(size)}", "remove it")
            elif memory and number:
                self.in_memory.append((number, place.at("sizeLimit")))
            elif "sizeLimit" in source.value:
                reason = "it is no limit" if memory else "a sandbox's disk has 512 GiB"
                place.at("sizeLimit").notice("no-effect", f"has no effect: {reason}")
        if len(mounts) == 1 and not mounts[0].sub_path:
            if mounts[0].path == SHARED_MEMORY:
                place.notice("no-effect", f"has no effect: a sandbox has {SHARED_MEMORY} anyway")
            else:
                self.folders.append(FolderPlan(path=mounts[0].path, memory=memory))
            return
        base = f"{SCRATCH}/{name}"
        self.folders.append(FolderPlan(path=base, memory=memory))
        for mount in mounts:
            self.links.append((mount.path, f"{base}/{mount.sub_path}" if mount.sub_path else base))

    def _git_repo(self, name: str, source: Piece, mounts: list[Mount]) -> None:
        clone = read_git_repo(source, self._findings)
        if clone is not None:
            self._clone(name, source, mounts, clone)

    def _clone(self, name: str, source: Piece, mounts: list[Mount], clone: ClonePlan) -> None:
        self._make_scratch(name, source, mounts, size=None, memory=False)
        self.clones.append(replace(clone, path=self.folders[-1].path))

    def _synced(self, piece: Piece, container: ContainerPieces, mounts: list[Mount]) -> None:
        """Stand in for git-sync: not for DAGs, which Airflow brings, but for what else the task finds there."""
        place, name = piece.place(self._findings), piece.value["name"]
        folder = self._env.values.get("AIRFLOW__CORE__DAGS_FOLDER")
        if all("dags" in mount.path.split("/") or f"{folder}/".startswith(f"{mount.path}/") for mount in mounts):
            place.notice("no-effect", "has no effect: git-sync would fill it, which is not run")
            return
        entries = [mount.value for mount in container.lists.get("volumeMounts", ()) if isinstance(mount.value, dict)]
        paths = [entry.get("mountPath") for entry in entries if entry.get("name") == name]
        at = next((path for path in paths if isinstance(path, str)), "/git")
        env = PodEnv(self._pod, self._findings, self._env.sources)
        env.read(container)
        clone = read_git_sync(container, env, at, self._findings)
        if clone is not None:
            place.warn("cloned-once", "is cloned as git-sync would, once: it is not kept up to date while the task runs")
            self._clone(name, piece.part(piece.value["emptyDir"], "emptyDir"), mounts, clone)

    def _host_path(self, _name: str, source: Piece, mounts: list[Mount]) -> None:
        place = source.place(self._findings)
        if source.value.get("path") == SHARED_MEMORY and all(
            mount.path == SHARED_MEMORY and not mount.sub_path for mount in mounts
        ):
            place.notice("no-effect", f"has no effect: a sandbox has {SHARED_MEMORY} anyway")
            return
        place.error("refused-field", "a sandbox sees no host's files", "put them into the image or a Modal Volume")

    # -- files

    def _files(self, _name: str, source: Piece, mounts: list[Mount]) -> None:
        mounts = [mount for mount in mounts if not self._is_withheld(source, mount)]
        if not mounts:
            source.place(self._findings).notice("no-effect", "has no effect: none of its files is given to the task")
        entries = self._reader.entries(source) if mounts else None
        if entries is None:
            return
        given = {path for mount in mounts for path in self._place_files(entries, mount)}
        if not given:
            if entries and (entries.all_optional or not entries.whole):
                source.place(self._findings).notice("no-effect", "has no effect: none of its files is given to the task")
            return
        for path in [name for name in entries if name not in given]:
            if (place := entries.places[path]).path != source.path:
                place.notice("no-effect", "has no effect: the task's container mounts another part of the volume")

    def _is_withheld(self, source: Piece, mount: Mount) -> bool:
        place = mount.piece.place(self._findings)
        file = posixpath.basename(mount.path)
        if file == _CONFIGURATION:
            place.notice("withheld-file", "is not given to tasks: modalflow configures Airflow in a sandbox itself")
            return True
        if file in _OF_THE_SITE and source.path[-1] == "configMap" and source.value.get("name") not in self._options.config_maps:
            place.warn("dropped", f"{file} is left out: [modal_executor] config_maps does not say where it is")
            return True
        return False

    def _place_files(self, entries: Entries, mount: Mount) -> set[str]:
        """Place what this mount shows of the volume, and return which files that is."""
        if not mount.sub_path:
            self.folders.append(FolderPlan(path=mount.path))
        given = set()
        for path, (content, mode) in entries.items():
            place = _below(path, mount)
            if place is not None:
                given.add(path)
                self.files.append(FilePlan(path=place, text=content.text, mode=mode, encoded=content.encoded))
        if mount.sub_path and not given and entries.whole:
            at = mount.piece.place(self._findings)
            if entries.all_optional:
                at.notice("absent", f"the volume has no file {shown(mount.sub_path)}, and need not have it")
            else:
                known_files = ", ".join(entries) or "none"
                at.error("no-such-key", f"the volume has no file {shown(mount.sub_path)}", f"it has {known_files}")
        return given


def is_git_sync(container: ContainerPieces) -> bool:
    """Tell the container with which Airflow's chart and templates bring DAGs."""
    image = container.fields.get("image")
    return image is not None and isinstance(image.value, str) and "git-sync" in image.value.rpartition("/")[2]


def known(content: dict[str, Any], names: tuple[str, ...], place: Place) -> None:
    """Report the fields that Kubernetes does not have here."""
    for field in content:
        if field not in names:
            place.at(field).error("unknown-field", "Kubernetes has no such field", did_you_mean(field, names))


def _normal(path: object) -> str | None:
    """Return an absolute path in its shortest form, ``None`` if it is none, or the root."""
    if not isinstance(path, str) or not path.startswith("/") or not path.isprintable() or ".." in path.split("/"):
        return None
    short = "/" + posixpath.normpath(path).lstrip("/")
    return None if short == "/" else short


def _plan(mount: Mount, target: ClaimSource, *, read_only: bool) -> VolumePlan:
    sub_path = "/".join(part for part in (target.sub_path, mount.sub_path) if part) or None
    return VolumePlan(mount_path=mount.path, name=target.volume, sub_path=sub_path, read_only=read_only)


def _below(path: str, mount: Mount) -> str | None:
    """Return where a file of the volume stands for this mount, ``None`` if it is not part of it."""
    if not mount.sub_path:
        return f"{mount.path}/{path}"
    if path == mount.sub_path:
        return mount.path
    return f"{mount.path}{path[len(mount.sub_path) :]}" if path.startswith(mount.sub_path + "/") else None
