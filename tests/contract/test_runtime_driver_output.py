"""The contract of runtime drivers for a first process without a terminal: separate streams, and its input."""

from __future__ import annotations

import asyncio

import pytest
from runtime_bench import Bench, shown

from isola.errors import WrongState
from isola.operations import Operation
from isola.runtimes import Attachment, Channel, Guest, RunSpec
from isola.testing.runtime import FakeRuntime

OUT, ERR = Channel.STDOUT, Channel.STDERR
TALK = ("/bin/sh", "-c", "echo out; echo err >&2; echo more; sleep 99")


def says(bench: Bench, *said: tuple[Channel, bytes]) -> None:
    """Adapts expected output to that of a real program."""
    if isinstance(bench.runtime, FakeRuntime):
        for channel, data in said:
            bench.runtime.show("one", data, channel)


async def launched(bench: Bench, spec: RunSpec) -> tuple[Guest, Attachment]:
    """Attach before the program runs, so that no output is missed."""
    attached: list[Attachment] = []

    async def held(guest: Guest) -> None:
        attached.append(await guest.attach())

    guests: list[Guest] = []

    async def work(op: Operation) -> None:
        guests.append(await bench.runtime.run(op, spec, held))

    operation = await bench.do(work)
    if operation.error is not None:
        raise operation.error
    return guests[0], attached[0]


async def read(attached: Attachment, *wanted: bytes) -> dict[Channel, bytes]:
    """Read until all of it has arrived."""
    found = {OUT: b"", ERR: b""}
    async with asyncio.timeout(60):
        while not all(any(part in said for said in found.values()) for part in wanted):
            block = await attached.read()
            assert block is not None, found
            found[block[0]] += block[1]
    return found


async def test_the_log_keeps_streams_apart(bench: Bench) -> None:
    before = bench.host.clock.now().timestamp()
    await bench.launch(bench.spec(terminal=False, system=False, command=TALK))
    says(bench, (OUT, b"out\n"), (ERR, b"err\n"), (OUT, b"more\n"))
    await shown(bench, lambda log: len(log.splitlines()) == 3)
    lines = await bench.runtime.output("one")
    assert [line.data for line in lines if line.channel is OUT] == [b"out\n", b"more\n"]
    assert [line.data for line in lines if line.channel is ERR] == [b"err\n"]
    after = bench.host.clock.now().timestamp()
    assert all(before - 1 <= line.at.timestamp() <= after + 1 for line in lines)
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert await bench.second().output("one") == lines
    bench.end("one", 0)
    await bench.runtime.remove("one")
    assert await bench.runtime.output("one") == lines
    await bench.runtime.clear_console_log("one")
    assert await bench.runtime.output("one") == () == await bench.runtime.output("never-there")


async def test_with_a_terminal_there_is_one_output(bench: Bench) -> None:
    await bench.launch(bench.spec(command=TALK))
    says(bench, (OUT, b"out\r\n"), (ERR, b"err\r\n"), (OUT, b"more\r\n"))
    await shown(bench, lambda log: len(log.splitlines()) == 3)
    assert [(line.channel, line.data) for line in await bench.runtime.output("one")] == [
        (OUT, b"out\r\n"),
        (OUT, b"err\r\n"),
        (OUT, b"more\r\n"),
    ]


async def test_attaching_before_the_start_misses_nothing(bench: Bench) -> None:
    _, attached = await launched(bench, bench.spec(terminal=False, system=False, command=TALK))
    says(bench, (OUT, b"out\n"), (ERR, b"err\n"), (OUT, b"more\n"))
    assert await read(attached, b"more\n", b"err\n") == {OUT: b"out\nmore\n", ERR: b"err\n"}
    attached.close()


