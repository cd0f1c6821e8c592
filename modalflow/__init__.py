"""modalflow: an Airflow executor that runs every task on Modal.

Nothing is imported here: Airflow loads this package in every one of its processes.
The rooms, in the order data flows through them: ``translation`` (what a task asked for -> a launch plan),
``launch`` (plan -> a running sandbox and its end), ``executor`` (Airflow's side), ``worker`` (inside the sandbox).
"""

__version__ = "0.4.0.dev0"
