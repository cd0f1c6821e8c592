"""What Airflow discovers: options, commands, policy, logs."""
