"""Output that is kept: by offset, by line, and only so much of it."""

from __future__ import annotations

import asyncio

import pytest

from modalflow.emulator.machines import output
from modalflow.emulator.machines.output import STDERR, STDOUT, EndedOutputs, Output, Stream


async def everything(stream: Stream, offset: int = 0) -> bytes:
    return b"".join([chunk.data async for chunk in stream.read(offset)])


def test_a_read_starts_at_its_offset_and_ends_with_the_stream() -> None:
    async def scenario() -> None:
        stream = Stream()
        reader = asyncio.ensure_future(everything(stream, 3))
        await asyncio.sleep(0)
        for data in (b"ab", b"cd", b"ef"):
            stream.write(data)
            await asyncio.sleep(0)
        stream.end()
        assert await reader == b"def"
        assert await everything(stream) == b"abcdef"
        assert await everything(stream, 6) == b""
        assert await everything(stream, 60) == b""

    asyncio.run(scenario())


def test_only_the_most_recent_part_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "RETAINED_BYTES", 10)

    async def scenario() -> None:
        stream = Stream()
        for number in range(10):
            stream.write(b"%d" % number * 4)
        stream.end()
        chunks = [chunk async for chunk in stream.read(0)]
        assert [(chunk.offset, chunk.data) for chunk in chunks] == [(28, b"7777"), (32, b"8888"), (36, b"9999")]

    asyncio.run(scenario())


def test_lines_are_put_together_over_chunks_and_in_order_of_arrival() -> None:
    kept = Output()
    kept.streams[STDOUT].write(b"one\ntw")
    kept.streams[STDERR].write(b"err\n")
    kept.streams[STDOUT].write("o ä".encode()[:-1])
    kept.streams[STDOUT].write("ä".encode()[1:] + b"\nlast")
    assert [(line.fd, line.text) for line in kept.lines()] == [(1, "one\n"), (2, "err\n"), (1, "two ä\n"), (1, "last")]
    assert [line.text for line in kept.lines((STDERR,))] == ["err\n"]


def test_bytes_that_are_no_text_are_replaced() -> None:
    kept = Output()
    kept.streams[STDOUT].write(b"a\xffb\n\xc3")
    assert [line.text for line in kept.lines()] == ["a\ufffdb\n", "\ufffd"]


def test_of_ended_processes_the_oldest_output_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "ENDED_BYTES", 10)
    ended = EndedOutputs()
    outputs = [Output() for _ in range(4)]
    for one, data in zip(outputs, (b"1234", b"5678", b"", b"9abc"), strict=True):
        if data:
            one.streams[STDOUT].write(data)
        one.end()
        ended.keep(one)
    assert [one.kept for one in outputs] == [0, 4, 0, 4]
    ended.forget(outputs[1])
    ended.forget(outputs[1])
    large = Output()
    large.streams[STDERR].write(b"x" * 20)
    ended.keep(large)
    assert [one.kept for one in (*outputs, large)] == [0, 4, 0, 0, 20], "the newest stays, whatever its size"
