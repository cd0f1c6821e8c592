"""Imported by a DAG, from the bundle's root."""

GREETING = "the module as it was"
