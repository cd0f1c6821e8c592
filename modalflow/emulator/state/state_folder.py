"""The folder that ``--state-dir`` names: one SQLite file of records, one emulator at a time, readable by its owner only.

Flows in: rows (family, id, part) of bytes, written in one transaction a change. Flows out: the same rows at the next start.
What they mean is the matter of ``families``; ``persistence`` stands between the two. SQLite's write-ahead log
(sqlite.org/wal.html, read November 2026) keeps every committed change when the process is killed; a power cut may cost the last
moments, never the rest.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

FORMAT = 2
"""Of the rows. Another number is refused, so whoever changes what an old version would misread counts it up."""
_APPLICATION = 0x6D666C77
"""Marks a SQLite file as ours (``PRAGMA application_id``): "mflw"."""
FILE = "state.sqlite3"
_TABLE = """
CREATE TABLE records (
  workspace TEXT NOT NULL, family TEXT NOT NULL, id TEXT NOT NULL, part TEXT NOT NULL, place INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (workspace, family, id, part)
) WITHOUT ROWID
"""


class StateError(OSError):
    """The state folder cannot be used, or not be written; the text names the file, what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """``part`` is empty for a record itself. ``place`` orders the records of a family, as their dict does in memory."""

    workspace: str
    family: str
    id: str
    part: str
    place: int
    data: bytes


class StateFolder:
    """An open state folder. Its methods belong to the thread that opened it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / FILE
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None

    # -- opening

    def open(self) -> None:
        """Take the folder, made if it is not there. ``StateError`` if another emulator has it, or what is in it is not ours."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise StateError(
                f"state_dir: {str(self.folder)!r} is no folder and none can be made there: {error.strerror}; use another"
            ) from error
        _make_private(self.folder, 0o700)
        self._take_lock()
        try:
            self._database = self._opened()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        # SQLite's own lock would not say who holds it. The kernel lets go of this one however its holder ends.
        try:
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(f"state_dir: {str(self.folder)!r} cannot be written: {error.strerror}; use another") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(fd)
            raise StateError(
                f"state_dir: {str(self.folder)!r} is in use by another emulator (process {holder}); stop it, or use another"
            ) from error
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        self._lock = fd

    def _opened(self) -> sqlite3.Connection:
        older = next(self.folder.glob("workspace-*.json"), None)
        if older is not None:
            raise StateError(f"state_dir: {str(older)!r} was written by an older version in another format; use a new folder")
        if self.file.is_symlink():
            raise StateError(f"state_dir: {str(self.file)!r} is a symbolic link; put the file itself there, or use a new folder")
        with contextlib.suppress(FileExistsError):  # SQLite would make it with the usual mask
            os.close(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        _make_private(self.file, 0o600)
        database = sqlite3.connect(self.file, isolation_level=None)
        try:
            self._check(database)
        except sqlite3.DatabaseError as error:
            database.close()
            raise StateError(
                f"state_dir: {str(self.file)!r} is damaged or no state of an emulator ({' '.join(str(error).split())}); "
                "it is left as it is: put a copy of it back, or use a new folder"
            ) from error
        except BaseException:
            database.close()
            raise
        return database

    def _check(self, database: sqlite3.Connection) -> None:
        """Find a file of ours and of this format, or make a new one of an empty file."""
        [tables] = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        [application] = database.execute("PRAGMA application_id").fetchone()
        [version] = database.execute("PRAGMA user_version").fetchone()
        if tables and application != _APPLICATION:
            raise sqlite3.DatabaseError("another program's database")
        if tables and version != FORMAT:
            raise StateError(
                f"state_dir: {str(self.file)!r} was written by another version (format {version}, expected {FORMAT}); "
                "use that version, or a new folder"
            )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        if not tables:
            with _transaction(database):
                database.execute(_TABLE)
                database.execute(f"PRAGMA application_id = {_APPLICATION}")
                database.execute(f"PRAGMA user_version = {FORMAT}")
        [verdict] = database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)

    def close(self) -> None:
        """Let the folder go. No effect if it is not open."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # -- rows

    @property
    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise RuntimeError("the state folder is not open")
        return self._database

    def rows(self, family: str) -> Iterator[Row]:
        """All rows of a family: records first, in the order in which they were first kept, then their parts by key."""
        found = self._open_database.execute(
            "SELECT workspace, family, id, part, place, data FROM records WHERE family = ? "
            "ORDER BY part != '', CASE part WHEN '' THEN place END, workspace, id, part",
            (family,),
        )
        for workspace, name, record_id, part, place, data in found:
            yield Row(workspace=workspace, family=name, id=record_id, part=part, place=place, data=data)

    def last_place(self) -> int:
        """The highest ``place`` in use, 0 if there is none."""
        return int(self._open_database.execute("SELECT coalesce(max(place), 0) FROM records").fetchone()[0])

    @contextlib.contextmanager
    def change(self) -> Iterator[Change]:
        """All of what is done to the ``Change``, or nothing. ``StateError`` if it cannot be written."""
        try:
            with _transaction(self._open_database):
                yield Change(self._open_database)
        except sqlite3.Error as error:
            raise StateError(f"state_dir: {str(self.file)!r} could not be written: {error}") from error


@dataclass(frozen=True, slots=True)
class Change:
    """A transaction under way."""

    _database: sqlite3.Connection

    def put(self, rows: Iterable[Row]) -> None:
        """Add or replace rows. A row that is there keeps its place."""
        self._database.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET data = excluded.data",
            ((row.workspace, row.family, row.id, row.part, row.place, row.data) for row in rows),
        )

    def drop(self, workspace: str, family: str, record_id: str) -> None:
        """Remove a record and all its parts."""
        self._database.execute(
            "DELETE FROM records WHERE workspace = ? AND family = ? AND id = ?", (workspace, family, record_id)
        )

    def drop_parts(self, workspace: str, family: str, record_id: str, parts: Iterable[str]) -> None:
        """Remove those parts of a record."""
        self._database.executemany(
            "DELETE FROM records WHERE workspace = ? AND family = ? AND id = ? AND part = ?",
            ((workspace, family, record_id, part) for part in parts),
        )

    def ids(self, workspace: str, family: str) -> set[str]:
        """Ids of the records of that family that are kept for a workspace."""
        found = self._database.execute(
            "SELECT id FROM records WHERE workspace = ? AND family = ? AND part = ''", (workspace, family)
        )
        return {record_id for (record_id,) in found}


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _make_private(path: Path, mode: int) -> None:
    """Give a path of ours that mode; ``StateError`` for one that belongs to somebody else."""
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise StateError(
            f"state_dir: {str(path)!r} belongs to user {status.st_uid}, not to you ({os.geteuid()}); use a folder of yours"
        )
    if status.st_mode & 0o777 != mode:
        path.chmod(mode)
