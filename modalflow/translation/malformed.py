"""Where a quantity, a time or a bound goes wrong: for errors that point at the character.

Flows in: text that its reader has refused. Flows out: a ``Mistake``, which ``report_malformed`` makes the end of a message, a
hint and a ``Diagnostic.excerpt``. Grammar: ``resource.Quantity`` of k8s.io/apimachinery (2026-09), as ``quantities`` reads it.
None of this runs for text that is right.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from modalflow.translation.report import Place, kind_of, shown

LONGEST = 64
"""Characters of a text that is drawn."""
SUFFIXES = ("n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
DURATION_UNITS = ("d", "h", "m", "s")
"""In the order in which they are written; ``min`` is ``m``."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)", re.ASCII)
_RIGHT_TIME = re.compile(r"(?:\d+d)?(?:\d+h)?(?:\d+m)?(?:\d+s)?", re.ASCII)
_CAPABILITY = re.compile(r"\d{1,2}(?:\.\d)?", re.ASCII)
_DIGITS = re.compile(r"\d+", re.ASCII)
_OPERATOR = re.compile(r"(?:>=|<=|==|>|<|)\s*", re.ASCII)
_WORD = re.compile(r"[^\W\d_]+")

_MEANT = {
    **dict.fromkeys(("b", "byte", "bytes", "core", "cores", "cpu", "cpus", "vcpu", "vcpus"), ""),
    **dict.fromkeys(("milli", "millicore", "millicores", "millicpu", "mcpu"), "m"),
    **{f"{letter}{tail}": letter.upper() for letter in "mgtpe" for tail in ("b", "byte", "bytes")},
    **{f"{letter}i{tail}": f"{letter.upper()}i" for letter in "kmgtpe" for tail in ("", "b", "byte", "bytes")},
    **dict.fromkeys(("kb", "kbyte", "kbytes"), "k"),
    **{word: word.upper() for word in "gtp"},
}
"""What people write for a suffix, in small letters."""
_MEANT_TIME = {
    **dict.fromkeys(("day", "days"), "d"),
    **dict.fromkeys(("hr", "hrs", "hour", "hours"), "h"),
    **dict.fromkeys(("mins", "minute", "minutes"), "m"),
    **dict.fromkeys(("sec", "secs", "second", "seconds"), "s"),
}


@dataclass(frozen=True, slots=True)
class Mistake:
    """``start`` to ``end``: the characters that are wrong, from 0; ``why`` ends the message; ``meant`` is the text put right."""

    start: int
    end: int
    why: str
    meant: str = ""


Find = Callable[[str], Mistake | None]


