"""What the executor has to say about a task, kept on the scheduler's host beside the task's own log.

Airflow's log reader shows every file whose name starts with the task's log name, so a line written here appears in the
task's log wherever the API server shares the scheduler's log folder. In: lines from ``launch``. Out: files.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

log = logging.getLogger(__name__)

SUFFIX = ".modalflow.log"
"""Appended to the task's log path; the same name is used on the log Volume."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """Appends JSON lines below ``folder``. The modes are those Airflow uses for its own log files."""

    folder: Path
    folder_mode: int = 0o775
    file_mode: int = 0o664

    def __call__(self, log_path: str, line: str) -> None:
        """Append ``line`` to the journal of the task whose log is ``log_path`` (relative to the log root).

        Never raises: a full disk must not cost a launch. What could not be written is in the scheduler's own log.
        """
        try:
            self._append(self.path(log_path), line)
        except (OSError, ValueError) as error:
            log.warning("modalflow: could not write to the journal of %r: %s", log_path, error)

    def path(self, log_path: str) -> Path:
        """File for ``log_path``. Raises ``ValueError`` if that would be outside the log folder, symbolic links included."""
        relative = PurePosixPath(log_path)
        if relative.is_absolute() or ".." in relative.parts or not relative.name:
            raise ValueError(f"expected a log path relative to {self.folder} without '..', got {log_path!r}")
        found = self.folder / relative.parent / (relative.name.removesuffix(SUFFIX) + SUFFIX)
        if not found.resolve().is_relative_to(self.folder.resolve()):
            raise ValueError(f"{log_path!r} leads out of {self.folder} by a symbolic link")
        return found

    def _append(self, path: Path, line: str) -> None:
        self._make_folder(path.parent)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self.file_mode)
        with os.fdopen(descriptor, "ab") as file:
            file.write(line.rstrip("\n").encode() + b"\n")

    def _make_folder(self, folder: Path) -> None:
        missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        for parent in reversed(missing):
            parent.mkdir(exist_ok=True)
            parent.chmod(self.folder_mode)  # mkdir's own mode is cut by the umask, Airflow's folders are not
