"""The DAGs of the demo."""
