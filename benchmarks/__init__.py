"""Benchmarks: each module prints a line with ours, its peer or floor, the ratio and the goal."""
