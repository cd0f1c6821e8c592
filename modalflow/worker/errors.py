"""How a sandbox's program ends, by its exit codes, and the exceptions that carry them."""

from __future__ import annotations

EXIT_REPORTED = 0
"""The supervisor has told Airflow how the task ended, whatever the end was."""
EXIT_CRASHED = 1
"""Anything not foreseen; a traceback is on stderr."""
EXIT_WORKLOAD_UNREADABLE = 64
EXIT_NO_WORKLOAD = 65
"""Nothing came on stdin within the hand-over timeout."""
EXIT_AIRFLOW_UNUSABLE = 66
"""Airflow cannot be imported here, or is another minor version than the scheduler's."""
EXIT_START_REFUSED = 67
"""Airflow's API did not let the task start: it runs elsewhere, was cleared or removed, or the token is too old."""
EXIT_API_UNREACHABLE = 68
EXIT_SIGTERM = 143
"""Ended by SIGTERM before the task ran; while it runs, Airflow's supervisor forwards the signal to it."""
EXIT_NOT_SET_UP = 69
"""The files, variables or folders that the task's pod asked for cannot be made."""
EXIT_ROOT = 70
"""The pod says runAsNonRoot, and the task would be root."""

EXIT_COMMAND_FAILED = 71
"""A command that the task's pod has run before it failed: an init container, or postStart."""

EXIT_NOT_CLONED = 72
"""A git repository that the task's pod asks for cannot be cloned."""

EXIT_CALLBACK_FAILED = 73
"""The callback of a deadline ran and failed. Airflow's supervisor of callbacks reports nothing: this code is the report."""


class SetUpError(Exception):
    """What the pod asked for cannot be set up; the text is one readable sentence without a value."""

    def __init__(self, text: str, code: int = EXIT_NOT_SET_UP) -> None:
        super().__init__(text)
        self.code = code


class Failure(Exception):
    """The workload cannot be run; ``code`` is the exit code, the text one readable sentence."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
