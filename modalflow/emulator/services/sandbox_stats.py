"""What a sandbox has used, and would have cost at Modal's public prices."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from google.protobuf.timestamp_pb2 import Timestamp
from grpclib import Status
from modal_proto import api_pb2

from modalflow.emulator.machines.machine import Machine
from modalflow.emulator.services.sandbox_calls import find
from modalflow.emulator.state.capacity import DEFAULT_MEMORY_MB, DEFAULT_MILLI_CPU
from modalflow.emulator.state.prices import RATES
from modalflow.emulator.wire import Call, Service, fail, partial, unary

_GIB = 1024**3
_PERCENTILES = (5000, 9000, 9900)
"""In hundredths of a per cent, as Modal's client documents them for ``Sandbox._experimental_stats`` (1.6.4)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Consumption:
    """Of one sandbox: seconds that it ran, cores and GiB on average (``None``: not counted) and at most, and as billed."""

    seconds: float
    cores: float | None
    gib: float | None
    gib_peak: float | None
    billed_cores: float
    billed_gib: float
    gpu: str
    gpus: int

    def cost(self) -> dict[str, Decimal]:
        """Return US dollars by resource."""
        amounts = {"CPU": self.billed_cores, "Memory": self.billed_gib}
        if self.gpus and self.gpu in RATES:
            amounts[self.gpu] = self.gpus
        return {name: RATES[name] * Decimal(str(amount)) * Decimal(str(self.seconds)) for name, amount in amounts.items()}


class SandboxStats(Service):
    """SandboxGetStats, SandboxGetResourceUsage."""

    @partial("no samples are kept: CPU is the average of the whole life, memory what it is now and was at most")
    @unary
    async def SandboxGetStats(self, request: api_pb2.SandboxGetStatsRequest, call: Call) -> api_pb2.SandboxGetStatsResponse:
        """Tell usage and cost within a time range, by default from creation until now."""
        sandbox = find(call.workspace, request.sandbox_id)
        now = self.core.clock.time()
        since = request.since.ToNanoseconds() / 1e9 if request.HasField("since") else sandbox.created_at
        until = request.until.ToNanoseconds() / 1e9 if request.HasField("until") else now
        if since >= until:
            fail(Status.INVALID_ARGUMENT, "`since` must be before `until`")
        used = _consumption(self.core.sandboxes.machine(sandbox), since, until, now)
        reply = api_pb2.SandboxGetStatsResponse(
            duration_hours=used.seconds / 3600,
            billed_cpu_core_seconds=used.billed_cores * used.seconds,
            billed_memory_gib_seconds=used.billed_gib * used.seconds,
            since=_timestamp(since),
            until=_timestamp(until),
        )
        if used.seconds:
            cost = used.cost()
            reply.cost = format(sum(cost.values()), "f")
            reply.cost_by_resource.update({name: format(amount, "f") for name, amount in cost.items()})
        if used.seconds and used.cores is not None and used.gib is not None and used.gib_peak is not None:
            reply.percentile_stats["CPU Usage (cores)"].CopyFrom(_distribution("cores", [used.cores] * 3))
            reply.percentile_stats["Memory Usage (GiB)"].CopyFrom(_distribution("GiB", [used.gib, used.gib_peak, used.gib_peak]))
        return reply

    SandboxGetStatsV2 = SandboxGetStats

    @unary
    async def SandboxGetResourceUsage(
        self, request: api_pb2.SandboxGetResourceUsageRequest, call: Call
    ) -> api_pb2.SandboxGetResourceUsageResponse:
        """Tell what is billed of a sandbox's whole life so far: the greater of what it asked for and what it used."""
        sandbox = find(call.workspace, request.sandbox_id)
        now = self.core.clock.time()
        used = _consumption(self.core.sandboxes.machine(sandbox), 0.0, now, now)
        nanoseconds = used.seconds * 1e9
        return api_pb2.SandboxGetResourceUsageResponse(
            cpu_core_nanosecs=int(used.billed_cores * nanoseconds),
            mem_gib_nanosecs=int(used.billed_gib * nanoseconds),
            gpu_nanosecs=int(used.gpus * nanoseconds),
            gpu_type=used.gpu,
        )


def _consumption(machine: Machine, since: float, until: float, now: float) -> Consumption:
    sandbox, resources = machine.sandbox, machine.definition.resources
    end = sandbox.finished_at or now
    whole = max(0.0, end - sandbox.started_at) if sandbox.started_at else 0.0
    seconds = max(0.0, min(end, until) - max(sandbox.started_at, since)) if sandbox.started_at else 0.0
    usage = machine.usage()
    cores = usage.cpu_ns / 1e9 / whole if usage and whole else None
    gib = usage.memory_bytes / _GIB if usage else None
    return Consumption(
        seconds=seconds,
        cores=cores,
        gib=gib,
        gib_peak=usage.memory_peak_bytes / _GIB if usage else None,
        billed_cores=max((resources.milli_cpu or DEFAULT_MILLI_CPU) / 1000, cores or 0.0),
        billed_gib=max((resources.memory_mb or DEFAULT_MEMORY_MB) / 1024, gib or 0.0),
        gpu=machine.gpu.type if machine.gpu else "",
        gpus=machine.gpu.count if machine.gpu else 0,
    )


def _distribution(unit: str, values: list[float]) -> api_pb2.StatsPercentileDistribution:
    return api_pb2.StatsPercentileDistribution(
        unit=unit,
        percentiles=[
            api_pb2.StatsPercentile(percentile_basis_points=point, value=value)
            for point, value in zip(_PERCENTILES, values, strict=True)
        ],
    )


def _timestamp(seconds: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(int(seconds * 1e9))
    return stamp
