"""Device claims that stand in the same files as the pods that use them.

In: ``Document``s. Out: options that know what the claims are, and what there is to say about each. ``translate_command`` calls it
before it translates the pods; what ``[modal_executor] resource_claims`` says of a name wins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from modalflow.cli.documents import Document
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.gpus.catalogue import GpuRequest
from modalflow.translation.gpus.requests import read_gpu
from modalflow.translation.inputs import TranslationOptions
from modalflow.translation.pods.device_claims import KINDS, read_claim
from modalflow.translation.report import PathKey, Place, Root


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """``options`` with the claims, and the findings about them by the place of each document: its file and its whole content."""

    options: TranslationOptions
    findings: Mapping[int, tuple[Diagnostic, ...]]
    """By ``id`` of a document's ``whole``."""


def read_claims(documents: Sequence[Document], options: TranslationOptions) -> Claims:
    """Read every claim of the documents. Never raises for what is in them."""
    found: dict[str, GpuRequest] = {}
    told: dict[int, tuple[Diagnostic, ...]] = {}
    default = _default(options)
    for document in {id(one.whole): one for one in documents}.values():
        findings: list[Diagnostic] = []
        root = Root(layer=f"file {document.file}", prefix="", style="dotted", file=document.file, lines=document.lines)
        for at, claim in _claims_in(document.whole):
            name = claim.get("metadata", {}).get("name") if isinstance(claim.get("metadata"), dict) else None
            request = read_claim(claim, Place(root, at, findings), default)
            if request is not None and isinstance(name, str):
                found[name] = request
                gpus = " or ".join(choice.text for choice in request)
                Place(root, (*at, "kind"), findings).notice("claim-read", f"the {claim['kind']} {name} stands for {gpus}")
        if findings:
            told[id(document.whole)] = tuple(findings)
    return Claims(options=replace(options, resource_claims={**found, **options.resource_claims}), findings=told)


def _default(options: TranslationOptions) -> GpuRequest:
    findings: list[Diagnostic] = []
    root = Root(layer="[modal_executor]", prefix="[modal_executor]", style="option")
    return (read_gpu(options.default_gpu, Place(root, ("default_gpu",), findings)) or ()) if options.default_gpu else ()


def _claims_in(whole: Mapping[str, Any]) -> Iterator[tuple[tuple[PathKey, ...], Mapping[str, Any]]]:
    if whole.get("kind") in KINDS:
        yield (), whole
    items = whole.get("items")
    for index, item in enumerate(items if isinstance(items, list) else []):
        if isinstance(item, dict) and item.get("kind") in KINDS:
            yield ("items", index), item
