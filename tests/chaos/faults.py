"""Carries out the strikes of a plan, and keeps the record of which sandboxes they killed.

Flows in: strikes whose time has come. Flows out: signals to processes, rules and commands to the emulator, ``killed``.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from typing import Any

from tests.chaos.deployment import Deployment
from tests.chaos.plan import Strike


class Faults:
    """The strikes under way. ``killed``: sandbox id to what killed it."""

    def __init__(self, deployment: Deployment, say: Callable[[str], None]) -> None:
        self._deployment = deployment
        self._say = say
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.killed: dict[str, str] = {}

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), do))

    def strike(self, one: Strike) -> None:
        """Have a strike happen when its ``wait`` is over."""
        self.after(one.wait, lambda: self._strike(one))

    def work(self) -> None:
        """Do what is due. A fault that finds nobody to strike has struck nobody."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()

    @property
    def quiet(self) -> bool:
        """Whether nothing is to come."""
        return not self._later

    def _strike(self, one: Strike) -> None:
        try:
            told = DEEDS[one.what](self, dict(one.details))
        except (LookupError, OSError) as error:
            told = f"struck nobody: {error}"
        self._say(f"{one}{f' -> {told}' if told else ''}")

    # -- deeds

    def kill_scheduler(self, details: dict[str, Any]) -> str | None:
        if not self._deployment.kill_scheduler(details["pick"]):
            return "it was dead already"
        self.after(details["down"], self._deployment.start_schedulers)
        return None

    def kill_scheduler_amid_a_call(self, details: dict[str, Any]) -> str | None:
        """Kill it while it waits for the answers to a call: before the server did its work (``late``), or after that."""
        rule = {"method": details["method"], "times": 30, "delay": details["delay"]}
        self.rule(rule if details["late"] else {"method": details["method"], "times": 30, "after_handler": True})
        self.after(details["delay"] * 0.7, lambda: self._say(f"killed: {self.kill_scheduler(details) or 'yes'}"))
        return None

    def kill_emulator(self, details: dict[str, Any]) -> str:
        alive = self._deployment.emulator.running()
        self._deployment.emulator.kill()
        born = {str(line["sandbox"]) for line in self._deployment.ledger()}
        for sandbox_id in {*alive, *born} - self._ended():
            self.killed.setdefault(sandbox_id, "the death of the emulator")
        time.sleep(details.get("down", 0.0))
        self._deployment.emulator.start()
        return f"{len(alive)} sandboxes died with it"

    def _ended(self) -> set[str]:
        """Sandboxes whose program has told its last word."""
        return {str(line["sandbox"]) for line in self._deployment.ledger() if line["kind"] in ("told", "refused")}

    def preempt(self, details: dict[str, Any]) -> str:
        sandbox_id = self._pick(details["pick"])
        self.killed[sandbox_id] = "preemption"
        self._deployment.emulator.ask("POST", f"/sandboxes/{sandbox_id}/preempt", {"grace": details["grace"]})
        return sandbox_id

    def out_of_memory(self, details: dict[str, Any]) -> str:
        sandbox_id = self._pick(details["pick"])
        self.killed[sandbox_id] = "want of memory"
        self._deployment.emulator.ask("POST", f"/sandboxes/{sandbox_id}/end", {"status": "MEMORY_MANAGER_EVICTION"})
        return sandbox_id

    def _pick(self, place: float) -> str:
        running = self._deployment.emulator.running()
        if not running:
            raise LookupError("no sandbox runs")
        return running[int(place * len(running))]

    def rule(self, details: dict[str, Any]) -> str | None:
        self._deployment.emulator.ask("POST", "/faults", details)
        return None

    def latency(self, details: dict[str, Any]) -> str | None:
        return self.rule({"method": "*", **details})

    def rates(self, details: dict[str, Any]) -> str | None:
        rates = {name: rate for name, rate in details.items() if name != "seconds"}
        self._command("/capacity", rates)
        self.after(details["seconds"], lambda: self._command("/capacity", dict.fromkeys(rates)))
        return None

    def close_connections(self, _details: dict[str, Any]) -> str | None:
        self._command("/connections", {"do": "close"})
        return None

    def freeze(self, details: dict[str, Any]) -> str | None:
        self._command("/connections", {"do": "freeze"})
        self.after(details["seconds"], lambda: self._command("/connections", {"do": "thaw"}))
        return None

    def refuse(self, details: dict[str, Any]) -> str | None:
        self._command("/connections", {"do": "refuse"})
        self.after(details["seconds"], lambda: self._command("/connections", {"do": "accept"}))
        return None

    def _command(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._deployment.emulator.ask("POST", path, body)
        except LookupError as error:  # a new life of the emulator never heard of it
            self._say(f"{path} {body}: {error}")

    def calm(self) -> None:
        """Take every fault away, so that a run can come to its end."""
        for _, _, do in sorted(self._later):
            do()
        self._later.clear()
        self._deployment.emulator.ask("DELETE", "/faults")


DEEDS: dict[str, Callable[[Faults, dict[str, Any]], str | None]] = {
    "kill scheduler": Faults.kill_scheduler,
    "kill scheduler amid a call": Faults.kill_scheduler_amid_a_call,
    "kill emulator": Faults.kill_emulator,
    "preempt": Faults.preempt,
    "out of memory": Faults.out_of_memory,
    "lost replies": Faults.rule,
    "lost creates": Faults.rule,
    "refusals": Faults.rule,
    "rate limit": Faults.rates,
    "latency": Faults.latency,
    "connections close": Faults.close_connections,
    "freeze": Faults.freeze,
    "refuse connections": Faults.refuse,
}
