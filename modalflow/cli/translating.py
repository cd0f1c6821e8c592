"""Translates documents as the scheduler would translate a task with that template, without Airflow and its database.

In: ``Document``s and options. Out: ``Translated``: plan, findings and the account of every leaf. ``translate_command`` and
``diff_command`` show them.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modalflow.cli.claims import read_claims
from modalflow.cli.dag_lines import path_keys
from modalflow.cli.documents import CONFIG_KIND, TEMPLATE_KIND, Document
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, Leaf, account, leaves
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.functions.plan import Plan
from modalflow.translation.hooks.types import TaskFacts
from modalflow.translation.inputs import FileContent, LoadedTemplate, TaskContext, TemplateSource, TranslationOptions
from modalflow.translation.origins import Origin
from modalflow.translation.plan import Bucket, SandboxPlan
from modalflow.translation.report import PathKey, Root
from modalflow.translation.result import Translation
from modalflow.translation.serialisable import check_serialisable
from modalflow.translation.translate import translate

if TYPE_CHECKING:
    from modalflow.cli.site import Site
    from modalflow.provider.dag_files import DagTask

OUTSIDE = "outside-pod"
"""Code of the finding about what stands around a pod: replicas of a Deployment, a schedule."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Translated:
    """What became of one document."""

    document: Document
    translation: Translation
    leaves: tuple[Leaf, ...] = ()

    @property
    def refused(self) -> bool:
        """Whether a task could not run with this."""
        return bool(self.translation.errors)


class _Given:
    """A template source that knows one template more: the document itself."""

    def __init__(self, given: LoadedTemplate, others: TemplateSource) -> None:
        self._given = given
        self._others = others

    def load(self, name: str, *, asked_by: Origin) -> LoadedTemplate | Diagnostic:
        if name == self._given.name and asked_by.layer.startswith("executor_config"):
            return self._given
        return self._others.load(name, asked_by=asked_by)

    def config_map(self, path: str) -> Mapping[str, FileContent] | str:
        return self._others.config_map(path)


def translate_documents(
    documents: Sequence[Document], options: TranslationOptions, folders: Sequence[str] = ()
) -> list[Translated]:
    """Translate documents that were given together: the device claims among them are what their pods' names mean."""
    claims = read_claims(documents, options)
    results, heard = [], set()
    for document in documents:
        result = translate_document(document, claims.options, folders)
        if (told := claims.findings.get(id(document.whole))) and id(document.whole) not in heard:
            heard.add(id(document.whole))
            own = () if document.template is None else result.translation.diagnostics
            result = dataclasses.replace(result, translation=dataclasses.replace(result.translation, diagnostics=(*told, *own)))
        results.append(result)
    return results


def translate_document(document: Document, options: TranslationOptions, folders: Sequence[str] = ()) -> Translated:
    """Translate one document. Never raises for what is in it."""
    if document.config_lines is not None:
        return translate_config(document, document.config_lines, options, folders)
    if document.template is None:
        findings = () if document.problem is None else (document.problem,)
        return Translated(document=document, translation=Translation(plan=None, diagnostics=findings))
    source = _Given(document.template, TemplateFolders([*folders, Path(document.file).parent]))
    native = document.template.document.get("kind") == TEMPLATE_KIND
    name = document.template.name
    config: dict[str, object] = {"modal": {"template": name}} if native else {"pod_template_file": name}
    context = TaskContext()
    translation = translate(config, context=context, options=options, templates=source)
    kind = (*document.template.at, "kind")
    added = "" if kind in document.template.lines else _root(document.template).render(kind)
    inside = [
        leaf
        for leaf in account(config, context=context, options=options, templates=source)
        if leaf.origin.file == document.file and leaf.origin.path != added
    ]
    around = list(_around(document))
    found = (*_outside(document, around), *translation.diagnostics)
    return Translated(
        document=document,
        translation=dataclasses.replace(translation, diagnostics=found),
        leaves=(*around, *(_of_template(document.template) if native else ()), *inside),
    )


