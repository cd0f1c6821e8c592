"""Throws mutated files, structures, objects and options at translation: ``python -m tests.property.fuzz --minutes 10``.

In: the corpus, and chance from a seed. Out: nothing but our own diagnostics, or the seed of the round that broke a law, with what
broke. ``--seed N --rounds 1`` runs that round again. A short run is part of the suite.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import yaml

from modalflow.cli.documents import read_files
from modalflow.cli.translating import translate_document
from modalflow.option_table import OPTIONS
from modalflow.settings import SettingsError, read_settings
from modalflow.templates import TemplateFolders
from modalflow.translation.account import Fate, account
from modalflow.translation.cache import Translator
from modalflow.translation.diagnostics import Diagnostic
from modalflow.translation.inputs import TaskContext
from modalflow.translation.keys import KEYS
from modalflow.translation.origins import Origin
from modalflow.translation.plan import SandboxPlan
from modalflow.translation.result import Translation
from modalflow.translation.translate import check_executor_config, translate

CORPUS = sorted((Path(__file__).parents[1] / "translation" / "corpus").glob("*.yaml"))
CONTEXT = TaskContext(env={"MODALFLOW_LAUNCH_ID": "x"}, tags={"dag_id": "d"})
TRANSLATION_OPTIONS = read_settings({"default_gpu": "T4"}).translation

Round = Callable[[random.Random, Path], None]


class Hostile:
    """An object that raises whatever is asked of it, of a kind that ``except Exception`` does not catch."""

    def __getattr__(self, name: str) -> NoReturn:
        raise SystemExit(name)

    def __eq__(self, other: object) -> bool:
        raise SystemExit

    def __bool__(self) -> bool:
        raise SystemExit

    def __repr__(self) -> str:
        raise SystemExit

    __hash__ = object.__hash__


class HostileDict(dict[Any, Any]):
    """A dict that cannot be read."""

    def items(self) -> NoReturn:
        raise SystemExit

    keys = values = get = __iter__ = items  # type: ignore[assignment]


class HostileText(str):
    """A text that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError

    __hash__ = str.__hash__
    __slots__ = ()


def ring() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["spec"] = [found]
    return found


def deep() -> Any:
    found: Any = 1
    for _ in range(3000):
        found = [found]
    return found


SCALARS: Sequence[Any] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**5000,
    1.5,
    -0.0,
    float("nan"),
    float("inf"),
    1e308,
    "",
    " ",
    "x",
    "\0",
    "\ud800",
    "é" * 300,
    "\u202e",
    "\u2028",
    "1Gi",
    "1e400",
    "-1",
    "0x10",
    "1E9999999",
    "9" * 4000,
    "A10G",
    "$(A)",
    "$$(A",
    "../x",
    "/",
    "a\nb",
    "true",
    b"x",
    (),
    [],
    {},
    set(),
    1j,
    object(),
    Exception,
)
MAKERS: Sequence[Callable[[], Any]] = (Hostile, lambda: HostileDict(a=1), lambda: HostileText("x"), ring, deep)
WORDS: Sequence[Any] = (
    *KEYS,
    "metadata",
    "spec",
    "containers",
    "name",
    "env",
    "volumes",
    "limits",
    "cpu",
    "a.b/c",
    "",
    "\0",
    "<<",
    "a" * 500,
    1,
    None,
    True,
)
YAML_PIECES = (
    b"&a ",
    b"*a",
    b"!!python/object:os.system ",
    b"!!binary ",
    b"!!set ",
    b"<<: *a\n",
    b"? ",
    b"[",
    b"{",
    b"}",
    b": ",
    b"- ",
    b"\n---\n",
    b"\xff\xfe",
    b"\0",
    b"\xed\xa0\x80",
    b"\t",
    b"|\n",
    b"%YAML 9.9\n",
    b"1_000",
    b"0o7",
    b".nan",
    b"2026-99-99",
    b"~",
    b"'",
    b"\xe2\x80\xa8",
)


def anything(chance: random.Random, depth: int = 3) -> Any:
    kind = chance.randrange(8)
    if depth and kind == 0:
        return [anything(chance, depth - 1) for _ in range(chance.randrange(4))]
    if depth and kind == 1:
        return {chance.choice(WORDS): anything(chance, depth - 1) for _ in range(chance.randrange(4))}
    return chance.choice(MAKERS)() if kind == 2 and chance.random() < 0.3 else chance.choice(SCALARS)


@lru_cache(maxsize=1)
def corpus_pods() -> tuple[Any, ...]:
    return tuple(yaml.safe_load(path.read_text(encoding="utf-8")) for path in CORPUS)


