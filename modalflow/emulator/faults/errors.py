"""What is said of a rule that cannot be."""

from __future__ import annotations

from modalflow.emulator.plain_data import DataError


class FaultError(DataError):
    """A rule that cannot be; the text names the key, the value and what to write."""
