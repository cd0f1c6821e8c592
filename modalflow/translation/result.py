"""The outcome of translating one task.

Flows out of ``translate``; ``launch`` runs the plan, ``explain`` and the demo's table show the origins, the log shows the
diagnostics.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.functions.plan import Plan
from modalflow.translation.origins import Origin
from modalflow.translation.plan import SandboxPlan


class LazyOrigins(Mapping[str, Origin]):
    """Origins that are spelled out when asked for: a scheduler that only launches never pays for the texts."""

    __slots__ = ("_names", "_spell")

    def __init__(self, names: Collection[str], spell: Callable[[str], Origin]) -> None:
        self._names = names
        self._spell = spell

    def __getitem__(self, name: str) -> Origin:
        if name not in self._names:
            raise KeyError(name)
        return self._spell(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A plan, or the errors that forbid one; never both absent.

    ``origins`` names, for each plan field that somebody set (``gpu_candidates``, ``cpu``, ``env.NAME`` …), who did.
    ``subject`` says whose configuration was refused (``executor_config of etl.train (etl.py)``), where the caller knows.
    """

    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...] = ()
    origins: Mapping[str, Origin] = field(default_factory=dict)
    subject: str = ""

    @property
    def sandbox(self) -> SandboxPlan | None:
        """The plan, if it is that of a sandbox: all that ``launch`` can run."""
        return self.plan if isinstance(self.plan, SandboxPlan) else None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that refuse the task."""
        return tuple(d for d in self.diagnostics if d.severity is Severity.ERROR)
