"""The other target: a task as a call of a deployed Function."""
