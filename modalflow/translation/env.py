"""Environment variables: what may be one, and Kubernetes' ``$(NAME)`` references. Values are never shown: they may be secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from modalflow.translation.report import Place, kind_of, shown

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
"""What Modal's client takes for a variable's name (modal 1.6.4)."""
_NO_VARIABLE = re.compile(r"[^A-Za-z0-9_]", re.ASCII)
_REFERENCE = re.compile(r"\$(?:\$|\(([^()]*)\))", re.ASCII)


RESERVED = "MODALFLOW_"
"""Beginning of the names by which modalflow talks to its bootstrap, the variable that carries a workload among them."""


def read_env(value: object, place: Place) -> dict[str, str] | None:
    """Read ``{NAME: text}``. An entry of ``None`` counts as not set here."""
    if not isinstance(value, dict):
        place.error("bad-env", f'expected a dict such as {{"NAME": "text"}}, got {kind_of(value)}')
        return None
    found: dict[str, str] = {}
    for name, text in value.items():
        at = place.at(name)
        if text is not None and check_name(name, at) and check_text(text, at):
            found[name] = text
    return found


def check_name(name: object, place: Place) -> bool:
    """Report a name that Modal would refuse."""
    if isinstance(name, str) and NAME.fullmatch(name):
        return True
    place.error("bad-env-name", f"{shown(name)} cannot name a variable", "use letters, digits and _, and no digit first")
    return False


def check_text(text: object, place: Place) -> bool:
    """Report a value that is no text, without showing it."""
    if isinstance(text, str) and "\0" not in text:
        return True
    if isinstance(text, str):
        place.error("bad-env-value", "the text holds a NUL character, which no environment can carry")
    elif isinstance(text, (int, float)):
        place.error("bad-env-value", f"expected text, got {kind_of(text)}", "write it in quotes")
    else:
        place.error("bad-env-value", f"expected text, got {kind_of(text)}")
    return False


def variable_of(key: str) -> str:
    """Return the variable that holds a Secret's key: Modal's keys are names of variables, so ``tls.crt`` is ``tls_crt`` there."""
    text = _NO_VARIABLE.sub("_", key)
    return f"_{text}" if text[:1].isdigit() else text


def split_references(text: str) -> Iterator[tuple[str, str | None]]:
    """Split ``text`` at Kubernetes' references: (text as written, name) for ``$(NAME)``, (text, ``None``) for the rest.

    ``$$`` is a ``$``, so ``$$(NAME)`` is no reference.
    """
    end = 0
    for match in _REFERENCE.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], None
        name = match.group(1)
        yield ("$", None) if name is None else (match.group(0), name)
        end = match.end()
    if end < len(text):
        yield text[end:], None


def expand(text: str, known: Mapping[str, object]) -> str:
    """Expand ``$(NAME)`` as Kubernetes does: a reference to an unknown name stays as it is."""
    if "$" not in text:
        return text
    return "".join(str(known.get(name, written)) if name is not None else written for written, name in split_references(text))
