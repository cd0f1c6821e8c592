"""Reads a merged pod: what has a meaning on Modal becomes settings, everything else is reported by its full path.

Flows in: ``PodPieces``. Flows out: ``Setting``s, which ``merge`` folds with the ``modal`` keys by the rank of the layer that each
piece came from, and ``PodGpu`` for ``resolve``. ``pods.resources`` and ``pods.nodes`` read their parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.gpus.resolve import NO_GPU, PodGpu
from modalflow.translation.images import read_image
from modalflow.translation.inputs import TemplateSource, TranslationOptions
from modalflow.translation.keys import read_merge, read_workdir
from modalflow.translation.layers import KUBERNETES
from modalflow.translation.merge import Setting
from modalflow.translation.pods import verdicts
from modalflow.translation.pods.annotations import PREFIX
from modalflow.translation.pods.claims import Claims
from modalflow.translation.pods.devices import ANNOTATIONS, report_annotation
from modalflow.translation.pods.env import PodEnv
from modalflow.translation.pods.init import InitReader
from modalflow.translation.pods.injected import INJECTED, report_injected
from modalflow.translation.pods.layers import ANNOTATION as MERGE_ANNOTATION
from modalflow.translation.pods.lifecycle import EndOfPod
from modalflow.translation.pods.merge import ContainerPieces, Fields, Piece, PodPieces
from modalflow.translation.pods.nodes import NodeChoice
from modalflow.translation.pods.resources import Resources
from modalflow.translation.pods.sidecars import verdict_on
from modalflow.translation.pods.sources import Sources
from modalflow.translation.pods.user import USER_FIELDS, Chosen, choose, read_user
from modalflow.translation.pods.verdicts import Verdict
from modalflow.translation.pods.volumes import PodVolumes, is_git_sync, known
from modalflow.translation.quantities import read_timeout
from modalflow.translation.report import Place, kind_of, shown
from modalflow.translation.setup_plan import NO_SETUP, Text
from modalflow.translation.tags import read_tag

_SHELLS = ("sh", "bash", "dash", "ash", "zsh")
_POD_IS = {"apiVersion": "v1", "kind": "Pod"}

OnUnsupported = Literal["error", "warn"]


class PodReader:
    """Reads one merged pod. ``settings``, ``gpu`` and ``setup`` hold what it found."""

    def __init__(
        self,
        findings: list[Diagnostic],
        options: TranslationOptions,
        templates: TemplateSource | None = None,
        native_secrets: frozenset[str] = frozenset(),
        *,
        identity: bool = False,
    ) -> None:
        """``native_secrets`` are the Modal Secrets that ``modal`` keys ask for: all their variables stay as they are.

        ``identity``: they ask for ``oidc``.
        """
        self.settings: list[Setting] = []
        self.gpu = NO_GPU
        self.setup = NO_SETUP
        self._findings = findings
        self._options = options
        self._templates = templates
        self._native_secrets = native_secrets
        self._identity = identity
        self._user: Chosen = {}
        self._end: EndOfPod | None = None

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
        sources = Sources(self._findings, self._options, self._templates)
        sources.identity = self._identity
        self._env = PodEnv(pod, self._findings, sources)
        claims = Claims(self._findings, self._options.resource_claims)
        resources = Resources(self._findings, claims, self._options.gpu_substitution)
        nodes = NodeChoice(self._findings, self._options)
        self._spec(pod, resources, nodes, claims)
        nodes.settle()
        self._set_up(pod, resources)
        self.settings += resources.settings()
        self.settings += nodes.settings()
        count = resources.gpu_count()
        claim = claims.settle()
        if claim is not None and count is not None and count[0]:
            origin = self._place(count[1]).origin
            self._place(claim[1]).error("gpu-conflict", f"asks for GPUs beside {origin}", "keep one of them")
        asked = count if claim is None else (claim[0][0].count, claim[1])
        runtime = pod.spec.get("runtimeClassName")
        if asked is not None and (named := resources.named()):
            nodes.narrow(named, self._place(asked[1]))
        self.gpu = PodGpu(
            count=None if asked is None else asked[0],
            count_place=None if asked is None else self._place(asked[1]),
            rank=-1 if asked is None else asked[1].rank,
            models=nodes.models,
            strength=nodes.strength,
            label=nodes.label,
            preferred=nodes.preferred,
            preferred_label=nodes.preferred_label,
            without_gpu=nodes.without_gpu,
            unclear=nodes.unclear,
            pinned=nodes.pinned,
            regions=nodes.pairs,
            regions_place=None if nodes.paired is None else self._place(nodes.paired),
            regions_rank=-1 if nodes.paired is None else nodes.paired.rank,
            runtime=self._place(runtime) if runtime is not None and runtime.value == "nvidia" else None,
            slice=resources.slice(),
            claim=() if claim is None else claim[0],
            refused=nodes.refused or resources.refused or claims.refused,
        )

    def _place(self, piece: Piece) -> Place:
        return piece.place(self._findings)

    def _apply(self, verdict: Verdict, piece: Piece) -> None:
        verdicts.apply(verdict, piece.value, self._place(piece))

    def _unknown(self, piece: Piece, known: tuple[str, ...]) -> None:
        name = piece.path[-1]
        hint = did_you_mean(name, known) if isinstance(name, str) else ""
        if isinstance(name, str) and name.startswith("$"):
            hint = 'it is a directive of strategic merge: write {"modal": {"merge": "strategic"}}'
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
        for name, piece in pod.metadata.items():
            if piece.root is KUBERNETES:
                continue  # a layer of its own says it; here it is what variables and hooks see
            if name == "namespace" and isinstance(piece.value, str) and piece.value in self._options.namespaces:
                self._set("namespace", piece.value, piece)
                continue
            self._look_up(piece, verdicts.METADATA, ("labels", "annotations"))
        for name, piece in pod.annotations.items():
            if name == MERGE_ANNOTATION:
                read_merge(piece.value, self._place(piece))  # its effect is in how this pod came to be
            elif not name.startswith(PREFIX):
                self._annotation(name, piece, pod)
        for name, piece in pod.labels.items():
            self._tag(name, piece)

    def _annotation(self, name: str, piece: Piece, pod: PodPieces) -> None:
        if name in INJECTED:
            report_injected(name, piece.value, self._place(piece))
        if name in ANNOTATIONS:
            report_annotation(name, self._place(piece))
        elif name in pod.labels:
            self._place(piece).notice("overruled-tag", "the label of that name becomes the tag")
        else:
            self._tag(name, piece)

    def _tag(self, name: object, piece: Piece) -> None:
        place = self._place(piece)
        tag = read_tag(name, piece.value, place)
        if tag is not None:
            self.settings.append(
                Setting(key="tags", value={tag[0]: tag[1]}, place=place, rank=piece.rank, places={tag[0]: place})
            )

    def _spec(self, pod: PodPieces, resources: Resources, nodes: NodeChoice, claims: Claims) -> None:
        readers: Mapping[str, Callable[[Piece], None]] = {
            "activeDeadlineSeconds": self._deadline,
            "nodeSelector": nodes.read_selector,
            "affinity": lambda piece: self._affinity(piece, nodes),
            "resources": resources.read,
            "resourceClaims": claims.read_declared,
            "securityContext": self._security_context,
            "imagePullSecrets": self._pull_secrets,
            "hostAliases": self._host_aliases,
            "terminationGracePeriodSeconds": lambda piece: self._the_end().read_period(piece),
            "runtimeClassName": self._runtime,
        }
        table = verdicts.SPEC_WITH_OIDC if self._identity else verdicts.SPEC
        self._fields(pod.spec, readers, table, ("containers", "initContainers", "volumes"))
        self._init = self._init_containers(pod) if pod.init_containers else None
        for container in pod.containers[1:]:
            self._apply(verdict_on(container, self._options.dropped_sidecars), container.whole)
        if pod.containers:
            self._main_container(pod.containers[0], resources)

    def _the_end(self) -> EndOfPod:
        if self._end is None:
            self._end = EndOfPod(self._findings)
        return self._end

    def _init_containers(self, pod: PodPieces) -> InitReader:
        reader = InitReader(pod, self._findings, self._env.sources, dict(self._user))
        for container in pod.init_containers:
            restart = container.fields.get("restartPolicy")
            if is_git_sync(container):
                self._apply(verdicts.GIT_SYNC, container.whole)
            elif restart is not None and restart.value == "Always":
                self._apply(verdict_on(container, self._options.dropped_sidecars), container.whole)
            else:
                reader.read(container)
        return reader

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

    def _runtime(self, piece: Piece) -> None:
        name = piece.value
        if name == "gvisor" or (isinstance(name, str) and name.startswith("kata")):
            self._set("runtime", "gvisor" if name == "gvisor" else "vm", piece)
        else:
            self._apply(verdicts.RUNTIME_CLASS, piece)

    def _deadline(self, piece: Piece) -> None:
        self._set("timeout", read_timeout(piece.value, self._place(piece), most="86400"), piece)

    def _image(self, piece: Piece) -> None:
        self._set("image", read_image(piece.value, self._place(piece)), piece)

    def _pull_policy(self, piece: Piece) -> None:
        if piece.value == "Always" and self._options.pull_always:
            self._set("force_build", piece.value == "Always", piece)
        elif piece.value == "Never":
            self._apply(verdicts.NEVER_PULLED, piece)
        else:
            self._apply(verdicts.PULL_POLICY, piece)

    def _workdir(self, piece: Piece) -> None:
        self._set("workdir", read_workdir(piece.value, self._place(piece)), piece)

    def _pull_secrets(self, piece: Piece) -> None:
        """Take the first pull secret that ``registry_secrets`` maps; an image has one registry."""
        place = self._place(piece)
        names = _listed(piece.value, "name")
        if names is None:
            place.error("bad-pod", "expected a list of names of Secrets")
            return
        mapped = [name for name in names if name in self._options.registry_secrets]
        if mapped:
            self._set("registry_secret", self._options.registry_secrets[mapped[0]], piece)
        elif names:
            place.error(
                "unknown-pull-secret",
                f"[modal_executor] registry_secrets does not say which Modal Secret is {' or '.join(map(shown, names))}",
                f'add {{{shown(names[0])}: NAME_OF_A_MODAL_SECRET}}, or write {{"modal": {{"registry_secret": NAME}}}}',
            )

    def _host_aliases(self, piece: Piece) -> None:
        entries = piece.value
        if not isinstance(entries, list):
            self._place(piece).error("bad-pod", f"expected a list of mappings with ip and hostnames, got {kind_of(entries)}")
            return
        found: list[tuple[str, tuple[str, ...]]] = []
        for index, entry in enumerate(entries):
            place = self._place(piece.part(entry, index))
            address = entry.get("ip") if isinstance(entry, dict) else None
            names = entry.get("hostnames", []) if isinstance(entry, dict) else None
            if not _is_word(address) or not isinstance(names, list) or not all(_is_word(name) for name in names):
                place.error("bad-pod", "expected a mapping with ip and hostnames")
                continue
            known(entry, ("ip", "hostnames"), place)
            found.append((str(address), tuple(names)))
        self.setup = replace(self.setup, hosts=tuple(found))

    def _affinity(self, piece: Piece, nodes: NodeChoice) -> None:
        for part in self._parts(piece):
            if part.path[-1] == "nodeAffinity":
                nodes.read_affinity(part)
            else:
                self._look_up(part, verdicts.AFFINITY, ("nodeAffinity",))

    def _security_context(self, piece: Piece) -> None:
        for part in self._parts(piece):
            if part.path[-1] in USER_FIELDS:
                choose(self._user, part, self._findings)
            elif part.path[-1] == "capabilities":
                for capability in self._parts(part):
                    self._look_up(capability, verdicts.CAPABILITIES)
            else:
                self._look_up(part, verdicts.SECURITY_CONTEXT, ("capabilities", *USER_FIELDS))

    def _parts(self, piece: Piece) -> list[Piece]:
        if isinstance(piece.value, dict):
            return [piece.part(value, name) for name, value in piece.value.items()]
        self._place(piece).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
        return []

    def _main_container(self, container: ContainerPieces, resources: Resources) -> None:
        self._env.read(container)
        readers: Mapping[str, Callable[[Piece], None]] = {
            "image": self._image,
            "command": self._command,
            "imagePullPolicy": self._pull_policy,
            "workingDir": self._workdir,
            "resources": resources.read,
            "securityContext": self._security_context,
            "lifecycle": lambda piece: self._the_end().read_lifecycle(piece),
        }
        named = {name: piece for name, piece in container.fields.items() if name != "name"}
        self._fields(named, readers, verdicts.CONTAINER, ("name", "env", "envFrom", "volumeMounts"))
        for name, pieces in container.lists.items():
            if name not in {"env", "envFrom", "volumeMounts"}:
                for piece in pieces:
                    self._apply(verdicts.CONTAINER[name], piece)

    def _command(self, piece: Piece) -> None:
        place = self._place(piece)
        words = piece.value
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            place.error("bad-pod", "expected a list of words")
            return
        if not words:
            place.notice("no-effect", "an empty command keeps the image's own")
            return
        words = tuple(self._env.expand(word) for word in words)
        if (late := next((word for word in words if isinstance(word, Text)), None)) is not None:
            names = " and ".join(late.variables or ("a fact of the task",))
            place.error("refused-field", f"{names} is known only in the sandbox, after its command", "read it in the program")
            return
        if words[0].rsplit("/", 1)[-1] in _SHELLS and any(word.startswith("-") and word.endswith("c") for word in words[1:]):
            place.warn("shell-command", 'a shell with -c runs its text and not Airflow, unless that ends in exec "$@"')
        self._set("entrypoint", words, piece)

    def _set_up(self, pod: PodPieces, resources: Resources) -> None:
        """Read what the sandbox must have before Airflow starts: variables, volumes, host names."""
        env = self._env
        if pod.volumes or (pod.containers and "volumeMounts" in pod.containers[0].lists) or self._init is not None:
            also = () if self._init is None else self._init.containers
            volumes = PodVolumes(pod, self._findings, self._options, env, also)
            volumes.read()
            self.settings += volumes.settings
            resources.in_memory += volumes.in_memory
            if volumes.settings and "fsGroup" in self._user:
                place = self._place(self._user["fsGroup"])
                place.warn("volume-group", "files on a Modal Volume keep their owner; other volumes and the task get this group")
            self.setup = replace(
                self.setup, folders=tuple(volumes.folders), links=tuple(volumes.links), files=tuple(volumes.files)
            )
            if volumes.clones:
                self.setup = replace(self.setup, clones=tuple(volumes.clones))
        if self._user:
            self.setup = replace(self.setup, user=read_user(self._user, self._findings))
        if self._end is not None:
            self.setup = replace(self.setup, grace=self._end.grace, post_start=self._end.post_start)
        env.finish()
        self.settings += env.settings
        self.settings += env.sources.settings
        variables = env.sources.variables
        if self._init is not None and self._init.runs:
            self.setup = replace(self.setup, runs=tuple(self._init.runs), hide=tuple(variables))
        if variables:
            keep = env.sources.whole | self._native_secrets
            self.setup = replace(self.setup, remove=tuple(name for name, secret in variables.items() if secret not in keep))


def _listed(entries: object, field: str) -> list[str] | None:
    """Return that field of every entry of a list, ``None`` if one has no such text."""
    if not isinstance(entries, list) or not all(isinstance(e, dict) and isinstance(e.get(field), str) for e in entries):
        return None
    return [entry[field] for entry in entries]


def _is_word(text: object) -> bool:
    return isinstance(text, str) and text.isprintable() and bool(text) and " " not in text
