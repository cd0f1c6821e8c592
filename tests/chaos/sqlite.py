"""How a run's processes connect to SQLite: ``[database] sql_alchemy_connect_args`` names ``CONNECT``."""

CONNECT = {"timeout": 60}
"""Seconds to wait for the one writer. With Python's default of 5 a busy machine has Airflow's execution API give up ("database is
locked") and, in 3.3.2, write ``failed`` in the place of the state that the task reported."""
