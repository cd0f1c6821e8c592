#!/usr/bin/env python3
"""What stands in for uv in image builds on a machine that has none: ``uv pip install`` is done by the interpreter's own pip.

Flows in: uv's arguments as ``modal.Image.uv_pip_install`` writes them. Flows out: a pip command that replaces this process.
Copied into images as a program; standard library only.
"""

import os
import sys

_TAKE_VALUE = ("--python", "-p", "--prerelease")
_DROPPED = ("--system", "--compile-bytecode", "--no-cache", "--strict", "--quiet")


def pip_arguments(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the interpreter and pip's arguments for what follows ``uv pip``."""
    python, found = "python", []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _TAKE_VALUE:
            value = value if equals else next(rest, "")
            if name == "--prerelease":
                found += ["--pre"] if value == "allow" else []
            else:
                python = value
        elif name == "--requirements":
            found += ["--requirement", value if equals else next(rest, "")]
        elif argument not in _DROPPED:
            found.append(argument)
    return python, found


def main() -> None:
    """Become pip, or say what uv would be needed for."""
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        sys.stdout.write("uv (pip plays it: this machine has no uv)\n")
        return
    if arguments[:1] != ["pip"] or arguments[1:2] not in (["install"], ["uninstall"], ["freeze"], ["list"], ["show"]):
        sys.exit(f"uv {arguments[0] if arguments else ''}: this machine has no uv, and pip plays 'uv pip' only; install uv here")
    python, rest = pip_arguments(arguments[1:])
    os.execvp(python, [python, "-m", "pip", *rest])  # noqa: S606


if __name__ == "__main__":
    main()
