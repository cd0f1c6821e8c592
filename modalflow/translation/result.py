"""The outcome of translating one task.

Flows out of ``translate``; ``launch`` runs the plan, ``explain`` and the demo's table show the origins, the log shows the
diagnostics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.origins import Origin
from modalflow.translation.plan import SandboxPlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A plan, or the errors that forbid one; never both absent.

    ``origins`` names, for each plan field that somebody set (``gpu_candidates``, ``cpu``, ``env.NAME`` …), who did.
    """

    plan: SandboxPlan | None
    diagnostics: tuple[Diagnostic, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse the task."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)
