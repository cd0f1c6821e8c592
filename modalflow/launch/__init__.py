"""From a launch plan to a running sandbox and its end: one asyncio loop in one thread. Knows nothing of Airflow."""
