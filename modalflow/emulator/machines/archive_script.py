"""Packs a folder of the container that it runs in into an archive: how a directory becomes a snapshot, mounts included.

``archive_script.py FOLDER TARGET EXCLUDED…``: absolute paths. Exits with 2 and a word on stderr if ``FOLDER`` is none.
Standard library only; it is copied to where a container sees it. ``snapshots`` reads what it wrote, and trusts none of it.
"""

import os
import sys
import tarfile
from typing import Any


class Archive(tarfile.TarFile):
    """Leaves out what goes while it is being packed: other processes of the container run on."""

    def add(self, name: Any, *args: Any, **kwargs: Any) -> None:
        """Add a path, and what is below it by the same method."""
        try:
            super().add(name, *args, **kwargs)
        except FileNotFoundError:
            return


def main() -> None:
    """Pack it."""
    folder, target, *excluded = sys.argv[1:]
    real = os.path.realpath(folder)
    if not os.path.isdir(real):
        sys.stderr.write("not a directory" if os.path.exists(real) else "no such directory")
        raise SystemExit(2)
    left_out = {os.path.realpath(path) for path in [target, *excluded]}

    def wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
        return None if os.path.normpath(os.path.join(real, info.name)) in left_out else info

    with Archive.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        archive.add(real, arcname=".", filter=wanted)


if __name__ == "__main__":
    main()
