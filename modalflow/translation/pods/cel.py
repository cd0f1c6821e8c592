"""The CEL expressions by which device claims choose a GPU, tried on each model that Modal has.

Flows in: the text of a selector. Flows out: a function that says whether a device with given facts fits. Only what selectors are
made of is read (comparisons of ``device``'s attributes and capacities, their methods, ``&&``, ``||``, ``!``, ``in``); anything
else is ``Unreadable`` by name. No library: the ones for Python are a whole language with a parser generator beneath, and
translation has no dependencies. ``pods.device_claims`` calls it; grammar and functions:
kubernetes.io/docs/reference/using-api/cel, 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from modalflow.translation.quantities import parse_quantity

Facts = Mapping[str, Any]
"""Of one device: ``driver``, ``attributes`` and ``capacity``, the latter two by driver and name."""
Expression = Callable[[Facts], Any]

LONGEST = 2_000
"""Characters of one expression; Kubernetes takes 10 KiB."""
DEEPEST = 20
"""Parentheses and negations within each other."""

_TOKEN = re.compile(
    r"\s*(?:(?P<text>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<word>[A-Za-z_]\w*)"
    r"|(?P<sign>&&|\|\||==|!=|>=|<=|[!<>()\[\].,]))",
    re.ASCII,
)
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
}


class Unreadable(ValueError):
    """The expression is not one of those that are read; the text says what is in the way."""


def parse(text: str) -> Expression:
    """Return the expression. Raises ``Unreadable``, as does calling it where two values cannot be compared."""
    if len(text) > LONGEST:
        raise Unreadable(f"more than {LONGEST} characters")
    reader = _Reader(_tokens(text))
    found = reader.either(0)
    if reader.next is not None:
        raise Unreadable(f"{reader.next!r} where the expression should end")
    return found


def _tokens(text: str) -> list[tuple[str, str]]:
    found, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise Unreadable(f"{text[at:].strip()[:20]!r}")
        found.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    return found


class _Reader:
    """Reads tokens from left to right; each method returns what one part of the grammar means."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0

    @property
    def next(self) -> str | None:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else None

    def _take(self, kind: str | None = None) -> str:
        if self._at >= len(self._tokens):
            raise Unreadable("it ends too soon")
        found, text = self._tokens[self._at]
        if kind is not None and found != kind:
            raise Unreadable(f"{text!r}")
        self._at += 1
        return text

    def _expect(self, sign: str) -> None:
        if self._take() != sign:
            raise Unreadable(f"{self._tokens[self._at - 1][1]!r} where {sign!r} should be")

    def either(self, depth: int) -> Expression:
        parts = [self._both(depth)]
        while self.next == "||":
            self._take()
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda facts: any(_truth(part(facts)) for part in parts)

    def _both(self, depth: int) -> Expression:
        parts = [self._one(depth)]
        while self.next == "&&":
            self._take()
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda facts: all(_truth(part(facts)) for part in parts)

    def _one(self, depth: int) -> Expression:
        if depth > DEEPEST:
            raise Unreadable("too many parentheses")
        if self.next == "!":
            self._take()
            inner = self._one(depth + 1)
            return lambda facts: not _truth(inner(facts))
        if self.next == "(":
            self._take()
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        left = self._value()
        if self.next == "in":
            self._take()
            options = self._list()
            return lambda facts: left(facts) in [option(facts) for option in options]
        if self.next not in _COMPARE:
            return left
        sign, right = self._take(), self._value()
        return lambda facts: _compared(sign, left(facts), right(facts))

    def _list(self) -> list[Expression]:
        self._expect("[")
        found = [self._value()]
        while self.next == ",":
            self._take()
            found.append(self._value())
        self._expect("]")
        return found

    def _value(self) -> Expression:
        value = self._bare_value()
        while self.next == ".":
            self._take()
            name = self._take("word")
            if name not in _OF_TEXT and name not in _OF_NUMBERS:
                raise Unreadable(f"the method {name!r}")
            value = self._method(name, value)
        return value

    def _method(self, name: str, value: Expression) -> Expression:
        self._expect("(")
        argument = self._value() if self.next != ")" else _nothing
        self._expect(")")
        return lambda facts: _called(name, value(facts), argument(facts))

    def _bare_value(self) -> Expression:
        kind, text = self._tokens[self._at] if self._at < len(self._tokens) else ("", "")
        if kind == "text":
            self._take()
            plain = re.sub(r"\\(.)", r"\1", text[1:-1])
            return lambda _: plain
        if kind == "number":
            self._take()
            number = Decimal(text)
            return lambda _: number
        word = self._take("word")
        if word in {"true", "false"}:
            return lambda _: word == "true"
        if word in {"quantity", "semver"}:
            return self._made(word)
        if word == "device":
            return self._fact()
        raise Unreadable(f"{word!r}")

    def _made(self, kind: str) -> Expression:
        self._expect("(")
        text = self._take("text")[1:-1]
        self._expect(")")
        value: Any = parse_quantity(text) if kind == "quantity" else _version(text)
        if value is None:
            raise Unreadable(f"{kind}({text!r})")
        return lambda _: value

    def _fact(self) -> Expression:
        self._expect(".")
        field = self._take("word")
        if field == "driver":
            return lambda facts: facts["driver"]
        if field not in {"attributes", "capacity"}:
            raise Unreadable(f"device.{field}")
        self._expect("[")
        domain = self._take("text")[1:-1]
        self._expect("]")
        self._expect(".")
        name = self._take("word")

        def look_up(facts: Facts) -> Any:
            try:
                return facts[field][domain][name]
            except KeyError:
                raise Unreadable(f"device.{field}[{domain!r}].{name}") from None

        return look_up


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Unreadable(f"{value!r} where true or false should be")
    return value


