"""What translation has to say to the user, as data; one function renders it.

Flows out of every module of ``translation``; ends in the task's log, a DAG import error, the ``explain`` command or JSON.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from modalflow.translation.origins import Origin

CLOSE_ENOUGH = 0.6
"""difflib ratio above which an unknown name is taken for a typo of a known one."""


LONGEST_TYPO = 64
"""Characters. Comparing takes time in proportion, and no name of ours is as long."""


class Severity(StrEnum):
    """``error`` refuses the task, ``warning`` runs it with a loss the user must know of, ``notice`` is harmless."""

    ERROR = "error"
    WARNING = "warning"
    NOTICE = "notice"


@dataclass(frozen=True, kw_only=True, slots=True)
class Diagnostic:
    """One finding. ``code`` is stable and kebab-case (``unknown-gpu``); ``hint`` says what to write instead.

    ``at`` is the path in ``origin``, in keys. ``excerpt`` is the wrong value with a marker under what is wrong in it, in
    lines; empty where the value is no text.
    """

    code: str
    severity: Severity
    origin: Origin
    message: str
    hint: str = ""
    excerpt: str = ""
    at: tuple[str | int, ...] = field(default=(), compare=False, repr=False)

    def __str__(self) -> str:
        """Render as ``<where>: <message>[; <hint>]``, in one line."""
        tail = f"; {self.hint}" if self.hint else ""
        return f"{self.origin}: {self.message}{tail}"

    def coded(self) -> str:
        """Render with the code in brackets, in one line: ``modalflow codes`` explains it."""
        return f"{self} [{self.code}]"

    def full(self) -> str:
        """Render for people: the line with its code, and below it the excerpt."""
        return self.coded() + "".join(f"\n    {line}" for line in self.excerpt.splitlines())


def render(diagnostics: Iterable[Diagnostic]) -> str:
    """One line per finding, in the order found."""
    return "\n".join(str(d) for d in diagnostics)


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that ``word`` is a likely typo of."""
    if len(word) > LONGEST_TYPO:
        return None
    by_lower = {k.lower(): k for k in known}
    matches = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=CLOSE_ENOUGH)
    return by_lower[matches[0]] if matches else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``did you mean "x"?`` for the closest known word, else the empty string."""
    found = closest(word, known)
    return f'did you mean "{found}"?' if found else ""
