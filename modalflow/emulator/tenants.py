"""Workspaces of one emulator, handled from the thread of a test: looked at, given a stock, ended.

Flows in: a token id. Flows out: plain records, and an emulator that has forgotten the workspace. ``EmulatorThread`` is
``Tenanted``; ``modalflow.testing`` gives each test a workspace by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modalflow.emulator.driving import Driven
from modalflow.emulator.introspection import SandboxRecord, records_of
from modalflow.emulator.state.conditions import Weather


class Tenanted(Driven):
    """The methods. Not from the emulator's own loop."""

    def sandbox_records(self, token_id: str) -> list[SandboxRecord]:
        """Return every sandbox that was created in that workspace, the oldest first."""
        core = self._engine.core
        return self._do(lambda: records_of(core, core.store.workspace(token_id)))

    def named_secrets(self, token_id: str) -> dict[str, dict[str, str]]:
        """Return the named Secrets of a workspace with their values."""
        store = self._engine.core.store
        return self._do(lambda: {one.name: dict(one.values) for one in store.workspace(token_id).secrets.values() if one.name})

    def stock_gpus(self, token_id: str, gpus: Mapping[str, int] | None) -> None:
        """Put GPUs into that workspace's stock in the place of what is there; ``None``: unlimited.

        ``ConditionsError`` for an unknown type; ``RuntimeError`` if a GPU was asked for already.
        """
        core = self._engine.core
        workspace = core.store.workspace(token_id)

        def put() -> None:
            if any(sandbox.definition.resources.gpu_config.count for sandbox in workspace.sandboxes.values()):
                raise RuntimeError("the GPUs in stock cannot change once a sandbox has asked for one")
            workspace.inventory.weather = Weather(replace(core.weather.now, gpus=gpus))

        self._do(put)

    def accept_token(self, token_id: str, token_secret: str, *, workspace: str) -> None:
        """Accept a further token of the workspace that is called by this token's id, until the emulator restarts."""
        authority = self._engine.core.authority
        self._do(lambda: authority.accept(token_id, token_secret, workspace))

    def revoke_token(self, token_id: str) -> None:
        """Refuse this token from now on, as Modal does one that was deleted; until the emulator restarts."""
        authority = self._engine.core.authority
        self._do(lambda: authority.revoke(token_id))

    def end_workspace(self, token_id: str) -> None:
        """Terminate all that runs in a workspace, return when it is cleaned up, and forget the workspace."""
        self._await(lambda: self._ended(token_id))

    async def _ended(self, token_id: str) -> None:
        core = self._engine.core
        workspace = core.store.workspaces.get(token_id)
        if workspace is None:
            return
        machines = [core.sandboxes.machine(sandbox) for sandbox in workspace.sandboxes.values()]
        for machine in machines:
            core.sandboxes.terminate(machine)
        for machine in machines:
            await machine.finished.wait()
        core.sandboxes.forget(workspace)
        del core.store.workspaces[token_id]
        core.recorder.forget(token_id)
