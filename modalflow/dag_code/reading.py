"""Looks at a bundle's folder and says what a copy of it holds, reading only what changed since the last look.

Flows in: a folder, and who knows what ``.airflowignore`` means. Flows out: a ``Look``, for ``copies``. All of it blocks: one
thread at a time uses a ``FolderReader``. What is hashed and what is sent are the same bytes: ``block`` compares first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from modalflow.dag_code.manifest import (
    BLOCK_SIZE,
    MIB,
    CodeFile,
    Manifest,
    amount,
    block_content,
    block_count,
    block_hash,
    manifest_of,
)
from modalflow.dag_code.requirements import FILE as REQUIREMENTS
from modalflow.dag_code.tree import (
    IGNORE_FILE,
    MOST_FILES,
    FolderChangedError,
    Found,
    Signature,
    Tree,
    is_inside,
    signature_of,
    unreadable,
    walk,
)
from modalflow.launch.gateway import DagCodeError

FRESH_NS = 2_000_000_000
"""A file changed this recently may change again without showing it (two seconds are the coarsest clock of a file system in use):
its content is read again at the next look."""
LARGEST_SHOWN = 3
LONGEST_REQUIREMENTS = 256 * 1024
"""Bytes; whatever is longer and called so is something else."""

Considered = Callable[[str], Iterable[str]]
"""A folder to the paths in it that Airflow considers, as it reads ``.airflowignore``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FolderRules:
    """What of a folder is code. ``limit`` in bytes, of all files together.

    ``ignored_modules``: Python modules that ``.airflowignore`` lists are taken along, as DAGs import them; Airflow's own
    documentation has shared modules listed there so that they are not searched for DAGs.
    """

    limit: int = 256 * MIB
    ignored_modules: bool = True
    outside_links: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """A folder at one time. ``left_out`` says in words what of it no task sees; ``requirements`` is the text of that file."""

    manifest: Manifest
    left_out: tuple[str, ...]
    found: dict[str, Found]
    root: str
    requirements: str = ""


@dataclass(frozen=True, slots=True)
class _Hashed:
    signature: Signature
    blocks: tuple[bytes, ...]


