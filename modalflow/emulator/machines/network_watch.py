"""Waits until an emulator is gone (its end of a pipe closes), then becomes the program that removes its networks.

Run as ``python -I -S network_watch.py PROGRAM ARGUMENTS``, one per emulator, by ``network_namespaces``, which kills it when
there is nothing left to be removed. Standard library only, and little of it: all the while it does nothing else.
"""

import os
import signal
import sys


def main() -> None:
    """Wait for the end of standard input, then run the program in this one's place."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # they are for the emulator, whose end is waited for
        signal.signal(number, signal.SIG_IGN)
    while os.read(0, 4096):
        pass
    os.execv(sys.executable, [sys.executable, "-I", *sys.argv[1:]])  # noqa: S606 -- what it was started to do


if __name__ == "__main__":
    main()
