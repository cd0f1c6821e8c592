"""The record of what clients asked for."""

from __future__ import annotations

import modal

from modalflow.emulator import EmulatorThread
from modalflow.emulator.introspection import sandbox_records
from tests.emulator.conftest import Sandboxes


def test_a_record_says_what_was_asked_for(sandboxes: Sandboxes, emulator: EmulatorThread) -> None:
    image = modal.Image.from_registry("ghcr.io/me/image:1").env({"A": "1"})
    sandboxes.output("true", image=image, gpu="A10G", cpu=(0.5, 2), memory=512, name="gpu", tags={"a": "b"})
    sandbox = sandboxes.create("cat", timeout=30)
    gpu, cpu = sandbox_records(emulator)
    assert (gpu.backend, gpu.gpu, gpu.milli_cpu, gpu.milli_cpu_max, gpu.memory_mb) == ("V1", "A10G:1", 500, 2000, 512)
    assert (gpu.image, gpu.name, gpu.tags, gpu.ended) == ("ghcr.io/me/image:1", "gpu", {"a": "b"}, True)
    assert (cpu.backend, cpu.gpu, cpu.timeout, cpu.ended) == ("V2", None, 30, False)
    assert cpu.sandbox_id == sandbox.object_id
