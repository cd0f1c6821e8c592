"""From a launch plan to a running sandbox and its end: one asyncio loop in one thread. Knows nothing of Airflow.

``watchdog`` holds ``backend``, which owns a ``driver`` for each launch, which does what the pure ``lifecycle`` asks for through
``gateway``. The other modules by subject: docs/explanation/architecture.md, "Launching".
"""
