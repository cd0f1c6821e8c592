"""Waits until something listens on a TCP port of the machine or network namespace that it runs in.

``tcp_probe_script.py PORT INTERVAL_MS``: run inside the container, so that it knocks at the sandbox's own loopback. Exits with 0
at the first connection. Standard library only; it is copied to where a container sees it.
"""

import socket
import sys
import time


def listens(port: int) -> bool:
    """Whether a connection is accepted, by either kind of address."""
    for host in ("127.0.0.1", "::1"):
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            continue
        return True
    return False


def main() -> None:
    """Knock until it is answered."""
    port, interval_ms = map(int, sys.argv[1:])
    while not listens(port):
        time.sleep(interval_ms / 1000)


if __name__ == "__main__":
    main()
