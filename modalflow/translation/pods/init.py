"""The init containers of a pod that can be run: those with the task's own image, as commands before the task.

Flows in: the pieces of one init container. Flows out: a ``RunPlan``, which ``worker/commands.py`` carries out in the sandbox; the
container's mounts are ``pods.volumes``' matter. What has another image is refused: a sandbox has one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from modalflow.translation.diagnostics import Diagnostic, did_you_mean
from modalflow.translation.keys import read_workdir
from modalflow.translation.pods import verdicts
from modalflow.translation.pods.env import PodEnv
from modalflow.translation.pods.merge import ContainerPieces, Piece, PodPieces
from modalflow.translation.pods.sources import Sources
from modalflow.translation.pods.user import USER_FIELDS, Chosen, choose, read_user
from modalflow.translation.report import kind_of
from modalflow.translation.setup_plan import RunPlan, Text, UserPlan

_READ = ("name", "image", "command", "args", "env", "envFrom", "workingDir", "securityContext", "volumeMounts", "resources")


class InitReader:
    """Reads init containers. ``runs`` holds the commands in order, ``containers`` whose they are."""

    def __init__(self, pod: PodPieces, findings: list[Diagnostic], sources: Sources, user: Chosen) -> None:
        """``user`` is what the pod's own security context says."""
        self.runs: list[RunPlan] = []
        self.containers: list[ContainerPieces] = []
        self._pod = pod
        self._findings = findings
        self._sources = sources
        self._user = user

    def read(self, container: ContainerPieces) -> None:
        """Read one init container, or report why it cannot be run."""
        if not self._has_image_of_task(container):
            self._apply(verdicts.INIT_CONTAINER, container.whole)
            return
        self.containers.append(container)
        env = PodEnv(self._pod, self._findings, self._sources)
        opened = set(self._sources.whole)
        env.read(container)
        for piece in container.lists.get("envFrom", ()) if self._sources.whole - opened else ():
            piece.place(self._findings).error(
                "unknown-keys",
                "the keys of this Secret are not known here, so the task would get its variables too",
                'list them in [modal_executor] kubernetes_secrets: {NAME: {"name": NAME, "keys": [...]}}',
            )
        argv = self._words(container.fields.get("command"), env) + self._words(container.fields.get("args"), env)
        if "command" not in container.fields:
            container.whole.place(self._findings).error(
                "refused-field", "would run the image's ENTRYPOINT, which is not known here", "write its command"
            )
        folder = container.fields.get("workingDir")
        name = container.fields.get("name")
        self.runs.append(
            RunPlan(
                name=str(name.value) if name is not None else str(len(self.runs) + 1),
                argv=tuple(argv),
                env={name: Text((value,)) if isinstance(value, str) else value for name, value in env.values.items()},
                folder=None if folder is None else read_workdir(folder.value, folder.place(self._findings)),
                user=self._user_of(container.fields.get("securityContext")),
            )
        )
        self._rest(container)

    def _has_image_of_task(self, container: ContainerPieces) -> bool:
        image = container.fields.get("image")
        own = self._pod.containers[0].fields.get("image") if self._pod.containers else None
        return image is None or (own is not None and image.value == own.value)

    def _words(self, piece: Piece | None, env: PodEnv) -> list[Text]:
        if piece is None:
            return []
        if not isinstance(piece.value, list) or not all(isinstance(word, str) for word in piece.value):
            piece.place(self._findings).error("bad-pod", "expected a list of words")
            return []
        words = [env.expand(word) for word in piece.value]
        return [Text((word,)) if isinstance(word, str) else word for word in words]

    def _user_of(self, piece: Piece | None) -> UserPlan | None:
        chosen = dict(self._user)
        if piece is not None and not isinstance(piece.value, dict):
            piece.place(self._findings).error("bad-pod", f"expected a mapping, got {kind_of(piece.value)}")
        elif piece is not None:
            for field, value in piece.value.items():
                part = piece.part(value, field)
                if field in USER_FIELDS:
                    chosen.pop(field, None)
                    choose(chosen, part, self._findings)
                elif field == "capabilities" and isinstance(value, dict):
                    for name, listed in value.items():
                        self._look_up(part.part(listed, name), verdicts.CAPABILITIES)
                else:
                    self._look_up(part, verdicts.SECURITY_CONTEXT, USER_FIELDS)
        # What the pod's context says wrong has been reported with the task's own container.
        return read_user(chosen, self._findings if chosen != self._user else []) if chosen else None

    def _rest(self, container: ContainerPieces) -> None:
        resources = container.fields.get("resources")
        if resources is not None:
            self._apply(verdicts.INIT_RESOURCES, resources)
            self._refuse_devices(resources)
        for name, piece in container.fields.items():
            if name == "lifecycle":
                self._apply(verdicts.INIT_LIFECYCLE, piece)
            elif name not in _READ:
                self._look_up(piece, verdicts.CONTAINER)
        for name, pieces in container.lists.items():
            if name not in _READ:
                for piece in pieces:
                    self._apply(verdicts.CONTAINER[name], piece)

    def _refuse_devices(self, resources: Piece) -> None:
        """Refuse a device that the task itself does not ask for: the init container would run without it."""
        main = self._pod.containers[0].fields.get("resources") if self._pod.containers else None
        of_task = _limits(None if main is None else main.value)
        for name, amount in _limits(resources.value).items():
            if isinstance(name, str) and "/" in name and name not in of_task and str(amount) != "0":
                place = resources.part(amount, "limits", name).place(self._findings)
                place.error(
                    "refused-field", "the task's sandbox, in which it runs, has no such device", "give the task this limit"
                )

    def _look_up(self, piece: Piece, table: Mapping[str, verdicts.Verdict], others: Iterable[str] = _READ) -> None:
        name = str(piece.path[-1])
        verdict = table.get(name)
        if verdict is None:
            hint = did_you_mean(name, (*table, *others))
            piece.place(self._findings).error("unknown-field", "Kubernetes has no such field", hint)
        else:
            self._apply(verdict, piece)

    def _apply(self, verdict: verdicts.Verdict, piece: Piece) -> None:
        verdicts.apply(verdict, piece.value, piece.place(self._findings))


def _limits(resources: object) -> dict[object, object]:
    limits = resources.get("limits") if isinstance(resources, dict) else None
    return limits if isinstance(limits, dict) else {}
