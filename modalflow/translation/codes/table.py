"""Every code of a ``Diagnostic``: what it means, why it is so, how to mend it, and an input that gives it.

Rows stand in ``codes.short`` (``executor_config["modal"]``), ``codes.gpus`` (hardware), ``codes.pods``, ``codes.storage``,
``codes.sandbox``, ``codes.files`` (templates) and ``codes.targets``. A test holds the table to the codes in the source, both
ways. Flows out to ``cli.codes_pages``: a page for each code and ``modalflow codes``. Nothing that runs tasks imports this.
"""

from __future__ import annotations

from collections.abc import Mapping

from modalflow.translation.codes import files as codes_files
from modalflow.translation.codes import gpus as codes_gpus
from modalflow.translation.codes import pods as codes_pods
from modalflow.translation.codes import sandbox as codes_sandbox
from modalflow.translation.codes import short as codes_short
from modalflow.translation.codes import storage as codes_storage
from modalflow.translation.codes import targets as codes_targets
from modalflow.translation.codes.row import Code

GROUPS: Mapping[str, tuple[Code, ...]] = {
    "The short form": codes_short.ROWS,
    "GPUs and regions": codes_gpus.ROWS,
    "Pods": codes_pods.ROWS + codes_storage.ROWS,
    "What a sandbox does for a pod": codes_sandbox.ROWS,
    "Templates and files": codes_files.ROWS,
    "Targets and hooks": codes_targets.ROWS,
}
CODES: Mapping[str, Code] = {row.code: row for rows in GROUPS.values() for row in rows}
