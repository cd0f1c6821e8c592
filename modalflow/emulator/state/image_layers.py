"""What of a recorded image takes effect here: ENV, WORKDIR, ENTRYPOINT and CMD. RUN, COPY and the rest are recorded only.

Flows in: the Dockerfile commands of a chain of layers, base first. Flows out: ``ImageSettings``, which ``environment`` applies.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

_VARIABLE = re.compile(r"\\\$|\$(?:\{(?P<braced>[A-Za-z_]\w*)\}|(?P<plain>[A-Za-z_]\w*))")


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSettings:
    """Run-time settings of an image. ``workdir`` is absolute or ``None``; ``entrypoint`` and ``command`` as in a Dockerfile."""

    env: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def apply_layer(settings: ImageSettings, commands: Sequence[str], base_path: str) -> ImageSettings:
    """Return ``settings`` after one layer's commands. ``base_path`` is the PATH that ``$PATH`` means before any ENV sets it."""
    for command in commands:
        keyword, _, rest = command.strip().partition(" ")
        rest = rest.strip()
        match keyword.upper():
            case "ENV":
                settings = _with_env(settings, rest, base_path)
            case "WORKDIR":
                folder = _expand(" ".join(shlex.split(rest)), settings.env, base_path)
                settings = replace(settings, workdir=posixpath.normpath(posixpath.join(settings.workdir or "/", folder)))
            case "ENTRYPOINT":
                # As in docker build, a new ENTRYPOINT also drops the CMD that came with the old one.
                settings = replace(settings, entrypoint=_words(rest), command=())
            case "CMD":
                settings = replace(settings, command=_words(rest))
    return settings


def _with_env(settings: ImageSettings, rest: str, base_path: str) -> ImageSettings:
    first, _, remainder = rest.partition(" ")
    pairs = [word.partition("=") for word in shlex.split(rest)] if "=" in first else [(first, "=", remainder.strip())]
    env = dict(settings.env)
    # All variables of one line see the values from before it, as docker build has it.
    env.update({name: _expand(value, settings.env, base_path) for name, _, value in pairs if name})
    return replace(settings, env=env)


def _expand(text: str, env: Mapping[str, str], base_path: str) -> str:
    known = {"PATH": base_path, **env}

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        return known.get(name, "") if name else "$"

    return _VARIABLE.sub(value, text)


def _words(rest: str) -> tuple[str, ...]:
    """Read the JSON array form, or the shell form, which a shell runs."""
    try:
        words = json.loads(rest)
    except json.JSONDecodeError:
        words = None
    if isinstance(words, list) and all(isinstance(word, str) for word in words):
        return tuple(words)
    return ("/bin/sh", "-c", rest) if rest else ()