def spots(value: Any, depth: int = 30) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) inside plain data."""
    pairs = list(value.items()) if type(value) is dict else list(enumerate(value)) if type(value) is list else []
    for key, child in pairs:
        yield value, key
        if depth:
            yield from spots(child, depth - 1)


def mutated_pod(chance: random.Random) -> Any:
    pod = copy.deepcopy(chance.choice(corpus_pods()))
    for _ in range(chance.randrange(1, 4)):
        holder, key = chance.choice(list(spots(pod)))
        what = chance.randrange(4)
        if what == 0 and type(holder) is dict:
            holder[chance.choice(WORDS)] = anything(chance, 2)
        elif what == 1:
            holder[key] = [holder[key], holder[key]]
        else:
            holder[key] = anything(chance, 2)
    return pod


def config(chance: random.Random) -> Any:
    if chance.random() < 0.1:
        return anything(chance)
    found: dict[Any, Any] = {}
    if chance.random() < 0.7:
        found["pod_override"] = mutated_pod(chance)
    if chance.random() < 0.5:
        found["modal"] = {chance.choice(tuple(KEYS)): anything(chance, 2) for _ in range(chance.randrange(5))}
    if chance.random() < 0.2:
        found[chance.choice(("KubernetesExecutor", "pod_template_file", "modal", "x", 1))] = anything(chance)
    return found


# -- laws


def check(found: Translation) -> None:
    assert (found.plan is None) == bool(found.errors)
    check_findings(found.diagnostics)
    assert all(str(found.origins[name]) for name in found.origins)


def check_findings(findings: Sequence[Diagnostic]) -> None:
    for finding in findings:
        assert finding.origin.path, f"{finding.code} has no path"
        assert "\n" not in str(finding), f"{finding.code} has several lines"
        str(finding).encode("utf-8", "surrogatepass")


def told(found: Translation) -> tuple[object, list[str]]:
    plan = found.plan
    return repr(plan) if isinstance(plan, SandboxPlan) else plan is None, [str(finding) for finding in found.diagnostics]


def round_of_structures(chance: random.Random, folder: Path) -> None:
    """Law: translation is total, with and without the cache alike; now and then, the account is complete."""
    value, templates = config(chance), TemplateFolders([folder])
    found = translate(value, context=CONTEXT, options=TRANSLATION_OPTIONS, templates=templates)
    check(found)
    check_findings(check_executor_config(value, queue="default", options=TRANSLATION_OPTIONS, templates=templates))
    translator = Translator(TRANSLATION_OPTIONS, templates)
    for _ in range(2):
        assert told(translator(value, CONTEXT)) == told(found), "the cache answers something else"
    if chance.random() < 0.05:
        leaves = account(value, context=CONTEXT, options=TRANSLATION_OPTIONS, templates=templates)
        lost = [str(leaf.origin) for leaf in leaves if leaf.fate is Fate.UNACCOUNTED]
        assert not lost, f"unaccounted: {lost}"


def round_of_files(chance: random.Random, folder: Path) -> None:
    """Law: whatever bytes a file holds, it is read or refused with a finding; as a template too."""
    content = bytearray(chance.choice(CORPUS).read_bytes())
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(content) + 1)
        what = chance.randrange(4)
        if what == 0:
            content[at:at] = chance.choice(YAML_PIECES)
        elif what == 1:
            del content[at : at + chance.randrange(20)]
        elif what == 2:
            content[at:at] = content[at : at + chance.randrange(200)]
        elif content:
            content[at % len(content)] = chance.randrange(256)
    path = folder / "mutated.yaml"
    path.write_bytes(content)
    for document in read_files([str(path)]):
        found = translate_document(document, TRANSLATION_OPTIONS)
        check_findings(found.translation.diagnostics)
        lost = [str(leaf.origin) for leaf in found.leaves if leaf.fate is Fate.UNACCOUNTED]
        assert not lost, f"unaccounted: {lost}"
    templates = TemplateFolders([folder])
    loaded = templates.load("mutated", asked_by=Origin(layer="test", path="test"))
    if isinstance(loaded, Diagnostic):
        check_findings([loaded])
    check(translate({"modal": {"template": "mutated"}}, context=CONTEXT, options=TRANSLATION_OPTIONS, templates=templates))
    templates.config_map(str(path))


def round_of_options(chance: random.Random, _folder: Path) -> None:
    """Law: options are read, or refused with ``SettingsError``, which names the option."""
    given = {}
    for _ in range(chance.randrange(1, 4)):
        value = chance.choice(SCALARS)
        text = value if isinstance(value, str) else json.dumps(plain(anything(chance)))
        given[chance.choice([option.name for option in OPTIONS])] = text
    try:
        options = read_settings(given).translation
    except SettingsError as error:
        text = str(error)
    else:
        text = ""
    if text:
        assert "[modal_executor]" in text, text
        return
    check(
        translate({"pod_override": chance.choice(corpus_pods())}, context=CONTEXT, options=options, templates=TemplateFolders())
    )


def plain(value: Any, depth: int = 4) -> Any:
    """Return what JSON can hold of ``value``."""
    kind = type(value)
    if kind is dict:
        return {str(key): plain(child, depth - 1) for key, child in value.items()} if depth else None
    if kind is list:
        return [plain(child, depth - 1) for child in value] if depth else None
    return value if kind in {str, float, bool} or (kind is int and abs(value) < 2**70) else None


ROUNDS: Sequence[Round] = (round_of_structures, round_of_structures, round_of_files, round_of_options)


def run(seed: int, folder: Path) -> str | None:
    """Run one round, and return what broke."""
    chance = random.Random(seed)
    which = ROUNDS[seed % len(ROUNDS)]
    try:
        which(chance, folder)
    except BaseException as error:  # whatever gets out is what we look for
        if isinstance(error, KeyboardInterrupt):
            raise
        return f"{which.__name__}, seed {seed}: {traceback.format_exc(limit=-6)}"
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run rounds until the time is over, and return 1 if one broke a law."""
    parser = argparse.ArgumentParser(prog="python -m tests.property.fuzz", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=None, help="at most so many rounds")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first round; each further one has the next")
    arguments = parser.parse_args(argv)
    end, seed, broken = time.monotonic() + arguments.minutes * 60, arguments.seed, 0
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end and (arguments.rounds is None or seed < arguments.seed + arguments.rounds):
            problem = run(seed, Path(folder))
            if problem is not None:
                broken += 1
                sys.stdout.write(f"{problem}\n")
            seed += 1
    sys.stdout.write(f"{seed - arguments.seed} rounds, {broken} broke a law\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
