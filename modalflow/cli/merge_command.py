"""``modalflow merge BASE OVERRIDE…``: the pod that comes out when pods are laid on each other, as YAML.

In: files with one pod each, weakest first. Out: the pod that KubernetesExecutor would send (or ``kubectl patch`` would make) on
stdout, what surprises on stderr. Needs no Airflow, no cluster and no Modal account.
"""

from __future__ import annotations

import argparse
import sys

import yaml

from modalflow.cli.documents import Document, read_files
from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.pods.form import PlainPod, keep_nulls, read_pod_form
from modalflow.translation.pods.merge import lay_on_each_other
from modalflow.translation.pods.strategic import merge_strategically
from modalflow.translation.report import Place, Root


def run(arguments: argparse.Namespace) -> int:
    """Run the command; exit code 1 if a file has no single pod, or pods cannot be merged."""
    findings: list[Diagnostic] = []
    strategic = arguments.merge == "strategic"
    pods = []
    for rank, path in enumerate(arguments.files):
        found = _only_pod(path)
        if isinstance(found, str):
            sys.stderr.write(f"{found}\n")
            return 1
        read = _read(found, strategic=strategic, findings=findings)
        if read is not None:
            pods.append((*read, rank))
    merged: PlainPod = {}
    if len(pods) == len(arguments.files):
        merged = merge_strategically(pods, findings)[0] if strategic else lay_on_each_other(pods, findings)
    for told in findings:
        sys.stderr.write(f"{told.severity}: {told}\n")
    if any(told.severity is Severity.ERROR for told in findings):
        return 1
    yaml.safe_dump(merged, sys.stdout, sort_keys=False, allow_unicode=True)
    return 0


def _only_pod(path: str) -> Document | str:
    """Return the one pod of a file, or what is wrong with the file."""
    documents = read_files([path])
    broken = next((one.problem for one in documents if one.problem and one.problem.severity is Severity.ERROR), None)
    if broken is not None:
        return str(broken)
    pods = [one for one in documents if one.template is not None and one.template.document.get("kind") == "Pod"]
    return pods[0] if len(pods) == 1 else f"{path}: expected one pod, found {len(pods)}"


def _read(document: Document, *, strategic: bool, findings: list[Diagnostic]) -> tuple[PlainPod, Root] | None:
    template = document.template
    if template is None:
        return None
    prefix = Root(layer="", prefix="", style="dotted").render(template.at)
    root = Root(
        layer=document.file, prefix=prefix, style="dotted", file=document.file, lines=template.lines, lines_at=template.at
    )
    content = keep_nulls(template.document) if strategic else template.document
    plain = read_pod_form(content, Place(root, (), findings))
    return None if plain is None else (plain, root)
