"""Tells a running sandbox where relays are now: a program of its own, run beside the task when its relay was lost.

modalflow runs it (``telling_source``) as ``python -c`` by an exec, with addresses as arguments, which are no secret. Flows out:
the file that ``relay`` looks at.
"""

from __future__ import annotations

import os
import sys

RELAYS_PLACE = "/tmp/modalflow-relays"  # noqa: S108 - addresses only; a false relay cannot prove itself


def main() -> None:
    """Write the addresses, so that a reader sees all of them or none."""
    place = (os.environ.get("MODAL_EMULATOR_ROOT") or "") + RELAYS_PLACE
    os.makedirs(os.path.dirname(place), exist_ok=True)
    new = f"{place}.{os.getpid()}"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w", encoding="ascii") as file:
        file.write("\n".join(sys.argv[1:]) + "\n")
    os.replace(new, place)


if __name__ == "__main__":
    main()
