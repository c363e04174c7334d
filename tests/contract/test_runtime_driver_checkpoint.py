"""The contract of runtime drivers for saved states: memory and processes continue in another run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from runtime_bench import IDMAP, PATH, Bench, shown

from isola.errors import HostFailure, IsolaError, Unsupported, WrongState
from isola.model.network import NetworkNamespace
from isola.operations import Operation
from isola.runtimes import Capability, ExecSpec, Guest, Restore, RunSpec
from isola.testing.runtime import FakeRuntime

COUNTS = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; echo at $i; sleep 0.05; done"


async def restored(bench: Bench, spec: RunSpec, images: Path) -> Guest:
    guests = []

    async def work(op: Operation) -> None:
        guests.append(await bench.runtime.run(op, spec, restore=Restore(images)))

    operation = await bench.do(work)
    if operation.error is not None:
        raise operation.error
    return guests[0]


def images_in(bench: Bench) -> Path:
    place = bench.directory / "images"
    place.mkdir(mode=0o700)
    return place


async def count(bench: Bench) -> int:
    return int((await bench.run("cat", "/tmp/count"))[1] or b"0")


async def test_what_cannot_be_saved_is_refused(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    if bench.has(Capability.CHECKPOINT):
        await guest.pause()
        with pytest.raises(WrongState):
            await guest.checkpoint(bench.directory)
        await guest.resume()
        return
    with pytest.raises(Unsupported):
        await guest.checkpoint(bench.directory)
    with pytest.raises(Unsupported):
        await restored(bench, bench.spec("two"), bench.directory)
    assert await bench.runtime.owned() == ("one",)


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("network", [True, False])
async def test_a_counter_goes_on(bench: Bench, terminal: bool, network: bool) -> None:
    if not bench.has(Capability.CHECKPOINT):
        return
    shares_kernel = bench.kind.capabilities.shares_kernel
    namespace = NetworkNamespace(bench.directory / "netns" / "one") if network and shares_kernel else None
    if namespace is not None:
        await bench.host.namespaces.make_network(namespace.path, IDMAP)
    try:
        given: dict[str, Any] = {"network": namespace} if shares_kernel else {}
        spec = bench.spec(terminal=terminal, command=("/bin/sh", "-c", COUNTS), system=False, **given)
        guest, images = await bench.launch(spec), images_in(bench)
        if isinstance(bench.runtime, FakeRuntime):
            bench.runtime.instances["one"].memory = b"known"
            await bench.host.files.make_directory(images)
        else:
            await shown(bench, lambda log: b"at 5" in log)
        await guest.checkpoint(images)
        async with asyncio.timeout(60):
            await guest.ended()
        await bench.runtime.remove("one")
        again = await restored(bench, spec, images)
        assert await bench.second().find("one") == again != guest
        if isinstance(bench.runtime, FakeRuntime):
            assert bench.runtime.instances["one"].memory == b"known"
            return
        assert await again.settled() is None
        await shown(bench, lambda log: log.count(b"at ") > 5 and b"at 1\n" not in log.replace(b"\r", b""))
        assert await count(bench) > 5
        execution = await again.exec(ExecSpec(("true",), PATH))
        assert await execution.wait() == 0
        await execution.close()
    finally:
        await bench.runtime.remove("one")
        if namespace is not None:
            await bench.host.namespaces.remove_network(namespace.path)


async def test_a_state_that_cannot_be_read_leaves_nothing(bench: Bench) -> None:
    if not bench.has(Capability.CHECKPOINT) or not bench.real:
        return
    images = images_in(bench)
    (images / "checkpoint.img").write_bytes(b"nothing that was saved")
    with pytest.raises(HostFailure):
        await restored(bench, bench.spec(), images)
    assert await bench.runtime.owned() == () and await bench.runtime.find("one") is None


async def test_commands_of_clients_are_not_saved(bench: Bench) -> None:
    if not bench.has(Capability.CHECKPOINT) or not bench.real:
        return
    guest, images = await bench.launch(bench.spec()), images_in(bench)
    execution = await guest.exec(ExecSpec(("sleep", "99"), PATH))
    try:
        await execution.number()
        with pytest.raises(WrongState, match="Commands"):
            await guest.checkpoint(images)
        assert (await bench.run("true"))[0] == 0
    finally:
        await execution.close()


async def test_where_there_is_no_room_the_failure_is_reported(bench: Bench) -> None:
    if not bench.has(Capability.CHECKPOINT) or not bench.real:
        return
    guest = await bench.launch(bench.spec())
    with pytest.raises(IsolaError, match=r"saved|no room"):
        await guest.checkpoint(Path("/proc/self"))
