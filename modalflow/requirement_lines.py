"""``requirements``: the lines of a pip requirements file, checked before anything is built.

In: a path, a text of lines or a list of them. Out: ``Requirements``, or ``RecipeError``. The syntax is pip's (pip.pypa.io,
"Requirements File Format", 2026-07); what an image could not honour is refused. Next: ``image_recipes``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

DEEPEST = 8
"""Files that include each other by ``-r``, one below the other."""

_AIRFLOW = "apache-airflow"
_SPELLINGS = {"-i": "--index-url", "-f": "--find-links", "-r": "--requirement", "-c": "--constraint", "-e": "--editable"}
_WITH_TEXT = frozenset({"--index-url", "--extra-index-url", "--find-links", "--no-binary", "--only-binary"})
_FLAGS = {"--pre": "--prerelease allow", "--no-index": "--no-index"}
_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(?P<name>--?[a-z-]+)(?:(?:\s*=\s*|\s+)(?P<text>.+))?")
_VARIABLE = re.compile(r"\$\{[A-Z0-9_]+\}")
"""As pip has it."""
_PASSWORD = re.compile(r"://[^/\s@]*:(?!\$\{[A-Z0-9_]+\}@)[^/\s@]+@")


class RecipeError(ValueError):
    """An image's description that cannot be used; the text begins with the option, without its section."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """``lines`` are requirements (PEP 508), ``options`` words for ``uv pip install`` as a shell reads them."""

    lines: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def read_requirements(value: object, where: str) -> Requirements:
    """Read an absolute path, lines in one text, or a list of lines; ``where`` is the option's name. Raises ``RecipeError``."""
    if isinstance(value, str) and "\n" not in value.strip():
        text = value.strip()
        if text.startswith("/"):
            return _of_lines(_of_file(text, where, where, ()))
        if text.endswith(".txt") and not text.startswith("-"):
            raise RecipeError(f"{where}: expected the absolute path of a file, or requirements, got {text!r}")
    lines = value.splitlines() if isinstance(value, str) else value
    if not isinstance(lines, Sequence) or not all(isinstance(line, str) for line in lines):
        raise RecipeError(f"{where}: expected a path, or lines such as pandas==2.3.3, got {type(value).__name__}")
    return _of_lines(_numbered(lines, where, None, ()))


def _of_file(path: str, where: str, asked: str, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if path in above or len(above) >= DEEPEST:
        raise RecipeError(f"{asked}: {path} includes itself, or lies more than {DEEPEST} files deep")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise RecipeError(f"{asked}: cannot read {path}: {why}") from error
    yield from _numbered(text.splitlines(), f"{where}: {path}", path, (*above, path))


def _numbered(lines: Sequence[str], where: str, file: str | None, above: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each logical line with its place, included files in the place of their ``-r``."""
    begun, first = "", 0
    for number, raw in enumerate([*lines, ""], 1):
        line = _COMMENT.sub("", raw)
        first = first if begun else number
        if line.endswith("\\"):
            begun += line[:-1]
            continue
        whole, begun = (begun + line).strip(), ""
        if not whole:
            continue
        place = f"{where}:{first}" if file else f"{where}[{first - 1}]"
        name, text = _option(whole)
        if name != "--requirement":
            yield place, whole
        elif file is None:
            raise RecipeError(f"{place}: {whole!r}: only a file can include another; give its absolute path as the option")
        else:
            yield from _of_file(str(Path(file).parent / text), where.partition(":")[0], place, above)


def _of_lines(lines: Iterator[tuple[str, str]]) -> Requirements:
    requirements: dict[str, None] = {}
    options: dict[str, None] = {}
    for place, line in lines:
        if _PASSWORD.search(line):
            raise RecipeError(
                f"{place}: the address holds a password, which would be part of the image; write ${{NAME}} in its place and name "
                "the Modal Secret that has NAME in build_secrets"
            )
        if line.startswith("-"):
            options[_checked_option(line, place)] = None
        else:
            requirements[_checked(line, place)] = None
    return Requirements(lines=tuple(sorted(requirements)), options=tuple(options))


def _option(line: str) -> tuple[str, str]:
    match = _OPTION.fullmatch(line)
    if match is None:
        return "", ""
    return _SPELLINGS.get(match["name"], match["name"]), (match["text"] or "").strip()


def _checked_option(line: str, place: str) -> str:
    name, text = _option(line)
    if name in _FLAGS and not text:
        return _FLAGS[name]
    if name not in _WITH_TEXT or not text:
        known = ", ".join((*_FLAGS, *sorted(_WITH_TEXT)))
        raise RecipeError(f"{place}: {line!r}: this option cannot be honoured in an image; known are {known}, and -r in a file")
    if re.search(r'["`\\$]|\s', _VARIABLE.sub("", text)):
        raise RecipeError(f"{place}: {line!r}: expected one word without quotes; ${{NAME}} is a variable of build_secrets")
    return f'{name} "{text}"'


def _checked(line: str, place: str) -> str:
    if re.search(r"\s--hash[=\s]", line):
        raise RecipeError(f"{place}: hashes cannot be honoured in an image beside the scheduler's Airflow; remove --hash")
    try:
        requirement = Requirement(line)
    except InvalidRequirement as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise RecipeError(f"{place}: {line!r} is no requirement ({why}); write e.g. pandas==2.3.3") from error
    if requirement.url is not None and not re.match(r"(?:git\+)?https?://", requirement.url):
        raise RecipeError(f"{place}: {line!r}: expected an http(s) address; Modal does not see this host's files")
    return str(requirement)


def check_fit(requirements: Requirements, packages: Sequence[str], where: str) -> None:
    """Refuse a requirement on Airflow that the scheduler's own versions (``name==version``) do not meet."""
    have = dict(package.split("==", 1) for package in packages)
    core = have.get(f"{_AIRFLOW}-core")
    if core is not None:
        have.setdefault(_AIRFLOW, core)
    for line in requirements.lines:
        requirement = Requirement(line)
        version = have.get(canonicalize_name(requirement.name))
        if version is None or requirement.specifier.contains(version, prereleases=True):
            continue
        raise RecipeError(
            f"{where}: {line!r} does not fit the scheduler, which has {requirement.name} {version}; remove it, since the image "
            "gets exactly the scheduler's, or install that version beside the scheduler too"
        )
