"""The contract of runtime drivers whose guests boot a kernel, for saved states: one boot, and what follows from it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from pathlib import Path

import pytest
from runtime_bench import MIB, PATH, Bench, shown

from isola.errors import HostFailure, IsolaError, WrongState
from isola.host.link_kinds import Tap
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.operations import Operation
from isola.runtimes import Capability, ExecSpec, Guest, Mount, Restore, RunSpec, TapNic, WithDisks
from isola.runtimes.guest import Standing
from isola.runtimes.qemu.saving import MEMORY, STATE

LIMITS = Limits(memory=256 * MIB)
GROWN = Limits(memory=384 * MIB, vcpus=2)
GROWN_LEAST = 250 << 10
"""kB that the kernel says of these."""
NICS = tuple(TapNic(f"isvmsave{number}", f"0a:69:73:00:01:0{number}", f"eth{number}") for number in range(3))
COUNTS = "exec 3>>/mnt/here/count; i=0; while :; do i=$((i+1)); echo $i >&3; echo at $i; sleep 0.05; done"


async def test_a_counter_goes_on_in_another_machine(machines: Bench) -> None:
    bench = machines
    if not bench.has(Capability.CHECKPOINT):
        return
    here = bench.directory / "here"
    here.mkdir()
    here.chmod(0o777)
    (here / "count").touch(mode=0o666)
    (here / "count").chmod(0o666)
    spec = bench.spec(
        command=("/bin/sh", "-c", COUNTS),
        limits=LIMITS,
        system=False,
        terminal=False,
        nics=NICS[:1],
        mounts=(Mount("/mnt/here", str(here)),),
    )
    for nic in NICS:
        await bench.host.links.create_tap(Tap(nic.link, ""))
    try:
        guest = await bench.launch(spec)
        await shown(bench, lambda log: b"at 5\n" in log)
        await guest.plug(NICS[1])
        await guest.limit(GROWN)
        size = await _size(bench)
        await _goes_on_after_it_was_saved(bench, guest)
        await _is_refused_while_commands_run(bench, guest)
        await _is_refused_with_disks(bench, guest)
        await _a_failure_leaves_it_running(bench, guest)
        before = await _saved(bench, guest, "images")
        await _what_does_not_fit_is_refused(bench, spec)
        # A NIC that was plugged is there again, and one that is new is plugged.
        again = await restored(bench, dataclasses.replace(spec, nics=NICS, limits=GROWN), images_in(bench, "images"))
        assert size == await _size(bench), "memory and CPUs that were added are there again"
        assert await again.settled() is None and not again.frozen()
        await shown(bench, lambda log: f"at {before + 20}\n".encode() in log)
        seen = list(map(int, (here / "count").read_text().split()))
        assert seen == list(range(1, len(seen) + 1)), "each number once"
        assert {nic.interface for nic in NICS} <= {each.name for each in again.interfaces()}
        assert await bench.second().find("one") == again
        drawn = await _drawn(bench)
        await bench.runtime.remove("one")
        await restored(bench, dataclasses.replace(spec, nics=NICS), images_in(bench, "images"))
        assert await _drawn(bench) != drawn, "runs from one state draw the same random numbers"
    finally:
        await bench.runtime.remove("one")
        for nic in NICS:
            await bench.host.links.delete(nic.link)


async def _size(bench: Bench) -> bytes:
    """Memory and CPUs, which a smaller machine would lack."""
    _, said, _ = await bench.run("sh", "-c", "cat /sys/devices/system/cpu/online; grep MemTotal /proc/meminfo")
    assert int(said.split()[2]) > GROWN_LEAST
    return said


async def _drawn(bench: Bench) -> bytes:
    return (await bench.run("cat", "/proc/sys/kernel/random/uuid"))[1]


def images_in(bench: Bench, name: str) -> Path:
    return bench.directory / name


async def restored(bench: Bench, spec: RunSpec, images: Path, **more: object) -> Guest:
    guests = []

    async def work(op: Operation) -> None:
        guests.append(await bench.runtime.run(op, spec, restore=Restore(images, **more)))  # type: ignore[arg-type]

    operation = await bench.do(work)
    if operation.error is not None:
        raise operation.error
    return guests[0]


async def _goes_on_after_it_was_saved(bench: Bench, guest: Guest) -> None:
    """As a stateful snapshot does it."""
    assert isinstance(guest, Standing)
    images_in(bench, "standing").mkdir(mode=0o700)
    await guest.pause()
    await guest.save(images_in(bench, "standing"))
    assert guest.frozen()
    await guest.resume()
    said = int((await bench.runtime.console_log("one")).split()[-1])
    await shown(bench, lambda log: f"at {said + 5}\n".encode() in log)
    assert (await bench.run("true"))[0] == 0


async def _is_refused_while_commands_run(bench: Bench, guest: Guest) -> None:
    execution = await guest.exec(ExecSpec(("sleep", "99"), PATH))
    with pytest.raises(WrongState, match="Commands"):
        await guest.checkpoint(bench.directory)
    await execution.close()
    await guest.pause()
    with pytest.raises(WrongState, match="frozen"):
        await guest.checkpoint(bench.directory)
    await guest.resume()


async def _is_refused_with_disks(bench: Bench, guest: Guest) -> None:
    """Another could write to them until it continues."""
    if not isinstance(guest, WithDisks):
        return
    disk = bench.directory / "disk.raw"
    disk.write_bytes(bytes(MIB))
    await guest.add_disk(Disk("data", disk))
    with pytest.raises(WrongState, match="disks"):
        await guest.checkpoint(bench.directory)
    await guest.remove_disk("data")


async def _a_failure_leaves_it_running(bench: Bench, guest: Guest) -> None:
    with pytest.raises(HostFailure, match="saved"):
        await guest.checkpoint(Path("/proc/self"))
    assert not guest.frozen() and (await bench.run("true"))[0] == 0


async def _saved(bench: Bench, guest: Guest, name: str) -> int:
    images_in(bench, name).mkdir(mode=0o700)
    await guest.checkpoint(images_in(bench, name))
    async with asyncio.timeout(60):
        assert await guest.ended() == 0
    assert await bench.runtime.find("one") is None
    said = (await bench.runtime.console_log("one")).split()
    await bench.runtime.remove("one")
    return int(said[-1])


async def _what_does_not_fit_is_refused(bench: Bench, spec: RunSpec) -> None:
    images = images_in(bench, "images")
    text = (images / STATE).read_text()
    spent: list[None] = []

    async def spend() -> None:
        spent.append(None)

    with pytest.raises(WrongState, match="changed") as refused:
        await restored(bench, dataclasses.replace(spec, nics=NICS[:1], limits=Limits(memory=8192 * MIB)), images)
    assert "256MiB" in refused.value.evidence and NICS[1].mac in refused.value.evidence
    (images / STATE).write_text(json.dumps(json.loads(text) | {"qemu": "7.2.1"}))
    with pytest.raises(WrongState, match=r"7\.2\.1") as refused:
        await restored(bench, spec, images)
    assert "without its state" in refused.value.remedy
    damaged = bench.directory / "damaged"
    damaged.mkdir()
    (damaged / STATE).write_text(text)
    (damaged / MEMORY).write_bytes(b"nothing that was saved")
    with pytest.raises(IsolaError, match="could not be restored"):
        await restored(bench, dataclasses.replace(spec, nics=NICS), damaged, spend=spend)
    assert await bench.runtime.owned() == () and not spent
    (images / STATE).write_text(text)
