"""When an App ends: when it is stopped, when the client of an ephemeral one leaves or falls silent.

Flows in: heartbeats, departures, stops. Flows out: stopped Apps and terminated sandboxes. ``services.apps`` is in front of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from modalflow.emulator.clock import Clock, Timer
from modalflow.emulator.machines.sandboxes import Sandboxes
from modalflow.emulator.state.apps import App
from modalflow.emulator.state.store import Sandbox, Workspace

SILENT_SECONDS = 60.0
"""An ephemeral App ends when its client was silent for so long: four heartbeats of modal 1.6.4, which sends one each 15 s.
Modal's own bound is not published."""


class AppLives:
    """The Apps of one emulator that may end by themselves."""

    def __init__(self, *, clock: Clock, sandboxes: Sandboxes, changed: Callable[[Workspace, App], None]) -> None:
        self._clock = clock
        self._sandboxes = sandboxes
        self._changed = changed
        self._alarms: dict[str, Timer] = {}
        self._departing: set[asyncio.Task[None]] = set()

    def heard(self, workspace: Workspace, app: App) -> None:
        """Take note that the App's client lives."""
        self._forget(app)
        if app.needs_heartbeats:
            when = self._clock.monotonic() + SILENT_SECONDS
            self._alarms[app.app_id] = self._clock.call_at(when, lambda: self.left(workspace, app))

    def recall(self, workspace: Workspace) -> None:
        """Watch over Apps of an earlier emulator: their clients may still be there."""
        for app in workspace.apps.values():
            if app.phase == "detached_disconnected":
                self.left(workspace, app)
            self.heard(workspace, app)

    def left(self, workspace: Workspace, app: App) -> None:
        """End an App whose client has gone. A detached one goes on as long as any of its sandboxes, a deployed one for ever."""
        self._forget(app)
        if app.stopped_at is not None or app.phase == "deployed":
            return
        running = running_sandboxes(workspace, app)
        if app.phase in ("detached", "detached_disconnected") and running:
            if app.phase == "detached":
                app.phase = "detached_disconnected"
                task = asyncio.create_task(self._after(workspace, app), name=f"detached app {app.app_id}")
                self._departing.add(task)
                task.add_done_callback(self._departing.discard)
                self._changed(workspace, app)
        else:
            self.stop(workspace, app)

    async def _after(self, workspace: Workspace, app: App) -> None:
        while running := running_sandboxes(workspace, app):
            await self._sandboxes.machine(running[0]).finished.wait()
        self.stop(workspace, app)

    def stop(self, workspace: Workspace, app: App, *, by: str = "") -> None:
        """Stop an App: its sandboxes are terminated, its unnamed objects forgotten, its name is free. Once is enough."""
        self._forget(app)
        if app.stopped_at is not None:
            return
        app.stopped_at = self._clock.time()
        app.stopped_by = by
        for sandbox in running_sandboxes(workspace, app):
            self._sandboxes.terminate(self._sandboxes.machine(sandbox))
        for secret in [one for one in workspace.secrets.values() if one.app_id == app.app_id]:
            del workspace.secrets[secret.secret_id]
        for volume in [one for one in workspace.volumes.values() if one.app_id == app.app_id]:
            del workspace.volumes[volume.volume_id]
        self._changed(workspace, app)

    def _forget(self, app: App) -> None:
        alarm = self._alarms.pop(app.app_id, None)
        if alarm is not None:
            alarm.cancel()

    async def close(self) -> None:
        """Wait for nobody any more; the Apps stay as they are."""
        for alarm in self._alarms.values():
            alarm.cancel()
        self._alarms.clear()
        for task in self._departing:
            task.cancel()
        if self._departing:
            await asyncio.wait(self._departing)


def running_sandboxes(workspace: Workspace, app: App) -> list[Sandbox]:
    """Return the App's sandboxes that have not ended."""
    return [one for one in workspace.sandboxes.values() if one.app_id == app.app_id and one.result is None]
