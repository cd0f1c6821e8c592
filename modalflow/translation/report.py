"""Where a reader stands while it reads one value, and how it reports what it finds.

A ``Place`` is a layer plus a path inside it plus the list of findings. Readers know one value and its children; the path in
front of them comes with the place. Flows from ``layers`` into every reader; its findings end in ``Translation.diagnostics``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from modalflow.translation.diagnostics import Diagnostic, Severity
from modalflow.translation.origins import Origin

PathKey = str | int
PathStyle = Literal["subscript", "dotted", "option"]

SHOWN_LENGTH = 80
"""Longest rendering of a user's value inside an error text."""
LONGEST_KEY = 253 + 1 + 63
"""Longest key spelled out in a path: that of a Kubernetes label."""

_LONGEST_INT = 256
"""Bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Root:
    """What a path starts from: the name of a layer, how its paths are spelled, and the YAML lines behind them.

    ``lines_at`` is the path, inside the document, of the value that the root stands for.
    """

    layer: str
    prefix: str
    style: PathStyle
    file: str | None = None
    lines: Mapping[tuple[PathKey, ...], int] | None = None
    lines_at: tuple[PathKey, ...] = ()

    def origin(self, path: tuple[PathKey, ...]) -> Origin:
        """Return the origin of ``path``; the line is that of the nearest known ancestor."""
        return Origin(layer=self.layer, path=self.render(path), file=self.file, line=self._line(path))

    def render(self, path: tuple[PathKey, ...]) -> str:
        """Spell ``path`` as a user of this layer would write it; the whole of a template is ``template NAME``."""
        if self.style == "subscript":
            return self.prefix + "".join(f"[{_key(key)}]" for key in path)
        if self.style == "option":
            head = f"{self.prefix} {path[0]}" if path else self.prefix
            return head + "".join(f"[{_key(key)}]" for key in path[1:])
        text = self.prefix
        for key in path:
            plain = isinstance(key, str) and len(key) <= SHOWN_LENGTH and key.isidentifier()
            text += (f".{key}" if text else str(key)) if plain else f"[{_key(key)}]"
        return text or self.layer

    def _line(self, path: tuple[PathKey, ...]) -> int | None:
        if self.lines is None:
            return None
        full = self.lines_at + path
        for end in range(len(full), -1, -1):
            line = self.lines.get(full[:end])
            if line is not None:
                return line
        return None


class Place:
    """One value's address, able to report about it."""

    __slots__ = ("findings", "path", "root")

    def __init__(self, root: Root, path: tuple[PathKey, ...], findings: list[Diagnostic]) -> None:
        self.root = root
        self.path = path
        self.findings = findings

    def at(self, *keys: PathKey) -> Place:
        """Return the place of a child."""
        return Place(self.root, self.path + keys, self.findings)

    def into(self, findings: list[Diagnostic]) -> Place:
        """Return the same address, reporting elsewhere."""
        return Place(self.root, self.path, findings)

    @property
    def origin(self) -> Origin:
        """The same address as an ``Origin``."""
        return self.root.origin(self.path)

    def error(self, code: str, message: str, hint: str = "", excerpt: str = "") -> None:
        """Report something that refuses the task; ``excerpt`` points at what is wrong in a text."""
        self._report(Severity.ERROR, code, message, hint, excerpt)

    def warn(self, code: str, message: str, hint: str = "") -> None:
        """Report a loss that the user must know of."""
        self._report(Severity.WARNING, code, message, hint)

    def notice(self, code: str, message: str, hint: str = "") -> None:
        """Report something harmless."""
        self._report(Severity.NOTICE, code, message, hint)

    def _report(self, severity: Severity, code: str, message: str, hint: str, excerpt: str = "") -> None:
        self.findings.append(
            Diagnostic(
                code=code, severity=severity, origin=self.origin, message=message, hint=hint, excerpt=excerpt, at=self.path
            )
        )


_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _key(key: PathKey) -> str:
    return shown(key) if type(key) is not str or len(key) > LONGEST_KEY else _quoted(key)


def shown(value: object) -> str:
    """Render a user's value for an error text: JSON where it is plain data, else the type's name. Never calls user code."""
    if type(value) in {str, int, float, bool, type(None)}:
        text = _quoted(value) if type(value) is str else _number(value)
    elif type(value) in {list, tuple, dict}:
        return kind_of(value)
    else:
        return type_name(value)
    return text if len(text) <= SHOWN_LENGTH else text[: SHOWN_LENGTH - 1] + "…"


def _number(value: object) -> str:
    # Python refuses to spell ints of thousands of digits.
    return "a huge int" if type(value) is int and value.bit_length() > _LONGEST_INT else str(value)


def type_name(value: object) -> str:
    """Return the full name of a value's type (``modal.image.Image``), without the module for built-in types."""
    kind = type(value)
    module = kind.__module__
    return kind.__qualname__ if module in {"builtins", "__main__"} else f"{module}.{kind.__qualname__}"


_KINDS: dict[type, str] = {
    dict: "a dict",
    list: "a list",
    tuple: "a tuple",
    str: "text",
    int: "an int",
    float: "a float",
    bool: "a bool",
    type(None): "None",
}


def kind_of(value: object) -> str:
    """Name a value's kind in prose: ``a list``, ``text``, ``modal.secret.Secret``."""
    if isinstance(value, Enum):
        return f"the enum member {type(value).__name__}.{value.name}"
    return _KINDS.get(type(value), type_name(value))
