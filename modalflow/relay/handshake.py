"""The first line of each connection that comes by the relay: who calls, proved; and the line that answers it. Pure.

In: bytes of a stranger. Out: the pass that it has, or nothing. A task's sandbox sends ``modalflow1 VERB ID NONCE MAC``, where
MAC is made with the secret of its pass, which itself never travels; it is answered ``ok MAC`` by who knows that secret too, so
a false relay is told apart before it sees a request. ``worker/relay.py`` is the other side.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

LONGEST_HELLO = 320
"""Bytes of the line, its end included."""
PASS_LIFE = 90_000
"""Seconds that a pass is good for: the longest life of a sandbox on Modal, 24 h, and an hour for what comes before and after."""
_HELLO = re.compile(rb"modalflow1 (http|relays) ([A-Za-z0-9-]{1,64}\.[0-9]{1,12}) ([0-9a-f]{32}) ([0-9a-f]{64})\r?\n", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """A proved caller: what it wants (``http``, ``relays``), its launch, and the line that it is answered."""

    verb: str
    launch_id: str
    answer: bytes


def pass_id(launch_id: str, now: float) -> str:
    """Name of the pass of a launch, issued ``now`` (seconds since the epoch): it says until when it is good."""
    return f"{launch_id}.{int(now) + PASS_LIFE}"


def check(line: bytes, key_of: Callable[[str], bytes], now: float) -> Caller | None:
    """Return who calls, or ``None`` for anything but a good hello with a pass that has not run out."""
    parts = _HELLO.fullmatch(line) if len(line) <= LONGEST_HELLO else None
    if parts is None:
        return None
    verb, name, nonce, mac = (part.decode() for part in parts.groups())
    launch_id, _, until = name.rpartition(".")
    key = key_of(name)
    if not hmac.compare_digest(proof(key, "hello", verb, name, nonce), mac) or now >= int(until):
        return None
    return Caller(verb=verb, launch_id=launch_id, answer=f"ok {proof(key, 'answer', nonce)}\n".encode())


def proof(key: bytes, *said: str) -> str:
    """Hexadecimal MAC of what is said."""
    return hmac.new(key, "|".join(said).encode(), sha256).hexdigest()