async def test_two_clients_get_the_same_output_and_eof(bench: Bench) -> None:
    script = "read line; echo out; exit 3"
    spec = bench.spec(terminal=False, stdin=True, system=False, command=("/bin/sh", "-c", script))
    guest, first = await launched(bench, spec)
    second = await (await bench.guest()).attach()
    await second.write(b"go\n")
    says(bench, (OUT, b"out\n"))
    for attached in (first, second):
        assert (await read(attached, b"out\n"))[OUT] == b"out\n"
    bench.end("one", 3)
    async with asyncio.timeout(60):
        assert await guest.ended() == 3
        for attached in (first, second):
            assert await attached.read() is None
            attached.close()
    await bench.runtime.remove("one")
    with pytest.raises(WrongState):
        await guest.attach()


async def test_input_ends_with_eof(bench: Bench) -> None:
    spec = bench.spec(
        terminal=False, stdin=True, system=False, command=("/bin/sh", "-c", "cat; echo over >&2; sleep 9")
    )
    _, attached = await launched(bench, spec)
    await attached.write(b"x" * 20_000 + b"\n")
    says(bench, (OUT, b"x" * 20_000 + b"\n"))
    assert (await read(attached, b"x\n"))[OUT] == b"x" * 20_000 + b"\n"
    attached.end_input()
    says(bench, (ERR, b"over\n"))
    assert (await read(attached, b"over\n"))[ERR] == b"over\n"
    if isinstance(bench.runtime, FakeRuntime):
        instance = bench.runtime.instances["one"]
        assert instance.input == b"x" * 20_000 + b"\n" and instance.input_ended
    attached.close()


async def test_without_input_it_reads_eof(bench: Bench) -> None:
    _, attached = await launched(
        bench, bench.spec(terminal=False, system=False, command=("/bin/sh", "-c", "cat; echo over; sleep 9"))
    )
    await attached.write(b"nothing reads this")
    says(bench, (OUT, b"over\n"))
    assert (await read(attached, b"over\n"))[OUT] == b"over\n"
    attached.close()


@pytest.mark.parametrize("user", ["0", "1000:1000"])
async def test_its_streams_can_be_opened_by_name(bench: Bench, user: str) -> None:
    """Images link their log files to ``/dev/stdout``, and their programs do not run as root."""
    script = "echo out > /dev/stdout; echo err > /proc/self/fd/2; sleep 99"
    spec = bench.spec(terminal=False, system=False, user=user, command=("/bin/sh", "-c", script))
    _, attached = await launched(bench, spec)
    says(bench, (OUT, b"out\n"), (ERR, b"err\n"))
    assert await read(attached, b"out\n", b"err\n") == {OUT: b"out\n", ERR: b"err\n"}
    attached.close()


async def test_clients_that_only_look_leave_the_input_open(bench: Bench) -> None:
    spec = bench.spec(terminal=False, stdin=True, system=False, command=("/bin/sh", "-c", "cat; echo over; sleep 9"))
    guest, writer = await launched(bench, spec)
    for _ in range(3):
        looks = await guest.attach()
        looks.close(keep_input=True)
    await writer.write(b"still open\n")
    says(bench, (OUT, b"still open\n"))
    assert (await read(writer, b"still open\n"))[OUT] == b"still open\n"
    writer.end_input()
    says(bench, (OUT, b"over\n"))
    assert b"over\n" in (await read(writer, b"over\n"))[OUT]
    writer.close()


async def test_an_input_may_outlive_its_clients(bench: Bench) -> None:
    command = ("/bin/sh", "-c", "while read line; do echo got $line; done; echo over; sleep 9")
    spec = bench.spec(terminal=False, stdin=True, stdin_once=False, system=False, command=command)
    guest, first = await launched(bench, spec)
    await first.write(b"one\n")
    says(bench, (OUT, b"got one\n"))
    await read(first, b"got one\n")
    first.end_input()
    first.close()
    second = await guest.attach()
    await second.write(b"two\n")
    says(bench, (OUT, b"got two\n"))
    assert (await read(second, b"got two\n"))[OUT] == b"got two\n"
    second.close()
