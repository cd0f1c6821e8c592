"""Metrics and traces as they leave the scheduler: StatsD's datagrams on a socket, OTLP's spans at a collector.

The scheduler is a process of its own, with Airflow's own settings and exporters; tracing is set up once per process.
"""

from __future__ import annotations

import http.server
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from modalflow.emulator import EmulatorThread
from tests.executor.exporting import PARENT, TRACE
from tests.executor.test_on_emulator import CLOSED

pytestmark = pytest.mark.emulated


@dataclass
class Collector:
    """What was received: StatsD's lines, and OTLP's requests with their paths."""

    statsd: socket.socket
    server: http.server.ThreadingHTTPServer
    posts: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a site sets: ``docs/how-to/observe.md``."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self.statsd.getsockname()[1]),
            "AIRFLOW__TRACES__OTEL_ON": "True",
            "OTEL_TRACES_EXPORTER": "otlp_proto_http",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_address[1]}",
        }

    def lines(self) -> list[str]:
        """The datagrams that are there now; all of them, once the sender has ended."""
        self.statsd.setblocking(False)
        found: list[str] = []
        while True:
            try:
                found += self.statsd.recv(65536).decode().splitlines()
            except BlockingIOError:
                return found


@pytest.fixture
def collector() -> Iterator[Collector]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.posts.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the server's
            pass

    statsd = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    statsd.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**20)
    statsd.bind(("127.0.0.1", 0))
    with statsd, http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        kept = Collector(statsd=statsd, server=server)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


def test_a_launch_is_told_to_statsd_and_to_an_opentelemetry_collector(
    modal_emulator: EmulatorThread, collector: Collector, tmp_path: Path
) -> None:
    own = {
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": CLOSED,
        "AIRFLOW__WORKERS__EXECUTION_API_RETRIES": "1",
        "AIRFLOW_CONN_MODAL": "modal://",  # found before the database is asked, which has no tables
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path / "logs"),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.executor.exporting"],
        env={**os.environ, **own, **collector.environment},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "the sandbox could not reach Airflow's execution API (exit code 68)" in done.stdout

    received = {re.sub(r":[-0-9.]+\|", "|", line) for line in collector.lines()}
    assert {
        "airflow.modal_executor.launches|c",
        "airflow.modal_executor.launch.phase|ms",
        "airflow.modal_executor.launch.start|ms",
        "airflow.modal_executor.launches.ended|c",
        "airflow.modal_executor.failures|c",
        "airflow.modal_executor.in_flight|g",
        "airflow.modal_executor.cost_micro_usd|c",
    } <= received

    assert {path for path, _ in collector.posts} == {"/v1/traces"}
    requests = [ExportTraceServiceRequest.FromString(body) for _, body in collector.posts]
    spans = [
        span
        for request in requests
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    ours = {span.name: span for span in spans if span.name.startswith("modal.")}
    assert {"modal.launch", "modal.launching", "modal.sandbox"} <= set(ours)
    assert {span.trace_id.hex() for span in ours.values()} == {TRACE}
    assert {ours[name].parent_span_id.hex() for name in ("modal.launch", "modal.sandbox")} == {PARENT}
    assert ours["modal.launching"].parent_span_id == ours["modal.launch"].span_id
    told = {one.key: one.value.string_value for one in ours["modal.sandbox"].attributes}
    assert told["modal.outcome"] != "success"
    assert told["modal.gpu"] == "A10G"
    assert not {"the-token-of-queueing" in str(span) for span in spans} - {False}
