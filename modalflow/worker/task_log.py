"""The task's log in the sandbox: one file, and its copy on stdout.

Part of the sandbox's program, see ``bootstrap``. Flows in: what the program has to say, and the file that Airflow's supervisor
appends to. Flows out: JSON lines in that file, all of it on stdout, trouble on stderr.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

LOG_FOLDER = "AIRFLOW__LOGGING__BASE_LOG_FOLDER"
COPY_BYTES = 256 * 1024


class Log:
    """The task's log file: what the bootstrap itself has to say goes there, and all of it is copied to stdout.

    Lines said before the file is known are kept and written once it is; they are on stderr at once, in readable form, and
    so are later ones that tell of trouble.
    ``secret`` is cut out of every line. ``copied`` says whether there is a copy. It is byte for byte: Airflow merges the
    lines of several sources and drops what is equal, and its own second logger for stdout gives the lines of ``print``
    another timestamp (3.3.2).
    """

    def __init__(self) -> None:
        self.path: str | None = None
        self.secret = ""
        self.copied = True
        self._kept: list[str] = []
        self._start = 0
        self._file: Any = None

    def say(self, level: str, text: str) -> None:
        """Write one line at ``level`` (error, warning, info)."""
        if self.secret:
            text = text.replace(self.secret, "***")
        if level != "info" or self.path is None:
            print(f"modalflow: {text}", file=sys.stderr, flush=True)
        now = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"
        self._kept.append(json.dumps({"timestamp": stamp, "level": level, "event": text, "logger": "modalflow"}))
        self._write()

    def goes_to(self, path: str) -> None:
        """Name the task's log file, absolute. What is there already is not copied."""
        if self.path is not None:  # another user may not write the first one
            self.copy()
            self._file, self._start = None, 0
        self.path = path
        with contextlib.suppress(FileNotFoundError):
            self._start = os.stat(path).st_size
        self._write()

    def places(self) -> list[str]:
        """Return the log file and its folders, up to the log folder: what another user needs to go on with it."""
        found = [] if self.path is None else [self.path]
        top = os.environ.get(LOG_FOLDER) or ""
        while found and found[-1] != top and len(found[-1]) > len(top):
            found.append(os.path.dirname(found[-1]))
        return [path for path in found if os.path.exists(path)]

    def copy(self) -> None:
        """Copy to stdout what was appended since the last time. Lines are whole: this process alone writes the file.

        Never raises, for it is called within Airflow's supervisor: if stdout is gone, the file is enough.
        """
        if not self.copied or self.path is None:
            return
        try:
            if self._file is None:
                self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - open to the end of the program
                self._file.seek(self._start)
            while part := self._file.read(COPY_BYTES):
                sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()
        except FileNotFoundError:
            return  # nothing was logged yet
        except (OSError, ValueError) as error:
            self.copied = False
            if self._file is not None:
                self._file.close()
            self.say("warning", f"the log is no longer copied to stdout ({error})")

    def commit(self) -> None:
        """Have the log Volume show what is there, while the sandbox runs on.

        Of a Volume of version 2 Modal commits what ``sync`` is called for, all the rest when the sandbox ends (its guide, 2026;
        not tried on Modal itself).
        """
        with contextlib.suppress(OSError):  # a folder that cannot be synced is no Volume
            folder = os.open(os.environ.get(LOG_FOLDER) or os.path.dirname(self.path or ""), os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _write(self) -> None:
        if self.path is None or not self._kept:
            return
        try:
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write("".join(line + "\n" for line in self._kept))
        except OSError as error:
            print(f"modalflow: cannot write {self.path}: {error.strerror}", file=sys.stderr, flush=True)
        self._kept = []
