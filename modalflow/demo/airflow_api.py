"""The few calls of Airflow's public REST API that the demo makes, as a user's script would make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx


class AirflowApi:
    """A logged-in client. Times out at 60 s a call: two cores start many sandboxes at once; raises ``httpx.HTTPError``."""

    def __init__(self, base_url: str, password_file: Path) -> None:
        self._client = httpx.Client(base_url=base_url, timeout=60.0, trust_env=False)
        self._password_file = password_file

    def close(self) -> None:
        """Release the connections."""
        self._client.close()

    def healthy(self) -> bool:
        """Whether the API server answers and scheduler, triggerer and DAG processor have reported to the database."""
        try:
            answer = self._client.get("/api/v2/monitor/health")
        except httpx.TransportError:
            return False
        if answer.status_code != httpx.codes.OK:
            return False
        parts = answer.json()
        return all(parts[name]["status"] == "healthy" for name in ("metadatabase", "scheduler", "triggerer", "dag_processor"))

    def warm_up(self) -> None:
        """Have the execution API build its versions now: the first call costs seconds, and tasks wait for no more than five."""
        self._client.get("/execution/health").raise_for_status()

    def log_in(self) -> None:
        """Exchange the generated admin password for a token."""
        password = json.loads(self._password_file.read_text())["admin"]
        answer = self._client.post("/auth/token", json={"username": "admin", "password": password})
        answer.raise_for_status()
        self._client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def _get(self, path: str, **params: Any) -> Any:
        answer = self._client.get(f"/api/v2{path}", params=params)
        answer.raise_for_status()
        return answer.json()

    def dag_ids(self) -> set[str]:
        """The DAGs that have been parsed."""
        return {dag["dag_id"] for dag in self._get("/dags", limit=100)["dags"]}

    def import_errors(self) -> dict[str, str]:
        """File name to the text of its import error."""
        return {Path(error["filename"]).name: error["stack_trace"] for error in self._get("/importErrors")["import_errors"]}

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run now, with ``conf`` as its params; returns its run id."""
        answer = self._client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None, "conf": conf or {}})
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """``queued``, ``running``, ``success`` or ``failed``."""
        return str(self._get(f"/dags/{dag_id}/dagRuns/{run_id}")["state"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run, mapped ones included."""
        return list(self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", limit=100)["task_instances"])

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int, map_index: int = -1) -> str:
        """A try's log as the UI would show it, one line an event with its fields; nothing if there was no such try."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        try:
            content = self._get(path, map_index=map_index, full_content=True)["content"]
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
            return ""
        return "\n".join(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in content)
