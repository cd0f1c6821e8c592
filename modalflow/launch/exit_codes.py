"""The exit codes of a sandbox's program (``modalflow.worker``); a test holds the two lists equal.

``outcomes`` puts them into words, ``failures`` into classes.
"""

from __future__ import annotations

EXIT_REPORTED = 0
"""The supervisor told Airflow the task's state, whatever it was."""
EXIT_CRASHED = 1
EXIT_WORKLOAD_UNREADABLE = 64
EXIT_NO_WORKLOAD = 65
EXIT_AIRFLOW_UNUSABLE = 66
EXIT_START_REFUSED = 67
EXIT_API_UNREACHABLE = 68
EXIT_NOT_SET_UP = 69
EXIT_ROOT = 70
EXIT_COMMAND_FAILED = 71
EXIT_NOT_CLONED = 72
EXIT_CALLBACK_FAILED = 73
EXIT_NOT_FOUND = 127
EXIT_KILLED = 137
EXIT_SIGTERM = 143
