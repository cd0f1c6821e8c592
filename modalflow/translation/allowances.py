"""What the site makes of fields that are not honoured: ``[modal_executor] on_unsupported`` and ``allow``.

Flows in: the findings of a task, in the severities of the support matrix. Flows out: the same findings, of which losses are
errors or notices (``on_unsupported``), and refusals of fields that the site allows are warnings. Runs only where one of the
options is set, and after all readers, so that none of them has to know of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.inputs import FieldPattern, TranslationOptions

LOSS = "dropped"
"""Code of what runs with a loss."""
REFUSED = "refused-field"
"""Code of what is refused by its meaning: the only errors that can be allowed. Others leave nothing that could be launched."""
POD_PARTS = ("spec", "metadata")

_STEP = re.compile(r'\.?([A-Za-z_][\w-]*)|\[(\*|\d*|"[^"]*")\]')
_SEVERITY = {"error": Severity.ERROR, "warn": Severity.WARNING, "ignore": Severity.NOTICE}


def read_pattern(text: str) -> FieldPattern | None:
    """Read ``spec.containers[*].args``; an index or ``[*]`` becomes ``None``, any key. ``None``: it is no path."""
    found: list[str | None] = []
    at = 0
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None or (step[0].startswith(".") != bool(at) and step[1] is not None):
            return None
        found.append(step[1] if step[1] is not None else step[2].strip('"') if step[2].startswith('"') else None)
        at = step.end()
    return tuple(found)


def spelled(path: Sequence[str | int]) -> str:
    """Spell a finding's path as a pattern for ``allow``: any index, keys as they are."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += "[*]"
        elif re.fullmatch(r"[A-Za-z_]\w*", key):
            text += f".{key}" if text else key
        else:
            text += f'["{key}"]'
    return text


def judge(findings: list[Diagnostic], options: TranslationOptions) -> None:
    """Make the findings what the site wants them to be."""
    if options.allow or options.on_unsupported != "warn":
        findings[:] = [_judged(found, options) if found.code in {LOSS, REFUSED} else found for found in findings]


def _judged(found: Diagnostic, options: TranslationOptions) -> Diagnostic:
    is_refused = found.code == REFUSED and found.severity is Severity.ERROR
    if not is_refused and (found.code != LOSS or options.on_unsupported == "warn"):
        return found
    is_error = is_refused or options.on_unsupported == "error"
    if is_error and found.at[:1] and found.at[0] in POD_PARTS and any(_covers(pattern, found.at) for pattern in options.allow):
        return _allowed(found) if is_refused else found
    if is_refused:
        return found
    if not is_error:
        return replace(found, severity=_SEVERITY[options.on_unsupported])
    or_allow = f"add {spelled(found.at)} to [modal_executor] allow" if found.at[:1] and found.at[0] in POD_PARTS else ""
    return replace(found, severity=Severity.ERROR, hint=", or ".join(filter(None, (found.hint, or_allow))))


def _allowed(found: Diagnostic) -> Diagnostic:
    message = f"is left out, as [modal_executor] allow permits: {found.message}"
    return replace(found, code="allowed-field", severity=Severity.WARNING, message=message, hint="")


def _covers(pattern: FieldPattern, path: Sequence[str | int]) -> bool:
    """Whether ``path`` is the field of the pattern, or lies in it."""
    return len(pattern) <= len(path) and all(want is None or want == key for want, key in zip(pattern, path, strict=False))