def translate_config(
    document: Document, lines: Mapping[tuple[PathKey, ...], int], options: TranslationOptions, folders: Sequence[str]
) -> Translated:
    """Translate a document that is an ``executor_config``; where it was written is told by the lines of the file."""
    source = TemplateFolders([*folders, Path(document.file).parent])
    context = TaskContext()

    def located(origin: Origin) -> Origin:
        if origin.file is not None or not origin.path.startswith((CONFIG_KIND, "pod_override")):
            return origin
        path = path_keys(origin.path)
        path = path[1:] if path[:1] == (CONFIG_KIND,) else path
        line = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)
        return dataclasses.replace(origin, file=document.file, line=line)

    result = translate(document.whole, context=context, options=options, templates=source)
    found = tuple(dataclasses.replace(found, origin=located(found.origin)) for found in result.diagnostics)
    origins = {name: located(origin) for name, origin in result.origins.items()}
    told = (
        dataclasses.replace(leaf, origin=located(leaf.origin))
        for leaf in account(document.whole, context=context, options=options, templates=source)
    )
    return Translated(
        document=document,
        translation=dataclasses.replace(result, diagnostics=found, origins=origins),
        leaves=tuple(leaf for leaf in told if leaf.origin.file == document.file),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the traceback of a hook that fails out of stdout, where Airflow's commands log and our JSON goes."""
    logger = logging.getLogger("modalflow.translation")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def translate_task(task: DagTask, site: Site) -> Translation:
    """Translate a task of a DAG as the scheduler would, with the site's hooks.

    What storing the DAG would turn into text is an error too, as when Airflow parses it. A call of a Function, which the
    scheduler refuses, comes back with its plan and the refusal.
    """
    from modalflow.executor.configuration import without_functions  # noqa: PLC0415 - documents need none of the executor

    broken = check_serialisable(task.config)
    facts = TaskFacts(dag_id=task.dag_id, task_id=task.task_id, queue=task.queue)
    context, templates = TaskContext(queue=task.queue, task=facts), site.templates()
    options = without_functions(site.settings).translation
    with _quiet():
        result = translate(task.config, context=context, options=options, templates=templates)
    refused = tuple(error for error in result.errors if error.code == "function-not-callable")
    if refused:
        with _quiet():
            result = translate(task.config, context=context, options=site.options, templates=templates)
        result = dataclasses.replace(result, diagnostics=(*refused, *result.diagnostics))
    if not broken:
        return result
    known = {found.origin.path for found in broken}
    rest = (found for found in result.diagnostics if not any(found.origin.path.startswith(path) for path in known))
    return dataclasses.replace(result, plan=None, diagnostics=(*broken, *rest))


def _around(document: Document) -> Iterator[Leaf]:
    """Account for what stands beside the pod in its document; a further pod there has an account of its own."""
    template = document.template
    if template is None or not template.at:
        return
    for path, value in leaves(document.whole):
        if any(path[: len(place)] == place for place in (template.at, *document.others)):
            continue
        empty = value is None or value in ({}, [])
        origin = _root(template).origin(path)
        yield Leaf(origin=origin, fate=Fate.EMPTY if empty else Fate.REPORTED, codes=() if empty else (OUTSIDE,))


def _outside(document: Document, around: Sequence[Leaf]) -> Iterator[Diagnostic]:
    template = document.template
    if template is None or not any(leaf.codes for leaf in around):
        return
    yield Diagnostic(
        code=OUTSIDE,
        severity=Severity.NOTICE,
        origin=_root(template).origin(("kind",)),
        message=f"only the pod at {_root(template).render(template.at)} is translated: what stands around it has no effect",
    )


def _of_template(template: LoadedTemplate) -> Iterator[Leaf]:
    """Account for a task template's own keys beside its ``spec``."""
    for key, value in template.document.items():
        if key != "spec" and isinstance(key, (str, int)):
            for path, _ in leaves(value, (*template.at, key)):
                origin = _root(template).origin(path)
                if key in {"apiVersion", "kind", "extends"}:
                    yield Leaf(origin=origin, fate=Fate.HONOURED, fields=("template" if key == "extends" else "structure",))
                else:
                    yield Leaf(origin=origin, fate=Fate.REPORTED, codes=("no-effect" if key == "metadata" else "unknown-key",))


def _root(template: LoadedTemplate) -> Root:
    return Root(layer=f"template {template.name}", prefix="", style="dotted", file=template.file, lines=template.lines)


def modal_keys(plan: Plan) -> dict[str, object]:
    """Return the plan in the words of the short form, ``executor_config["modal"]``: what one would write to get the same."""
    volumes: dict[str, object] = {
        volume.mount_path: volume.name
        if volume.sub_path is None and not volume.read_only
        else {
            "name": volume.name,
            **({"sub_path": volume.sub_path} if volume.sub_path is not None else {}),
            **({"read_only": True} if volume.read_only else {}),
        }
        for volume in plan.volumes
    }
    volumes.update({mounted.mount_path: _bucket_keys(mounted.bucket) for mounted in plan.buckets})
    secrets = [
        {"name": secret.name, "required_keys": list(secret.required_keys)} if secret.required_keys else secret.name
        for secret in plan.secrets
    ]
    entrypoint = plan.image.entrypoint
    said: Mapping[str, object] = {
        "image": plan.image.name or plan.image.reference or "auto",
        "registry_secret": None if plan.image.name else plan.image.registry_secret,
        "entrypoint": None if entrypoint is None else list(entrypoint),
        "gpu": list(plan.gpu_candidates) or None,
        "gpu_wait": plan.gpu_wait if plan.gpu_candidates else None,
        "cpu": list(plan.cpu) if isinstance(plan.cpu, tuple) else plan.cpu,
        "memory": list(plan.memory) if isinstance(plan.memory, tuple) else plan.memory,
        "env": dict(plan.env) or None,
        "secrets": secrets or None,
        "volumes": volumes or None,
        "timeout": plan.timeout,
        "region": list(plan.region) or None,
        "cloud": plan.cloud,
        "workdir": plan.workdir if isinstance(plan, SandboxPlan) else None,
        "oidc": (isinstance(plan, SandboxPlan) and plan.oidc) or None,
        "keep_on_failure": (isinstance(plan, SandboxPlan) and plan.keep_on_failure) or None,
        "force_build": plan.image.force_build or None,
        "runtime": plan.runtime if isinstance(plan, SandboxPlan) else None,
        "namespace": plan.namespace if isinstance(plan, SandboxPlan) else None,
        "conn_id": plan.home.conn_id if isinstance(plan, SandboxPlan) and plan.namespace is None else None,
        "tags": dict(plan.tags) or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def _bucket_keys(bucket: Bucket) -> dict[str, object]:
    said: dict[str, object] = {
        "bucket": bucket.name,
        "prefix": bucket.prefix,
        "endpoint": bucket.endpoint,
        "secret": None if bucket.secret is None else bucket.secret.name,
        "role_arn": bucket.role_arn,
        "read_only": bucket.read_only or None,
        "requester_pays": bucket.requester_pays or None,
        "path_style": bucket.path_style or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def path_of(origin: Origin) -> str:
    """Spell a leaf's path; the whole document is a dot."""
    return origin.path or "."
