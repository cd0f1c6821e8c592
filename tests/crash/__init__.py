"""A scheduler is killed at a chosen instant; whoever comes after it brings every task to its end, once."""