def report_malformed(place: Place, code: str, expected: str, value: object, find: Find, hint: str = "") -> None:
    """Report a value that is no quantity: ``expected … , got …``, and in text the place and the reason."""
    got = shown(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else kind_of(value)
    message = f"expected {expected}, got {got}"
    mistake = find(value) if isinstance(value, str) and 0 < len(value) <= LONGEST else None
    if mistake is None:
        place.error(code, message, hint)
        return
    where = "at the end" if mistake.start >= len(str(value)) else f"at character {mistake.start + 1}"
    meant = f'write "{mistake.meant}"' if mistake.meant else hint
    place.error(code, f"{message}: {where}, {mistake.why}", meant, excerpt=drawn(str(value), mistake))


def drawn(text: str, mistake: Mistake) -> str:
    """Return the text in quotes, and below it ``^~~`` under what is wrong. Empty where characters have no known width."""
    if not (text.isascii() and text.isprintable()):
        return ""
    marker = "^" + "~" * (mistake.end - mistake.start - 1)
    return f'"{text}"\n {" " * mistake.start}{marker}'


def in_quantity(text: str) -> Mistake | None:
    """Find what is wrong with a quantity of Kubernetes; ``None`` if its size is all that can be wrong."""
    return _in_quantity(text, len(text) - len(text.lstrip()), _MEANT)


def _in_quantity(text: str, start: int, meant: dict[str, str]) -> Mistake | None:
    number = _NUMBER.match(text, start)
    if number is None:
        return _no_number(text, start)
    rest = text[number.end() :].rstrip()
    if not rest or rest in SUFFIXES:
        return None
    begin, end = number.end(), number.end() + len(rest)
    if rest[0] in "eE":
        return _in_exponent(text, begin, end, number)
    word = rest.strip().lower()
    right = meant.get(word)
    return Mistake(begin, end, f"{shown(rest)} is no unit", "" if right is None else f"{text[:begin].strip()}{right}")


def _in_exponent(text: str, begin: int, end: int, number: re.Match[str]) -> Mistake | None:
    """Judge what follows ``e`` or ``E``: digits, or nothing after an ``E``."""
    after = begin + 1 + (text[begin + 1 : begin + 2] in {"+", "-"})
    digits = _DIGITS.match(text, after)
    if digits is not None and digits.end() == end:
        return None
    word = text[begin:end].lower()
    if digits is None and len(word) > 1 and word[1].isalpha():
        right = _MEANT.get(word)
        return Mistake(begin, end, f"{shown(text[begin:end])} is no unit", f"{number[0]}{right}" if right is not None else "")
    at = after if digits is None else digits.end()
    return Mistake(at, max(end, at + 1), "an exponent has digits only" if at < end else "an exponent has digits")


def _no_number(text: str, start: int) -> Mistake:
    signed = start + (text[start : start + 1] in {"+", "-"})
    at = signed + (text[signed : signed + 1] == ".")
    return Mistake(at, max(len(text.rstrip()), at + 1), "a number is expected")


def in_bound(text: str) -> Mistake | None:
    """Find what is wrong with a bound on memory, such as ``>=40Gi``."""
    start = len(text) - len(text.lstrip())
    operator = _OPERATOR.match(text, start)
    begin = operator.end() if operator else start
    number = _NUMBER.match(text, begin)
    if number is None:
        wrong = _no_number(text, begin)
        return Mistake(wrong.start, wrong.end, ">=, <=, ==, > or < and a number are expected" if begin == start else wrong.why)
    rest = text[number.end() :].rstrip()
    if not rest:
        return Mistake(len(text), len(text) + 1, "a unit is expected: Gi, GB, Mi or MB", f"{text.strip()}Gi")
    begin, end = number.end(), number.end() + len(rest)
    if rest.strip() in {"Gi", "GiB", "GB", "G", "Mi", "MiB", "MB"}:
        return None
    right = _MEANT.get(rest.strip().lower())
    meant = f"{text[:begin].strip()}{right}" if right in {"G", "Gi", "Mi"} else ""
    return Mistake(begin, end, f"{shown(rest)} is none of Gi, GB, Mi and MB", meant)


def in_capability(text: str) -> Mistake | None:
    """Find what is wrong with a bound on the compute capability, such as ``>=8.0``."""
    start = len(text) - len(text.lstrip())
    operator = _OPERATOR.match(text, start)
    begin = operator.end() if operator else start
    number = _CAPABILITY.match(text, begin)
    end = len(text.rstrip())
    if number is None:
        return Mistake(begin, max(end, begin + 1), "a version such as 8.0 is expected")
    return Mistake(number.end(), end, "nothing more is expected") if number.end() < end else None


def in_duration(text: str) -> Mistake | None:
    """Find what is wrong with a time such as ``1h30m``; ``None`` if its size is all that can be wrong."""
    at = start = len(text) - len(text.lstrip())
    end = len(text.rstrip())
    last = -1
    while at < end:
        digits = _DIGITS.match(text, at)
        if digits is None:
            return Mistake(at, end, "a number is expected", _time_meant(text))
        unit = _WORD.match(text, digits.end())
        if unit is None:
            if digits.end() < end:
                wrong = text[digits.end() : end]
                return Mistake(digits.end(), end, f"{shown(wrong)} is no unit: write d, h, m or s", _time_meant(text))
            bare = at == start
            return None if bare else Mistake(len(text), len(text) + 1, "a unit is expected: d, h, m or s")
        known = "m" if unit[0] == "min" else unit[0]
        if known not in DURATION_UNITS:
            return Mistake(unit.start(), unit.end(), f"{shown(unit[0])} is no unit: write d, h, m or s", _time_meant(text))
        rank = DURATION_UNITS.index(known)
        if rank <= last:
            return Mistake(at, unit.end(), f"{unit[0]} cannot follow {DURATION_UNITS[last]}")
        last, at = rank, unit.end()
    return None


def _time_meant(text: str) -> str:
    """Spell a time in words as one of ours, if each word is known: ``6 hours`` is ``6h``."""
    parts = re.findall(r"(\d+)\s*([A-Za-z]+)[\s,]*(?:and\s+)?", text.strip())
    meant = "".join(number + _MEANT_TIME.get(word.lower(), word.lower()) for number, word in parts)
    rebuilt = "".join(number + word for number, word in parts)
    if re.sub(r"[\s,]|\band\b", "", text) != rebuilt or _RIGHT_TIME.fullmatch(meant) is None:
        return ""
    return meant
