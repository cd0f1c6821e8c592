"""What `modalflow demo` runs."""
