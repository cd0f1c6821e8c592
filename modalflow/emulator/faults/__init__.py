"""Latency and faults, put between the sockets and the handlers. Handlers know nothing of them.

Flows in: rules from a test, a YAML file or the control endpoint. Flows out: delays, errors, lost replies and cut connections
around the handlers of both gRPC services and of the block store. ``rules`` says what a fault is, ``matching`` whether a request
is meant, ``board`` which rules are in force, ``effects`` and ``http_effects`` do it, ``documents`` reads them from plain data.
"""

from __future__ import annotations

from modalflow.emulator.faults.board import Faults
from modalflow.emulator.faults.errors import FaultError
from modalflow.emulator.faults.rules import Fault

__all__ = ["Fault", "FaultError", "Faults"]
