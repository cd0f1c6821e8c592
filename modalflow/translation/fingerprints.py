"""Tells whether two configs read alike, without ``kubernetes`` and without calling code of a user's.

Flows in: an ``executor_config``. Flows out: a ``fingerprint``, by which ``cache`` finds it among many, and a ``likeness``, which
compares another one with it several times faster than that takes a fingerprint.
"""

# ruff: noqa: PLW1641 - a likeness is compared, never a key
from __future__ import annotations

from collections.abc import Callable, Hashable
from operator import attrgetter
from typing import Any

from modalflow.translation.layers import MOST_VALUES

_CLIENT = "kubernetes.client.models."
"""Where the classes live whose objects are read by their attributes."""


class _Unknown(Exception):
    """A value whose content cannot be read without running somebody's code, or without end."""


def fingerprint(config: object) -> Hashable | None:
    """Return a value that equals that of another config exactly if both read alike, ``None`` for one that has no such value.

    Knows plain data and the objects of the kubernetes client. ``1``, ``1.0`` and ``True`` differ, as does another order.
    """
    try:
        return _frozen(config, [MOST_VALUES])
    except (_Unknown, RecursionError):
        return None


_TEXT = {str}
_PLAIN = (dict, list, tuple, int, bool, float, str, type(None))

_attributes: dict[type, Callable[[Any], tuple[Any, ...]] | None] = dict.fromkeys(_PLAIN)
"""How to read everything that an object of a class holds. There are a few hundred classes; ``None`` for those not read so."""


def _frozen(value: Any, left: list[int]) -> Hashable:
    """Return a value's fingerprint. ``left`` counts what may still be read, and is shared by the whole config."""
    kind = type(value)
    try:
        read = _attributes[kind]
    except KeyError:
        read = _attributes[kind] = _reader(kind)
    if read is not None:
        values = _read(read, value)
        left[0] -= 1
        if left[0] < 0:
            raise _Unknown
        return (kind, *[v if v is None or type(v) is str else _frozen(v, left) for v in values])
    if kind is dict or kind is list or kind is tuple:
        left[0] -= len(value)
        if left[0] < 0:
            raise _Unknown
        if kind is not dict:
            return (kind, *[_frozen(v, left) for v in value])
        if value and {*map(type, value)} != _TEXT:
            raise _Unknown
        return (kind, *value, *[v if type(v) is str else _frozen(v, left) for v in value.values()])
    return _frozen_scalar(kind, value)


def _frozen_scalar(kind: type, value: Any) -> Hashable:
    if kind is str or value is None:
        return value  # type: ignore[no-any-return]
    if kind is int or kind is bool:
        return (kind, value)
    if kind is float:
        return (kind, repr(value))  # tells -0.0 from 0.0
    raise _Unknown


def _reader(kind: Any) -> Callable[[Any], tuple[Any, ...]]:
    if not kind.__module__.startswith(_CLIENT) or not isinstance(getattr(kind, "attribute_map", None), dict):
        raise _Unknown
    # The client keeps each attribute under its own name and an underscore; reading that takes a third of the time.
    names = ["_" + name for name in kind.attribute_map]
    return attrgetter(*names, names[0])  # of one name it would return no tuple


def _read(read: Callable[[Any], tuple[Any, ...]], value: Any) -> tuple[Any, ...]:
    try:
        return read(value)
    except AttributeError:
        raise _Unknown from None


class Likeness:
    """What equals a value exactly if that reads like the one it was made of. It stands on the left, so that ``==`` asks it."""

    __slots__ = ("_kind", "_value")

    def __init__(self, kind: type, value: object) -> None:
        self._kind = kind
        self._value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is self._kind and self._value == other


class _Mapping(Likeness):
    """Compares the keys first, with their order, and then the values."""

    __slots__ = ("_names",)

    def __init__(self, value: dict[str, object]) -> None:
        super().__init__(dict, {name: likeness(child) for name, child in value.items()})
        self._names = tuple(value)

    def __eq__(self, other: object) -> bool:
        return (
            type(other) is dict
            and self._names == tuple(other)
            and (not other or {*map(type, other)} == _TEXT)
            and self._value == other
        )


class _Object(Likeness):
    """Compares what an object of the client holds; the dicts are compared by the interpreter, not in Python."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return type(other) is self._kind and self._value == other.__dict__


class _Whatever(Likeness):
    """Equals everything: stands for what does not count."""

    __slots__ = ()

    def __eq__(self, _other: object) -> bool:
        return True


_WHATEVER = _Whatever(object, None)
_NO_CONTENT = ("local_vars_configuration", "discriminator")


def likeness(value: Any) -> object:
    """Return the likeness of a value that has a fingerprint. Comparing may raise what the other value raises."""
    kind = type(value)
    if value is None:
        return None
    if kind is dict:
        return _Mapping(value)
    if kind is list or kind is tuple:
        return Likeness(kind, kind(map(likeness, value)))
    if kind in _PLAIN:
        return Likeness(kind, value if kind is not float else _Spelled(value))
    content = vars(value)
    return _Object(kind, {name: _WHATEVER if name in _NO_CONTENT else likeness(child) for name, child in content.items()})


class _Spelled:
    """A float that tells -0.0 from 0.0."""

    __slots__ = ("_text",)

    def __init__(self, value: float) -> None:
        self._text = repr(value)

    def __eq__(self, other: object) -> bool:
        return self._text == repr(other)
