"""What images are made of: ``python_version``, ``match_providers``, ``apt_packages``, ``requirements``, ``images``.

In: the values of these options, and what ``image = auto`` is without them. Out: ``ImagePlan`` for ``auto`` and for each
``auto:NAME``, or ``RecipeError``, which names option, line, value and what to write. All is read once, when the options
are: a plan has the content of its requirements, so that other content is another image. Next: ``settings``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from modalflow.requirement_lines import RecipeError, Requirements, check_fit, read_requirements
from modalflow.translation.images import AUTO, is_reference
from modalflow.translation.plan import ImagePlan

PROVIDERS = "apache-airflow-providers-"
OLDEST = (3, 10)
"""Python that Airflow 3.3 needs at least."""

_PYTHON = re.compile(r"3\.\d{1,2}(?:\.\d{1,2})?", re.ASCII)
_APT = re.compile(r"[a-z0-9][a-z0-9+.-]+(?::[a-z0-9]+)?(?:=[A-Za-z0-9.+:~-]+)?", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", re.ASCII)
_SECRET = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)

_KEYS = (
    "base",
    "dockerfile",
    "context",
    "registry_secret",
    "python_version",
    "match_providers",
    "apt_packages",
    "requirements",
    "build_secrets",
)


def auto_recipe(values: Mapping[str, object], auto: ImagePlan) -> ImagePlan:
    """Return ``auto`` with what the options of the same names say. Raises ``RecipeError``."""
    return _with(auto, values, "", auto.packages)


def named_recipes(entries: Mapping[str, object], auto: ImagePlan, plain: ImagePlan) -> dict[str, ImagePlan]:
    """Return the plan of each entry of ``images``.

    ``auto`` is as the options make it, ``plain`` as it is without them: where an entry says ``match_providers``, that is of all
    that the scheduler has. Raises ``RecipeError``.
    """
    found = {}
    for name, entry in entries.items():
        where = f"images.{name}"
        if not _NAME.fullmatch(name):
            raise RecipeError(f"images: expected a name of letters, digits, '_', '.' and '-', got {name!r}")
        if not isinstance(entry, dict):
            raise RecipeError(f'{where}: expected an object such as {{"requirements": ["pandas==2.3.3"]}}, got {_kind(entry)}')
        for key in entry:
            if key not in _KEYS:
                raise RecipeError(f"{where}.{key}: unknown key; an image has {', '.join(_KEYS)}")
        base = _base(entry, where)
        plan = replace(auto if base is None else base, name=f"{AUTO}:{name}")
        found[name] = _with(plan, entry, f"{where}.", plain.packages)
    return found


def _base(entry: Mapping[str, object], where: str) -> ImagePlan | None:
    """Return what an entry with a base of its own stands on, ``None`` if that is ``auto``."""
    dockerfile, base = _text(entry, "dockerfile", where), _text(entry, "base", where)
    secret, context = _text(entry, "registry_secret", where), _text(entry, "context", where)
    if dockerfile is not None and base is not None:
        raise RecipeError(f"{where}: base and dockerfile exclude each other; a Dockerfile's FROM is its base")
    if context is not None and dockerfile is None:
        raise RecipeError(f"{where}.context: is the folder of a Dockerfile's COPY, and there is no dockerfile")
    if secret is not None and not _SECRET.fullmatch(secret):
        raise RecipeError(f"{where}.registry_secret: expected the name of a Modal Secret, got {secret!r}")
    if dockerfile is not None:
        return _of_dockerfile(dockerfile, context, secret, where)
    if base is None or base == AUTO:
        if secret is not None:
            raise RecipeError(f"{where}.registry_secret: the image comes from no registry; name its base or dockerfile")
        return None
    if not is_reference(base):
        raise RecipeError(f'{where}.base: {base!r} is no image reference; write e.g. "ghcr.io/me/train:1.2"')
    return ImagePlan(reference=base, registry_secret=secret)


def _of_dockerfile(dockerfile: str, context: str | None, secret: str | None, where: str) -> ImagePlan:
    folder = context or str(Path(dockerfile).parent)
    for key, path, there in (("dockerfile", dockerfile, Path(dockerfile).is_file()), ("context", folder, Path(folder).is_dir())):
        if not path.startswith("/"):
            raise RecipeError(f"{where}.{key}: expected an absolute path on the scheduler's host, got {path!r}")
        if not there:
            raise RecipeError(f"{where}.{key}: there is no {'file' if key == 'dockerfile' else 'folder'} {path}")
    return ImagePlan(reference=None, dockerfile=dockerfile, context=folder, registry_secret=secret)


def _with(plan: ImagePlan, values: Mapping[str, object], where: str, airflow: tuple[str, ...]) -> ImagePlan:
    """Lay ``values`` on ``plan``; ``airflow`` are the distributions that ``match_providers`` asks for."""
    if (version := values.get("python_version")) is not None:
        plan = replace(plan, python_version=_python(version, f"{where}python_version"))
    if (match := values.get("match_providers")) is not None:
        plan = replace(plan, packages=_matched(match, plan, f"{where}match_providers", airflow))
    if (names := values.get("apt_packages")) is not None:
        plan = replace(plan, apt_packages=_words(names, f"{where}apt_packages", _APT, "a Debian package such as libpq-dev"))
    if (names := values.get("build_secrets")) is not None:
        plan = replace(plan, build_secrets=_words(names, f"{where}build_secrets", _SECRET, "the name of a Modal Secret"))
    if (lines := values.get("requirements")) is not None:
        read = read_requirements(lines, f"{where}requirements")
        plan = replace(plan, requirements=read.lines, pip_options=read.options)
    check_fit(Requirements(lines=plan.requirements), plan.packages, f"{where}requirements")
    return plan


def _matched(match: object, plan: ImagePlan, where: str, airflow: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(match, bool):
        raise RecipeError(f"{where}: expected true or false, got {_kind(match)}")
    if match:
        return airflow
    if plan.has_base_of_its_own:
        return ()
    return tuple(package for package in airflow if not package.startswith(PROVIDERS))


def _python(value: object, where: str) -> str:
    if not isinstance(value, str) or not _PYTHON.fullmatch(value):
        raise RecipeError(f'{where}: expected a version of Python as text, such as "3.12", got {value!r}')
    if tuple(int(part) for part in value.split(".")[:2]) < OLDEST:
        raise RecipeError(f"{where}: Airflow 3.3 needs Python 3.10 or later, got {value!r}")
    return value


def _words(value: object, where: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise RecipeError(f"{where}: expected a list, got {_kind(value)}")
    for index, word in enumerate(value):
        if not isinstance(word, str) or not pattern.fullmatch(word):
            raise RecipeError(f"{where}[{index}]: expected {what}, got {word!r}")
    return tuple(value)


def _text(entry: Mapping[str, object], key: str, where: str) -> str | None:
    value = entry.get(key)
    if value is not None and (not isinstance(value, str) or not value):
        raise RecipeError(f"{where}.{key}: expected text, got {_kind(value) if value != '' else 'an empty one'}")
    return value


def _kind(value: object) -> str:
    return type(value).__name__
