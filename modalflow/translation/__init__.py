"""What a task asked for, as a launch plan. Pure: no I/O, no Airflow, no Modal, no YAML, no asyncio."""
