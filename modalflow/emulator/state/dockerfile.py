"""Dockerfile text as instructions: comments, continuation lines, heredocs, flags and the JSON form read as Docker reads them.

Flows in: the ``dockerfile_commands`` of one layer. Flows out: ``Instruction`` values, unexpanded. Which instructions take effect
is the matter of ``image_layers`` (settings) and ``machines.image_builds`` (files). The grammar is that of
https://docs.docker.com/reference/dockerfile/ (read November 2026); dockerfile-parse, the library for it, knows no heredocs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_SETTINGS = {"ARG", "CMD", "ENTRYPOINT", "ENV", "FROM", "SHELL", "USER", "WORKDIR"}
_FILES = {"ADD", "COPY", "RUN"}
_NOTES = {"EXPOSE", "HEALTHCHECK", "LABEL", "MAINTAINER", "ONBUILD", "STOPSIGNAL", "VOLUME"}
KEYWORDS = frozenset(_SETTINGS | _FILES | _NOTES)
_DIRECTIVE = re.compile(r"#\s*([A-Za-z]+)\s*=\s*(\S+)\s*")
_HEREDOC = re.compile(r"<<(-?)(?:\"([^\"\s]+)\"|'([^'\s]+)'|([A-Za-z_][\w.-]*))")
_FLAG = re.compile(r"--([a-z][a-z-]*)(?:=(\S*))?(?:\s+|$)")


class DockerfileError(ValueError):
    """Text that is no Dockerfile; says the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Heredoc:
    """Text given in the instruction itself. ``quoted``: its delimiter was, so nothing in it is expanded."""

    name: str
    text: str
    quoted: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction. ``rest`` is what follows keyword and flags on its (joined) line; ``source`` is that line whole."""

    keyword: str
    rest: str
    source: str
    flags: Mapping[str, str] = field(default_factory=dict)
    heredocs: Sequence[Heredoc] = ()

    def words(self) -> tuple[str, ...] | None:
        """Return the words of the JSON form, ``None`` if it is not that form."""
        if not self.rest.startswith("["):
            return None
        try:
            words = json.loads(self.rest)
        except json.JSONDecodeError:
            return None
        return tuple(words) if isinstance(words, list) and all(isinstance(word, str) for word in words) else None


def parse(commands: Sequence[str]) -> tuple[Instruction, ...]:
    """Read the instructions. ``DockerfileError`` for an unknown one, an empty one, or a heredoc without end."""
    lines = "\n".join(commands).split("\n")
    found: list[Instruction] = []
    escape = _escape_of(lines)
    number = 0
    while number < len(lines):
        text, following = _logical_line(lines, number, escape)
        if text.strip():
            instruction, following = _instruction(text.strip(), lines, number, following)
            found.append(instruction)
        number = following
    return tuple(found)


def _escape_of(lines: Sequence[str]) -> str:
    """Return the character that continues a line: the backslash, unless a directive at the top says the backtick."""
    for line in lines:
        match = _DIRECTIVE.fullmatch(line.strip())
        if match is None:
            break
        if match[1].lower() == "escape" and match[2] in ("\\", "`"):
            return match[2]
    return "\\"


def _logical_line(lines: Sequence[str], number: int, escape: str) -> tuple[str, int]:
    """Join a line with those that continue it, comments and blank lines among them left out; return the next line's number."""
    joined = ""
    while number < len(lines):
        line = lines[number].rstrip()
        number += 1
        if line.lstrip().startswith("#") or (joined and not line):
            if joined:
                continue
            return "", number
        if not line.endswith(escape):
            return joined + line, number
        joined += line[: -len(escape)]
    return joined, number


def _instruction(text: str, lines: Sequence[str], number: int, following: int) -> tuple[Instruction, int]:
    word, _, rest = text.partition(" ")
    keyword = word.upper()
    if keyword not in KEYWORDS:
        raise DockerfileError(f"Dockerfile line {number + 1}: unknown instruction: {word!r}")
    flags, rest = _flags(rest.strip())
    if not rest:
        raise DockerfileError(f"Dockerfile line {number + 1}: {keyword} needs at least one argument")
    heredocs: list[Heredoc] = []
    if keyword in _FILES:
        for match in _HEREDOC.finditer(rest):
            heredoc, following = _heredoc(match, lines, number, following)
            heredocs.append(heredoc)
    return Instruction(keyword=keyword, rest=rest, source=text, flags=flags, heredocs=tuple(heredocs)), following


def _flags(rest: str) -> tuple[dict[str, str], str]:
    flags: dict[str, str] = {}
    while match := _FLAG.match(rest):
        flags[match[1]] = match[2] if match[2] is not None else "true"
        rest = rest[match.end() :]
    return flags, rest


def _heredoc(match: re.Match[str], lines: Sequence[str], number: int, following: int) -> tuple[Heredoc, int]:
    quoted = match[2] or match[3]
    name = quoted or match[4]
    body: list[str] = []
    while following < len(lines):
        line = lines[following].lstrip("\t") if match[1] else lines[following]
        following += 1
        if line == name:
            return Heredoc(name, "".join(f"{one}\n" for one in body), bool(quoted)), following
        body.append(line)
    raise DockerfileError(f"Dockerfile line {number + 1}: the heredoc {name!r} has no end")


# -- variables

_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[A-Za-z_]\w*)(?::(?P<how>[-+])(?P<word>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))")


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Return ``text`` with its variables replaced and its quotes taken off. A backslash keeps a ``$``.

    Single quotes do not, as they do in Docker: ``Image.env`` of modal 1.6.4 puts each value in them, and
    ``.env({"PATH": "/root/.local/bin:$PATH"})`` works on Modal (many public programs, November 2026).
    """
    return "".join(_pieces(text, variables))


def split_expanded(text: str, variables: Mapping[str, str]) -> list[str]:
    """Return the words of ``text``, each expanded; blanks inside quotes do not split."""
    words: list[str] = []
    begun = False
    for piece in _pieces(text, variables, split=True):
        if piece is _BREAK:
            begun = False
        elif begun:
            words[-1] += piece
        else:
            words.append(piece)
            begun = True
    return words


def filled(text: str, variables: Mapping[str, str]) -> str:
    """Return a heredoc's text with its variables replaced; quotes are but characters there, and a backslash keeps a ``$``."""
    return "$".join(_VARIABLE.sub(lambda match: _value(match, variables), part) for part in text.split("\\$"))


_BREAK = "\0break"


def _pieces(text: str, variables: Mapping[str, str], *, split: bool = False) -> list[str]:
    found: list[str] = []
    quote = ""
    index = 0
    while index < len(text):
        character = text[index]
        match = _VARIABLE.match(text, index) if character == "$" else None
        if match is not None:
            found.append(_value(match, variables))
            index = match.end()
            continue
        if character == "\\" and quote != "'" and index + 1 < len(text):
            keeps = quote == '"' and text[index + 1] not in '"$\\'
            found.append(text[index : index + 2] if keeps else text[index + 1])
            index += 2
            continue
        if character in "\"'" and quote in ("", character):
            quote = "" if quote else character
            found.append("")  # an empty word is one, too
        elif split and not quote and character in " \t":
            found.append(_BREAK)
        else:
            found.append(character)
        index += 1
    return found


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    value = variables.get(match["braced"] or match["plain"], "")
    if match["how"] == "-":
        return value or expanded(match["word"], variables)
    if match["how"] == "+":
        return expanded(match["word"], variables) if value else ""
    return value
