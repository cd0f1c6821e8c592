"""The site's ``pod_mutation_hook``, called on the merged pod as KubernetesExecutor calls it, right before the pod is used.

Flows in: the merged ``PodPieces`` and the hook as ``executor.pod_objects`` wraps it. Flows out: pieces where what it changed
comes from ``pod_mutation_hook`` and everything else still from where it was written. ``pods.fields`` reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.foreign import is_of_the_process
from modalflow.translation.hooks.task import told
from modalflow.translation.hooks.types import PodHook, TaskFacts
from modalflow.translation.pods.form import PlainPod, read_pod_form
from modalflow.translation.pods.merge import ContainerPieces, Fields, Piece, PodPieces, take_apart
from modalflow.translation.report import Place, Root
from modalflow.translation.tags import safe

log = logging.getLogger(__name__)

POD_HOOK = Root(layer="pod_mutation_hook", prefix="pod_mutation_hook", style="dotted")


def apply_pod_hook(hook: PodHook, pod: PodPieces, task: TaskFacts, rank: int, findings: list[Diagnostic]) -> PodPieces:
    """Return what the hook makes of the pod. ``rank`` is the one that its changes have. Never raises; changes nothing."""
    place = Place(POD_HOOK, (), findings)
    try:
        given, left = hook(handed_over(pod, task))
        before, after = read_pod_form(given, place), read_pod_form(left, place)
    except BaseException as error:  # the site's own code may call sys.exit, and the loop's thread goes on
        if is_of_the_process(error):
            raise
        log.warning("pod_mutation_hook failed for %s.%s", task.dag_id, task.task_id, exc_info=True)
        place.error("hook-failed", told(error), "the scheduler's log has the traceback")
        return pod
    if before is None or after is None or before == after:
        return pod
    was, now = (take_apart(plain, POD_HOOK, rank, findings) for plain in (before, after))
    return _Carry(findings).pod(pod, was, now)


def handed_over(pod: PodPieces, task: TaskFacts) -> PlainPod:
    """Return the pod as plain data, with what KubernetesExecutor gives every worker pod and hooks look at.

    Labels and annotations ``dag_id``, ``task_id``, ``run_id``, ``try_number`` (``map_index``), a name, a container ``base`` with
    ``AIRFLOW_IS_K8S_EXECUTOR_POD``; a user's own come first. Not its ``args``: they hold a token (cncf-kubernetes 10.25.0).
    """
    facts = {"dag_id": task.dag_id, "task_id": task.task_id, "try_number": str(task.try_number)}
    facts |= {"run_id": task.run_id} if task.run_id else {}
    facts |= {"map_index": str(task.map_index)} if task.map_index >= 0 else {}
    labels = {"kubernetes_executor": "True", **{name: safe(value) for name, value in facts.items()}}
    containers = [_container(container) for container in pod.containers] or [{"name": "base"}]
    env = [*containers[0].get("env", ()), {"name": "AIRFLOW_IS_K8S_EXECUTOR_POD", "value": "True"}]
    containers[0] = {**containers[0], "env": env}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        **_values(pod.top),
        "metadata": {
            "name": safe(f"{task.dag_id}-{task.task_id}"),
            **_values(pod.metadata),
            "labels": {**labels, **_values(pod.labels)},
            "annotations": {**facts, **_values(pod.annotations)},
        },
        "spec": {
            **_values(pod.spec),
            "containers": containers,
            **({"initContainers": [_container(one) for one in pod.init_containers]} if pod.init_containers else {}),
            **({"volumes": [piece.value for piece in pod.volumes]} if pod.volumes else {}),
        },
    }


def _values(fields: Fields) -> PlainPod:
    return {name: piece.value for name, piece in fields.items()}


def _container(container: ContainerPieces) -> PlainPod:
    return {**_values(container.fields), **{name: [piece.value for piece in items] for name, items in container.lists.items()}}


class _Carry:
    """Keeps the pieces of ``mine`` that the hook left alone: what it was given (``was``) equals what came back (``now``).

    What is in ``was`` and not in ``mine`` is ``handed_over``'s own and is left out, unless the hook changed it.
    """

    def __init__(self, findings: list[Diagnostic]) -> None:
        self._findings = findings

    def pod(self, mine: PodPieces, was: PodPieces, now: PodPieces) -> PodPieces:
        return PodPieces(
            top=self._fields(mine.top, was.top, now.top),
            metadata=self._fields(mine.metadata, was.metadata, now.metadata),
            labels=self._fields(mine.labels, was.labels, now.labels),
            annotations=self._fields(mine.annotations, was.annotations, now.annotations),
            spec=self._fields(mine.spec, was.spec, now.spec),
            containers=self._containers(mine.containers, was.containers, now.containers),
            init_containers=self._containers(mine.init_containers, was.init_containers, now.init_containers),
            volumes=self._items(mine.volumes, was.volumes, now.volumes),
        )

    def _removed(self, piece: Piece) -> None:
        piece.place(self._findings).notice("removed-by-hook", "removed by pod_mutation_hook")

    def _fields(self, mine: Fields, was: Fields, now: Fields) -> Fields:
        found = {name: piece for name, piece in mine.items() if name not in was}  # the client's objects have no such field
        for name, piece in now.items():
            before = was.get(name)
            if before is None or before.value != piece.value:
                found[name] = piece
            elif name in mine:
                found[name] = mine[name]
        for name, piece in mine.items():
            if name in was and name not in now:
                self._removed(piece)
        return found

    def _items(self, mine: list[Piece], was: list[Piece], now: list[Piece]) -> list[Piece]:
        left = list(range(len(was)))
        found = []
        for piece in now:
            index = next((index for index in left if was[index].value == piece.value), None)
            if index is None:
                found.append(piece)
                continue
            left.remove(index)
            if index < len(mine):
                found.append(mine[index])
        for index in left:
            if index < len(mine):
                self._removed(mine[index])
        return found

    def _containers(
        self, mine: list[ContainerPieces], was: list[ContainerPieces], now: list[ContainerPieces]
    ) -> list[ContainerPieces]:
        found = []
        pairs = dict(_pairs(was, now))
        for position, container in enumerate(now):
            index = pairs.get(position)
            if index is None:
                found.append(container)
                continue
            own = mine[index] if index < len(mine) else ContainerPieces(whole=container.whole, fields={})
            before = was[index]
            fields = self._fields(own.fields, before.fields, container.fields)
            names = dict.fromkeys((*own.lists, *container.lists))
            lists = {
                name: self._items(own.lists.get(name, []), before.lists.get(name, []), container.lists.get(name, []))
                for name in names
            }
            lists = {name: items for name, items in lists.items() if items or name in own.lists}
            if index < len(mine) or fields or lists:
                found.append(ContainerPieces(whole=own.whole, fields=fields, lists=lists))
        for index in set(range(len(mine))) - set(pairs.values()):
            self._removed(mine[index].whole)
        return found


def _pairs(was: list[ContainerPieces], now: list[ContainerPieces]) -> Iterator[tuple[int, int]]:
    """Yield which container of ``now`` is which of ``was``: the one of its name, else the renamed one at its place."""
    old = [_name(container) for container in was]
    new = [_name(container) for container in now]
    for position, name in enumerate(new):
        if name in old:
            yield position, old.index(name)
        elif position < len(old) and old[position] not in new:
            yield position, position


def _name(container: ContainerPieces) -> object:
    piece = container.fields.get("name")
    return None if piece is None else piece.value