def _compared(sign: str, left: Any, right: Any) -> bool:
    if isinstance(left, bool) is not isinstance(right, bool) or isinstance(left, str) is not isinstance(right, str):
        raise Unreadable(f"{left!r} {sign} {right!r}")
    try:
        return _COMPARE[sign](left, right)
    except TypeError:
        raise Unreadable(f"{left!r} {sign} {right!r}") from None


def _called(name: str, value: Any, argument: Any) -> Any:
    if name in _OF_TEXT:
        if not isinstance(value, str) or not isinstance(argument, str):
            raise Unreadable(f"{name} of {value!r}")
        return _OF_TEXT[name](value, argument)
    return _OF_NUMBERS[name](value, argument)


def _matches(value: str, pattern: str) -> bool:
    # CEL's expressions are RE2's, which cannot run away; Python's can, by repeating what repeats.
    if re.search(r"[*+}]\)?[*+{]|\)[*+{]|\\[1-9]|\(\?[^i:]", pattern):
        raise Unreadable(f"matches({pattern!r})")
    try:
        return re.search(pattern, value) is not None
    except re.error:
        raise Unreadable(f"matches({pattern!r})") from None


def _version(text: str) -> tuple[int, ...] | None:
    return tuple(int(part) for part in text.split(".")) if re.fullmatch(r"\d{1,5}\.\d{1,5}\.\d{1,5}", text) else None


def _nothing(_: Facts) -> str:
    return ""


_OF_TEXT: Mapping[str, Callable[[str, str], Any]] = {
    "matches": _matches,
    "contains": lambda text, part: part in text,
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "lowerAscii": lambda text, _: text.lower(),
    "upperAscii": lambda text, _: text.upper(),
}
_OF_NUMBERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "compareTo": lambda a, b: Decimal(_compared(">", a, b)) - Decimal(_compared("<", a, b)),
    "isGreaterThan": lambda a, b: _compared(">", a, b),
    "isLessThan": lambda a, b: _compared("<", a, b),
}
