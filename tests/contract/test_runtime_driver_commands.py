"""The contract of runtime drivers for commands in a guest and its console."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import uuid

from runtime_bench import (
    MIB,
    PATH,
    Bench,
    booted,
    everything,
    shown,
    until,
)
from runtime_root import command_lines

from isola.runtimes import (
    ExecSpec,
)
from isola.testing.runtime import FakeRuntime

# --- commands ----------------------------------------------------------------------------------------------------


async def test_streams_and_status_of_a_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    assert await bench.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")


async def test_much_input_and_output(bench: Bench) -> None:
    await bench.launch(bench.spec())
    sent = os.urandom(3 * MIB)
    assert await bench.run("cat", stdin=sent) == (0, sent, b"")
    status, out, _ = await bench.run("head", "-c", str(4 * MIB), "/dev/zero")
    assert (status, len(out)) == (0, 4 * MIB)


async def test_a_missing_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    assert (await bench.run("no-such-command"))[0] == 127


async def test_a_terminal_shows_why_a_command_could_not_be_run(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("no-such-command",), PATH, terminal=True))
    async with asyncio.timeout(60):
        assert b"no-such-command" in await everything(execution.stdout)
        assert await execution.wait() == 127
    await execution.close()


async def test_a_signal_reaches_the_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    script = "trap 'exit 55' TERM; echo ready; while true; do sleep 0.05; done"
    execution = await (await bench.guest()).exec(ExecSpec(("sh", "-c", script), PATH))
    await until(execution.stdout, b"ready")
    await execution.signal(signal.SIGTERM)
    async with asyncio.timeout(60):
        assert await execution.wait() == 55
    await execution.close()


async def test_a_killed_command_is_128_and_the_signal(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("sleep", "100"), PATH))
    await execution.signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await execution.wait() == 137
    await execution.close()


async def test_close_kills_the_command_even_at_once(bench: Bench) -> None:
    await bench.launch(bench.spec())
    mark = f"9{uuid.uuid4().int % 10**8:08}"  # no other process of this host has it
    for pause in (0, 0.005, 0.05):
        execution = await (await bench.guest()).exec(ExecSpec(("sleep", mark), PATH))
        await asyncio.sleep(pause)
        await execution.close()
        await execution.close()
        assert not [process for process in command_lines() if mark in process]


async def test_a_terminal_with_its_size(bench: Bench) -> None:
    await bench.launch(bench.spec())
    # The size may be set shortly after the program has started, as on any terminal.
    script = 'while read -r size; do until [ "$(stty size)" = "$size" ]; do sleep 0.02; done; echo "is $size"; done'
    spec = ExecSpec(("sh", "-c", script), PATH, terminal=True, width=100, height=40)
    execution = await (await bench.guest()).exec(spec)
    assert execution.stderr is None
    await execution.stdin.write(b"40 100\r")
    await until(execution.stdout, b"is 40 100")
    execution.resize(120, 50)
    await execution.stdin.write(b"50 120\r")
    await until(execution.stdout, b"is 50 120")
    await execution.stdin.write(b"\x04")
    async with asyncio.timeout(60):
        assert await execution.wait() == 0
    await execution.close()


async def test_a_terminal_shows_the_end_of_a_short_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    for _ in range(10):
        execution = await (await bench.guest()).exec(ExecSpec(("sh", "-c", "echo out; exit 7"), PATH, terminal=True))
        async with asyncio.timeout(60):
            assert b"out" in await everything(execution.stdout)
            assert await execution.wait() == 7
        await execution.close()


async def test_the_end_of_the_instance_ends_its_commands(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("sh", "-c", "echo ready; exec sleep 100"), PATH))
    await until(execution.stdout, b"ready")
    await bench.runtime.remove("one")
    async with asyncio.timeout(60):
        assert await execution.wait() == 137
    await execution.close()


# --- console -----------------------------------------------------------------------------------------------------


async def test_console_and_its_log(bench: Bench) -> None:
    await bench.launch(bench.spec())
    await booted(bench)
    guest = await bench.guest()
    console = await guest.console()
    await guest.resize_console(90, 30)
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.show("one", b"typed hello 30 90\r\n")
    async with asyncio.timeout(60):
        while True:
            await console.write(b"hello\n")  # again: the size may be set after the first one was read
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await until(console, b"typed hello 30 90\r\n")
                    break
    console.close()
    assert b"booted host-one\r\n" in await bench.runtime.console_log("one")
    await bench.runtime.clear_console_log("one")
    await shown(bench, lambda log: log == b"")
    again = await guest.console()
    await bench.runtime.remove("one")
    assert await everything(again) is not None


async def test_processes_and_commands_have_numbers(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    if not bench.kind.capabilities.shares_kernel:
        return
    assert guest.number in guest.numbers()
    execution = await guest.exec(ExecSpec(("sleep", "99"), PATH))
    number = await execution.number()
    if bench.real:
        assert number in guest.numbers() and number != guest.number
        found = guest.stats()
        assert found.processes >= 2 and found.cpu_ns > 0 and found.memory > 0
        assert not guest.oom_killed()
    await execution.close()
    assert await execution.number() == 0
    await bench.runtime.remove("one")
    assert guest.numbers() == () and guest.stats().memory == 0
