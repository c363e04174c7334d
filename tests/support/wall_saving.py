"""The row of saved states: what ran continues in another guest of the same plan."""

from __future__ import annotations

import asyncio

from runtime_bench import PATH, Bench

from isola.operations import Operation
from isola.runtimes import Capability, ExecSpec, Guest, Restore, RootKind, WithDisks

_MARK = "4242"
"""Seconds that a program sleeps, by which it is found again."""


async def is_saved(bench: Bench, guest: Guest) -> None:
    """A program that runs beside the first one is there afterwards, and new ones can be started."""
    images = bench.directory / "images"
    images.mkdir(mode=0o700)
    if not bench.has(Capability.CHECKPOINT):
        return await guest.checkpoint(images)
    plan = guest.plan
    assert plan is not None
    if bench.has(Capability.EXEC):
        assert (await bench.run("sh", "-c", f"sleep {_MARK} >/dev/null 2>&1 </dev/null &"))[0] == 0
    if (
        isinstance(guest, WithDisks) and bench.kind.capabilities.root is RootKind.SHARED
    ):  # microVMs: they continue without
        for name in await guest.disks():
            await guest.remove_disk(name)
    await guest.checkpoint(images)
    async with asyncio.timeout(60):
        await guest.ended()
    await bench.runtime.remove(guest.id)

    async def again(op: Operation) -> None:
        await bench.runtime.run(op, plan, restore=Restore(images))

    operation = await bench.do(again)
    if operation.error is not None:
        raise operation.error
    found = await bench.guest()
    assert found != guest and not found.frozen()
    if bench.has(Capability.EXEC):
        execution = await found.exec(ExecSpec(("true",), PATH))
        assert await execution.wait() == 0
        await execution.close()
        assert f"sleep {_MARK}".encode() in (await bench.run("ps"))[1]
