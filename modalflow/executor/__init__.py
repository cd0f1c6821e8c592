"""Airflow's side: the executor class, kept light because every Airflow process imports it."""
