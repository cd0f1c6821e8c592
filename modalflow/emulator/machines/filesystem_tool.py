"""The tool that the client's ``Sandbox.filesystem`` runs by exec, put where every container sees it.

Flows in: a folder of the emulator. Flows out: ``/__modal/.bin/modal-sandbox-fs-tools`` in containers, a wrapper that runs
``filesystem_script`` with the emulator's own interpreter, or any ``python3`` where that is not to be seen.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

TOOL_FOLDER = "/__modal/.bin"
"""Where the client looks for it (modal 1.6.4, ``sandbox/_filesystem.py``)."""

_NAME = "modal-sandbox-fs-tools"
_SCRIPT = "filesystem_script.py"
_WRAPPER = """#!/bin/sh
python={python}
[ -x "$python" ] || python=python3
exec "$python" -I -S "${{0%/*}}/{script}" "$@"
"""


def install(folder: Path) -> None:
    """Write the tool into ``folder``, which containers then show read-only at ``TOOL_FOLDER``."""
    folder.mkdir(exist_ok=True)
    shutil.copyfile(Path(__file__).with_name(_SCRIPT), folder / _SCRIPT)
    wrapper = folder / _NAME
    wrapper.write_text(_WRAPPER.format(python=shlex.quote(sys.executable), script=_SCRIPT))
    wrapper.chmod(0o755)
