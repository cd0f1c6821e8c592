"""What goes wrong while a sandbox is set up, and with which exit code it then ends."""

from __future__ import annotations

EXIT_NOT_SET_UP = 69
"""The files, variables or folders that the task's pod asked for cannot be made."""
EXIT_ROOT = 70
"""The pod says runAsNonRoot, and the task would be root."""

EXIT_COMMAND_FAILED = 71
"""A command that the task's pod has run before it failed: an init container, or postStart."""

EXIT_NOT_CLONED = 72
"""A git repository that the task's pod asks for cannot be cloned."""


class SetUpError(Exception):
    """What the pod asked for cannot be set up; the text is one readable sentence without a value."""

    def __init__(self, text: str, code: int = EXIT_NOT_SET_UP) -> None:
        super().__init__(text)
        self.code = code
