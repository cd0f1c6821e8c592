"""Reads a merged pod: what has a meaning on Modal becomes settings, everything else is reported by its full path.

Flows in: ``PodPieces``. Flows out: ``Setting``s, which ``merge`` folds with the ``modal`` keys by the rank of the layer that each
piece came from, and ``PodGpu`` for ``resolve``. ``pod_resources`` and ``pod_nodes`` read their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from modalflow.translation import pod_verdicts as verdicts
from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.env import check_name, check_text, expand
from modalflow.translation.images import read_image
from modalflow.translation.keys import read_workdir
from modalflow.translation.merge import Setting
from modalflow.translation.pod_merge import ContainerPieces, Fields, Piece, PodPieces
from modalflow.translation.pod_nodes import NodeChoice
from modalflow.translation.pod_resources import Resources
from modalflow.translation.pod_verdicts import Verdict
from modalflow.translation.quantities import read_timeout
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.resolve import PodGpu
from modalflow.translation.tags import read_tag

_SHELLS = ("sh", "bash", "dash", "ash", "zsh")
_NEVER_IN_TASKS = (
    "AIRFLOW__DATABASE__",
    "AIRFLOW__CORE__SQL_ALCHEMY_CONN",
    "AIRFLOW__CORE__FERNET_KEY",
    "AIRFLOW_CONN_AIRFLOW_DB",
    "AIRFLOW__API_AUTH__JWT_SECRET",
    "AIRFLOW__API__SECRET_KEY",
    "AIRFLOW__WEBSERVER__SECRET_KEY",
    "AIRFLOW__CELERY__",
)
"""What Helm charts set in every pod and an Airflow 3 task neither needs nor may have."""

_POD_IS = {"apiVersion": "v1", "kind": "Pod"}

OnUnsupported = Literal["error", "warn"]


class PodReader:
    """Reads one merged pod. ``settings`` and ``gpu`` hold what it found."""

    def __init__(self, findings: list[Diagnostic], on_unsupported: OnUnsupported) -> None:
        self.settings: list[Setting] = []
        self.gpu = PodGpu()
        self._findings = findings
        self._on_unsupported = on_unsupported

    def read(self, pod: PodPieces) -> None:
        """Read every field of ``pod``."""
        for name, piece in pod.top.items():
            if name == "status":
                self._place(piece).notice("no-effect", "has no effect: a status is Kubernetes' own")
            elif name not in _POD_IS:
                self._unknown(piece, (*_POD_IS, "metadata", "spec"))
            elif piece.value != _POD_IS[name]:
                self._place(piece).error("bad-pod", f"expected {_POD_IS[name]}, got {shown(piece.value)}")
        self._metadata(pod)
        resources = Resources(self._findings)
        nodes = NodeChoice(self._findings, self._on_unsupported)
        self._spec(pod, resources, nodes)
        self._volumes(pod)
        self.settings += resources.settings()
        self.settings += nodes.settings()
        count = resources.gpu_count()
        self.gpu = PodGpu(
            count=None if count is None else count[0],
            count_place=None if count is None else self._place(count[1]),
            rank=-1 if count is None else count[1].rank,
            models=nodes.models,
            label=nodes.label,
            refused=nodes.refused,
        )

    def _place(self, piece: Piece) -> Place:
        return piece.place(self._findings)

    def _apply(self, verdict: Verdict, piece: Piece) -> None:
        verdicts.apply(verdict, piece.value, self._place(piece), self._on_unsupported)

    def _unknown(self, piece: Piece, known: tuple[str, ...]) -> None:
        name = piece.path[-1]
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        self._place(piece).error("unknown-field", "Kubernetes has no such field", hint)

    def _look_up(self, piece: Piece, table: Mapping[str, Verdict], read_elsewhere: tuple[str, ...] = ()) -> None:
        name = piece.path[-1]
        verdict = table.get(name) if isinstance(name, str) else None
        if verdict is None:
            self._unknown(piece, (*table, *read_elsewhere))
        else:
            self._apply(verdict, piece)

    def _set(self, key: str, value: Any, piece: Piece) -> None:
        if value is not None:
            self.settings.append(Setting(key=key, value=value, place=self._place(piece), rank=piece.rank))

    def _metadata(self, pod: PodPieces) -> None:
        for piece in pod.metadata.values():
            self._look_up(piece, verdicts.METADATA, ("labels", "annotations"))
        for name, piece in pod.annotations.items():
            if name.startswith("modalflow/"):
                self._place(piece).error("unsupported", "not supported yet: settings as annotations", "write them as modal keys")
            elif name in pod.labels:
                self._place(piece).notice("overruled-tag", "the label of that name becomes the tag")
            else:
                self._tag(name, piece)
        for name, piece in pod.labels.items():
            self._tag(name, piece)

    def _tag(self, name: object, piece: Piece) -> None:
        place = self._place(piece)
        tag = read_tag(name, piece.value, place)
        if tag is not None:
            self.settings.append(
                Setting(key="tags", value={tag[0]: tag[1]}, place=place, rank=piece.rank, places={tag[0]: place})
            )

    def _spec(self, pod: PodPieces, resources: Resources, nodes: NodeChoice) -> None:
        readers: Mapping[str, Callable[[Piece], None]] = {
            "activeDeadlineSeconds": self._deadline,
            "nodeSelector": nodes.read_selector,
            "affinity": lambda piece: self._affinity(piece, nodes),
            "resources": resources.read,
            "securityContext": self._security_context,
        }
        self._fields(pod.spec, readers, verdicts.SPEC, ("containers", "initContainers", "volumes"))
        for container in pod.init_containers:
            self._apply(verdicts.INIT_CONTAINER, container.whole)
        for container in pod.containers[1:]:
            self._apply(verdicts.SIDECAR, container.whole)
        if pod.containers:
            self._main_container(pod.containers[0], resources)

    def _fields(
        self,
        fields: Fields,
        readers: Mapping[str, Callable[[Piece], None]],
        table: Mapping[str, Verdict],
        read_elsewhere: tuple[str, ...],
    ) -> None:
        for name, piece in fields.items():
            read = readers.get(name)
            if read is not None:
                read(piece)
            else:
                self._look_up(piece, table, (*readers, *read_elsewhere))

    def _deadline(self, piece: Piece) -> None:
        self._set("timeout", read_timeout(piece.value, self._place(piece), most="86400"), piece)

    def _image(self, piece: Piece) -> None:
        self._set("image", read_image(piece.value, self._place(piece)), piece)

    def _workdir(self, piece: Piece) -> None:
        self._set("workdir", read_workdir(piece.value, self._place(piece)), piece)

    def _affinity(self, piece: Piece, nodes: NodeChoice) -> None:
        for part in self._parts(piece):
            if part.path[-1] == "nodeAffinity":
                nodes.read_affinity(part)
            else:
                self._look_up(part, verdicts.AFFINITY, ("nodeAffinity",))

    def _security_context(self, piece: Piece) -> None:
        for part in self._parts(piece):
            if part.path[-1] == "capabilities":
                for capability in self._parts(part):
                    self._look_up(capability, verdicts.CAPABILITIES)
            else:
                self._look_up(part, verdicts.SECURITY_CONTEXT, ("capabilities",))

    def _parts(self, piece: Piece) -> list[Piece]:
        if isinstance(piece.value, dict):
            return [piece.part(value, name) for name, value in piece.value.items()]
        self._place(piece).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
        return []

    def _main_container(self, container: ContainerPieces, resources: Resources) -> None:
        env = self._env(container.lists.get("env", []))
        readers: Mapping[str, Callable[[Piece], None]] = {
            "image": self._image,
            "command": lambda piece: self._command(piece, env),
            "workingDir": self._workdir,
            "resources": resources.read,
            "securityContext": self._security_context,
        }
        named = {name: piece for name, piece in container.fields.items() if name != "name"}
        self._fields(named, readers, verdicts.CONTAINER, ("name", "env", "volumeMounts"))
        for name, pieces in container.lists.items():
            if name not in {"env", "volumeMounts"}:
                for piece in pieces:
                    self._apply(verdicts.CONTAINER[name], piece)

    def _command(self, piece: Piece, env: dict[str, str]) -> None:
        place = self._place(piece)
        words = piece.value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            place.error("bad-pod", "expected a list of words")
            return
        if not words:
            place.notice("no-effect", "an empty command keeps the image's own")
            return
        words = tuple(expand(word, env) for word in words)
        if words[0].rsplit("/", 1)[-1] in _SHELLS and any(word.startswith("-") and word.endswith("c") for word in words[1:]):
            place.warn("shell-command", 'a shell with -c runs its text and not Airflow, unless that ends in exec "$@"')
        self._set("entrypoint", words, piece)

    def _env(self, pieces: list[Piece]) -> dict[str, str]:
        """Read the variables in order: a later one of the same name wins, and sees the earlier ones, as in Kubernetes."""
        values: dict[str, str] = {}
        winners: dict[str, Piece] = {}
        for piece in pieces:
            variable = self._variable(piece)
            if variable is None:
                continue
            name, text = variable
            if name in winners:
                self._report_duplicate(name, winners[name], piece)
            winners[name] = piece
            if text is None:
                values.pop(name, None)
            else:
                values[name] = expand(text, values)
        for name, text in values.items():
            place = self._place(winners[name])
            setting = Setting(key="env", value={name: text}, place=place, rank=winners[name].rank, places={name: place})
            self.settings.append(setting)
        return values

    def _report_duplicate(self, name: str, earlier: Piece, later: Piece) -> None:
        origin = self._place(later).origin
        if earlier.root is later.root:
            self._place(earlier).warn("duplicate-env", f"{name} is set again by {origin}, which wins", "remove one of them")
        else:
            self._place(earlier).notice("overridden-env", f"{name} is set again by {origin}, which wins")

    def _variable(self, piece: Piece) -> tuple[str, str | None] | None:
        """Return name and text; the text is ``None`` for a source that is not translated, which has been reported."""
        place = self._place(piece)
        entry = piece.value
        if not isinstance(entry, dict):
            place.error("bad-pod", f"expected a mapping with name and value, got {kind_of(entry)}")
            return None
        name = entry.get("name")
        for field in entry:
            if field not in {"name", "value", "valueFrom"}:
                self._unknown(piece.part(None, field), ("name", "value", "valueFrom"))
        if not check_name(name, place) or not isinstance(name, str):
            return None
        if name.startswith(_NEVER_IN_TASKS):
            place.notice("withheld-env", f"{name} is not given to tasks: they must not have it")
            return None
        source = entry.get("valueFrom")
        if source is not None:
            if "value" in entry:
                place.at("value").error("bad-pod", "value and valueFrom exclude each other", "keep one of them")
            if source == {}:
                place.at("valueFrom").error("bad-pod", "names no source", "write a value")
            for part in self._parts(piece.part(source, "valueFrom")):
                self._look_up(part, verdicts.ENV_SOURCES)
            return name, None
        text = entry.get("value", "")
        return (name, text) if check_text(text, place.at("value")) else None

    def _volumes(self, pod: PodPieces) -> None:
        mounts = pod.containers[0].lists.get("volumeMounts", []) if pod.containers else []
        mounted = {piece.value.get("name") for piece in mounts if isinstance(piece.value, dict)}
        kinds: Fields = {}
        for piece in pod.volumes:
            entry = piece.value if isinstance(piece.value, dict) else {}
            if not isinstance(name := entry.get("name"), str):
                self._place(piece).error("bad-pod", "expected a volume with a name")
            elif name in mounted:
                kinds[name] = piece
                self._apply(verdicts.EMPTY_DIR if "emptyDir" in entry else verdicts.VOLUME, piece)
            else:
                self._apply(verdicts.UNMOUNTED, piece)
        for piece in mounts:
            name = piece.value.get("name") if isinstance(piece.value, dict) else None
            volume = kinds.get(name) if isinstance(name, str) else None
            scratch = volume is not None and "emptyDir" in volume.value
            self._apply(verdicts.EMPTY_DIR if scratch else verdicts.VOLUME, piece)
