"""Chaos: many tasks through the real executor while processes die and Modal misbehaves, judged by a ledger."""
