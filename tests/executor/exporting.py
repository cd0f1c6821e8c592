"""A scheduler's process as far as metrics and traces go: Airflow's own start, one launch, Airflow's own exporters.

Run as ``python -m tests.executor.exporting`` with ``AIRFLOW__*``, ``OTEL_*`` and the emulator's variables set. Out: what is sent
to the addresses named there, and a line for each event on stdout.
"""

from __future__ import annotations

import time

import airflow.settings
from opentelemetry import trace

from modalflow.executor import ModalExecutor
from tests.executor.recording import execute_task

SECONDS = 60.0
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
"""Of the task, as its DAG run has it."""


def main() -> None:
    """Launch a task whose sandbox finds no execution API, and wait for its end."""
    airflow.settings.initialize()  # type: ignore[no-untyped-call]
    executor = ModalExecutor()
    executor.start()
    workload = execute_task(executor_config={"modal": {"gpu": "A10G"}})
    workload.ti.context_carrier = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    executor.queue_workload(workload, session=None)  # type: ignore[arg-type]
    end = time.monotonic() + SECONDS
    while "failed" not in {str(state) for state, _ in executor.event_buffer.values()} and time.monotonic() < end:
        executor.heartbeat()
        time.sleep(0.02)
    for state, told in executor.get_event_buffer().values():
        print(state, told, flush=True)
    executor.end()
    trace.get_tracer_provider().shutdown()  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