class FolderReader:
    """One folder, looked at again and again."""

    def __init__(
        self,
        folder: str,
        rules: FolderRules,
        considered: Considered | None = None,
        *,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Read nothing yet. Without ``considered``, an ``.airflowignore`` means nothing."""
        self.folder = folder
        self._rules = rules
        self._considered = considered
        self._clock_ns = clock_ns
        self._hashed: dict[str, _Hashed] = {}
        self._last: Look | None = None
        self._trusted: Tree | None = None
        """What was found when all files were old enough to be known by their signatures."""

    def look(self) -> Look:
        """Return what is there now.

        Raises ``DagCodeError`` for what cannot be brought to Modal, ``FolderChangedError`` for a folder on the move.
        """
        tree = walk(self.folder, outside_links=self._rules.outside_links)
        if self._last is not None and tree == self._trusted:
            return self._last
        ignored = self._ignored_in(tree)
        found = {path: file for path, file in tree.files.items() if path not in ignored}
        self._check(found)
        hashed = {path: self._hash_of(path, file, tree.root) for path, file in found.items()}
        manifest = manifest_of(
            CodeFile(path=path, size=file.size, executable=file.executable, blocks=hashed[path].blocks)
            for path, file in found.items()
        )
        now = self._clock_ns()
        self._hashed = {path: one for path, one in hashed.items() if not _is_fresh(one.signature, now)}
        rules = [file for path, file in tree.files.items() if _is_rules(path)]
        is_settled = len(self._hashed) == len(hashed) and not any(_is_fresh(file.signature, now) for file in rules)
        self._trusted = tree if is_settled else None
        self._last = Look(
            manifest=manifest,
            left_out=tuple(tree.left_out),
            found=found,
            root=tree.root,
            requirements=self._requirements(found.get(REQUIREMENTS), tree.root),
        )
        return self._last

    def _requirements(self, file: Found | None, root: str) -> str:
        if file is None or file.size > LONGEST_REQUIREMENTS:
            return ""
        with _opened(file, self._root_of(root)) as descriptor:
            return _read(descriptor, file.size).decode(errors="replace")

    def _hash_of(self, path: str, file: Found, root: str) -> _Hashed:
        known = self._hashed.get(path)
        if known is not None and known.signature == file.signature:
            return known
        with _opened(file, self._root_of(root)) as descriptor:
            blocks = tuple(block_hash(block) for block in _blocks(descriptor, file))
        return _Hashed(file.signature, blocks)

    def _root_of(self, root: str) -> str | None:
        """Return the folder that a file must be in, where links may not lead out of it."""
        return None if self._rules.outside_links else root

    def block(self, look: Look, file: CodeFile, index: int) -> bytes:
        """Return the content of one block as it was hashed. Raises ``FolderChangedError`` if it is not that any more."""
        with _opened(look.found[file.path], self._root_of(look.root)) as descriptor:
            os.lseek(descriptor, index * BLOCK_SIZE, os.SEEK_SET)
            block = _read(descriptor, min(BLOCK_SIZE, file.size - index * BLOCK_SIZE))
        if block_hash(block) != file.blocks[index]:
            raise FolderChangedError(f"{file.path} changed after it was hashed")
        return block_content(block)

    def _ignored_in(self, tree: Tree) -> frozenset[str]:
        """Return what is left out by ``.airflowignore``, as Airflow reads it."""
        if self._considered is None or not any(map(_is_rules, tree.files)):
            return frozenset()
        try:
            kept = {os.path.relpath(path, tree.root) for path in self._considered(tree.root)}
        except FileNotFoundError as error:
            raise FolderChangedError(str(error)) from error
        except OSError as error:
            raise unreadable(f"{tree.root}: {IGNORE_FILE}", error) from error
        except (RuntimeError, ValueError) as error:  # a loop of links, for one: Airflow finds no DAG in such a folder either
            raise DagCodeError(f"Airflow cannot read {IGNORE_FILE} in {tree.root}: {error}") from error
        modules = self._rules.ignored_modules
        return frozenset(
            path for path in tree.files if path not in kept and not _is_rules(path) and not (modules and path.endswith(".py"))
        )

    def _check(self, found: dict[str, Found]) -> None:
        if len(found) > MOST_FILES:
            raise DagCodeError(
                f"{self.folder} holds {len(found)} files, more than the {MOST_FILES} that are brought to Modal: "
                f"{_advice('have the code in the image (dag_source = image)')}"
            )
        size = sum(file.size for file in found.values())
        if size > self._rules.limit:
            largest = sorted(found.items(), key=lambda item: item[1].size, reverse=True)[:LARGEST_SHOWN]
            shown = ", ".join(f"{path} ({amount(file.size)})" for path, file in largest)
            raise DagCodeError(
                f"{self.folder} holds {amount(size)}, more than [modal_executor] dag_code_limit = {self._rules.limit // MIB} "
                f"(MiB); the largest are {shown}: {_advice('raise the limit')}"
            )


def _advice(otherwise: str) -> str:
    return f"move data out of the folder, list it in {IGNORE_FILE}, or {otherwise}"


def _is_rules(path: str) -> bool:
    return path.endswith(IGNORE_FILE) and path.rpartition("/")[2] == IGNORE_FILE


def _is_fresh(signature: Signature, now: int) -> bool:
    return now - max(signature[3], signature[4]) < FRESH_NS


@contextmanager
def _opened(file: Found, root: str | None) -> Iterator[int]:
    """Open the very file that was found; on leaving, it must not have changed. Raises ``FolderChangedError``."""
    try:
        descriptor = os.open(file.real, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise FolderChangedError(str(error)) from error
    except OSError as error:
        raise unreadable(file.real, error) from error
    try:
        _check_same(descriptor, file)
        _check_inside(descriptor, root)
        yield descriptor
        _check_same(descriptor, file)
    except OSError as error:
        raise unreadable(file.real, error) from error
    finally:
        os.close(descriptor)


def _check_same(descriptor: int, file: Found) -> None:
    if signature_of(os.fstat(descriptor)) != file.signature:
        raise FolderChangedError(f"{file.real} changed while it was read")


def _check_inside(descriptor: int, root: str | None) -> None:
    """Refuse a file that a folder replaced by a link led to, between the walk and now. Linux tells where a file is."""
    if root is None:
        return
    try:
        real = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - text in, text out
    except OSError:  # another system: the inode, compared before, has to do
        return
    if not is_inside(real, root):
        raise FolderChangedError(f"{real} is not in {root} any more")


def _blocks(descriptor: int, file: Found) -> Iterator[bytes]:
    for index in range(block_count(file.size)):
        yield _read(descriptor, min(BLOCK_SIZE, file.size - index * BLOCK_SIZE))


def _read(descriptor: int, size: int) -> bytes:
    """Read ``size`` bytes. Raises ``FolderChangedError`` if there are fewer."""
    parts = []
    while size > 0:
        part = os.read(descriptor, size)
        if not part:
            raise FolderChangedError("a file became shorter while it was read")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
