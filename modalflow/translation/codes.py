"""Every code of a ``Diagnostic``: what it means, why it is so, how to mend it, and an input that gives it.

Rows stand in ``codes_short`` (``executor_config["modal"]``), ``codes_gpus`` (hardware), ``codes_pods``, ``codes_sandbox``,
``codes_files`` (templates) and ``codes_targets``. A test holds the table to the codes in the source, both ways. Flows out to
``cli.codes_pages``: a page for each code and ``modalflow codes``. Nothing that runs tasks imports this.
"""

from __future__ import annotations

from collections.abc import Mapping

from modalflow.translation import codes_files, codes_gpus, codes_pods, codes_sandbox, codes_short, codes_targets
from modalflow.translation.code_row import Code

GROUPS: Mapping[str, tuple[Code, ...]] = {
    "The short form": codes_short.ROWS,
    "GPUs and regions": codes_gpus.ROWS,
    "Pods": codes_pods.ROWS,
    "What a sandbox does for a pod": codes_sandbox.ROWS,
    "Templates and files": codes_files.ROWS,
    "Targets and hooks": codes_targets.ROWS,
}
CODES: Mapping[str, Code] = {row.code: row for rows in GROUPS.values() for row in rows}
