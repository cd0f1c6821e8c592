"""Programs of ours that run inside containers, put where every one of them sees them.

Flows in: a folder of the emulator. Flows out: ``/__modal/.bin`` in containers, with the tool that the client's
``Sandbox.filesystem`` runs by exec (``filesystem_script``), the TCP readiness probe and the packer of snapshots: wrappers that
use the emulator's own interpreter, or any ``python3`` where that is not to be seen.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

TOOL_FOLDER = "/__modal/.bin"
"""Where the client looks for its tool (modal 1.6.4, ``sandbox/_filesystem.py``)."""
TCP_PROBE = f"{TOOL_FOLDER}/modalflow-tcp-probe"

ARCHIVE = f"{TOOL_FOLDER}/modalflow-archive"
OUTBOX = "/__modal/outbox"
"""Where a container puts its archives for us; a folder of its own."""

_SCRIPTS = {
    "modal-sandbox-fs-tools": "filesystem_script.py",
    "modalflow-tcp-probe": "tcp_probe_script.py",
    "modalflow-archive": "archive_script.py",
}
_WRAPPER = """#!/bin/sh
python={python}
[ -x "$python" ] || python=python3
exec "$python" -I -S "${{0%/*}}/{script}" "$@"
"""


def install(folder: Path) -> None:
    """Write the tools into ``folder``, which containers then show read-only at ``TOOL_FOLDER``."""
    folder.mkdir(exist_ok=True)
    for name, script in _SCRIPTS.items():
        shutil.copyfile(Path(__file__).with_name(script), folder / script)
        wrapper = folder / name
        wrapper.write_text(_WRAPPER.format(python=shlex.quote(sys.executable), script=script))
        wrapper.chmod(0o755)
