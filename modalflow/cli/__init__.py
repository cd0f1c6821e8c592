"""The `modalflow` command."""
