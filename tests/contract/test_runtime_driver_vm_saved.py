"""The contract of runtime drivers whose guests boot from disks, for saved states: one boot and what follows."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from payloads import payload
from runtime_bench import MIB, Bench, shown
from wall_checks import shown_directory

from isola.errors import Unsupported, WrongState
from isola.host.guest_mounts import Graft
from isola.host.link_kinds import Tap
from isola.model.disk import Disk
from isola.model.limits import Limits
from isola.operations import Operation
from isola.runtimes import Capability, Firmware, Guest, Mount, Restore, RunSpec, TapNic, WithDisks
from isola.runtimes.guest import Standing

pytestmark = pytest.mark.timeout(600)
NICS = tuple(TapNic(f"isdisave{number}", f"0a:69:73:00:02:0{number}", f"eth{number}") for number in range(2))
COUNTS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done > /tmp/count 2>&1 &"
GROWN = Limits(memory=384 * MIB, vcpus=2)


async def test_a_counter_goes_on_in_another_machine(firmwares: Bench) -> None:
    bench = firmwares
    assert bench.has(Capability.CHECKPOINT)
    async with _spec(bench) as spec:
        guest = await bench.launch(spec)
        await shown(bench, lambda log: b"booted" in log, seconds=300)
        assert isinstance(guest, WithDisks) and isinstance(guest, Standing)
        more = await _changed_while_it_runs(bench, guest)
        await _is_kept_by_a_snapshot_if_its_disks_are(bench, guest, more)
        before = await _saved(bench, guest)
        today = dataclasses.replace(spec, disks=(*spec.disks, more, _second(bench)), nics=NICS, limits=GROWN)
        await _what_does_not_fit_is_refused(bench, spec, today)
        await _goes_on(bench, today, before)
        # A second time, from a machine that has continued itself, and as it was restored.
        before = await _saved(bench, await bench.guest())
        again = dataclasses.replace(today, limits=Limits(memory=192 * MIB, vcpus=2), nics=NICS)
        await _goes_on(bench, again, before)
        assert await _total(bench) < 200
        (bench.directory / "more.raw").write_bytes(bytes(8 * MIB))
        await _saved(bench, await bench.guest())
        _older(bench.directory / "more.raw")
        with pytest.raises(WrongState, match="disk 'second' was changed"):
            await _restored(bench, again)


@asynccontextmanager
async def _spec(bench: Bench) -> AsyncIterator[RunSpec]:
    async with payload(bench) as found:
        host = Mount("/mnt/host", str(shown_directory(bench)), read_only=True)
        given: dict[str, Any] = {
            **found.more,
            "firmware": Firmware(secure_boot=False, tpm=True),
            "mounts": (host,),
            "nics": NICS[:1],
        }
        for nic in NICS:
            await bench.host.links.create_tap(Tap(nic.link, ""))
        try:
            yield bench.spec(root=found.root, **given)
        finally:
            await bench.runtime.remove("one")
            for nic in NICS:
                await bench.host.links.delete(nic.link)


async def _changed_while_it_runs(bench: Bench, guest: Guest) -> Disk:
    """A disk, a NIC, memory, a CPU, and a counter in a file in memory."""
    assert isinstance(guest, WithDisks)
    file = bench.directory / "more.raw"
    file.write_bytes(bytes(8 * MIB))
    more = Disk("more", file, bus="virtio-blk")
    # Their places are not those that they would get in a new machine.
    for disk in (Disk("first", file, read_only=True), Disk("second", file, read_only=True), more):
        await guest.add_disk(disk)
    await guest.remove_disk("first")
    await guest.plug(NICS[1])
    await guest.limit(GROWN)
    assert (await bench.run("sh", "-c", f"{COUNTS}"))[0] == 0
    await _writes(bench)
    return more


async def _is_kept_by_a_snapshot_if_its_disks_are(bench: Bench, guest: Guest, more: Disk) -> None:
    assert isinstance(guest, WithDisks) and isinstance(guest, Standing)
    images = bench.directory / "standing"
    images.mkdir()
    with pytest.raises(Unsupported, match="'more'"):
        await guest.save(images)
    await guest.remove_disk("more")
    await guest.pause()
    await guest.save(images)
    assert guest.frozen()
    await guest.resume()
    counted = await _counted(bench)
    await _reaches(bench, counted + 3)
    await guest.add_disk(Disk("nvme", bench.directory / "more.raw", read_only=True, bus="nvme"))
    with pytest.raises(Unsupported, match="nvme"):
        await guest.checkpoint(images)
    assert not guest.frozen()
    await guest.remove_disk("nvme")
    await guest.add_disk(more)
    await _writes(bench)


def _second(bench: Bench) -> Disk:
    return Disk("second", bench.directory / "more.raw", read_only=True)


async def _writes(bench: Bench) -> None:
    """To the disk that came last."""
    async with asyncio.timeout(60):
        while (await bench.run("test", "-b", "/dev/vdb"))[0]:  # noqa: ASYNC110 - the guest finds it
            await asyncio.sleep(0.2)
    assert (await bench.run("sh", "-c", "echo kept > /dev/vdb; sync"))[0] == 0


async def _saved(bench: Bench, guest: Guest) -> int:
    images = bench.directory / "images"
    await bench.host.files.remove_tree(images)
    images.mkdir(mode=0o700)
    await _reaches(bench, 3)
    before = await _counted(bench)
    await guest.checkpoint(images)
    async with asyncio.timeout(60):
        assert await guest.ended() == 0
    await bench.runtime.remove("one")
    return before


async def _what_does_not_fit_is_refused(bench: Bench, spec: RunSpec, today: RunSpec) -> None:
    with pytest.raises(WrongState, match="changed") as refused:
        await _restored(bench, dataclasses.replace(spec, firmware=Firmware(secure_boot=True, tpm=True)))
    for said in ("security.secureboot was false", "'more'"):
        assert said in refused.value.evidence
    with pytest.raises(WrongState, match="changed") as refused:
        await _restored(bench, dataclasses.replace(today, mounts=()))
    assert "/mnt/host" in refused.value.evidence
    assert await bench.runtime.owned() == ()


async def _goes_on(bench: Bench, spec: RunSpec, before: int) -> None:
    guest = await _restored(bench, spec)
    assert await guest.settled() is None and not guest.frozen()
    await _reaches(bench, before + 5)
    seen = [int(each) for each in (await bench.run("cat", "/tmp/count"))[1].split()]
    assert seen == list(range(1, len(seen) + 1)), "each number once"
    assert isinstance(guest, WithDisks)
    assert await guest.disks() == {"root", "more", "second"}
    # The second disk: a busy guest may have seen the first one come and go before it.
    assert (await bench.run("sh", "-c", "cat /dev/sd[bc] | head -c 5"))[1] == b"kept\n"
    assert (bench.directory / "more.raw").read_bytes().startswith(b"kept\n")
    assert (await bench.run("cat", "/mnt/host/seen"))[1] == b"of the host\n"
    assert (await bench.run("sh", "-c", "grep -c ' /mnt/host ' /proc/mounts"))[1] == b"1\n"
    links = (await bench.run("ip", "link"))[1]
    assert all(nic.mac.encode() in links for nic in NICS)
    assert await bench.second().find("one") == guest
    async with bench.host.guest_mounts.prepare(Graft(shown_directory(bench), read_only=True)) as tree:
        await guest.mount(tree, "/mnt/later")
    assert (await bench.run("cat", "/mnt/later/seen"))[1] == b"of the host\n"
    await guest.unmount(tree.number)


async def _restored(bench: Bench, spec: RunSpec) -> Guest:
    guests = []

    async def work(op: Operation) -> None:
        guests.append(await bench.runtime.run(op, spec, restore=Restore(bench.directory / "images")))

    operation = await bench.do(work)
    assert not operation.warnings, operation.warnings
    if operation.error is not None:
        raise operation.error
    return guests[0]


async def _total(bench: Bench) -> int:
    return int((await bench.run("grep", "MemTotal", "/proc/meminfo"))[1].split()[1]) >> 10


async def _counted(bench: Bench) -> int:
    lines = (await bench.run("cat", "/tmp/count"))[1].split()
    return int(lines[-1]) if lines else 0


async def _reaches(bench: Bench, wanted: int) -> None:
    async with asyncio.timeout(60):
        while await _counted(bench) < wanted:  # noqa: ASYNC110 - the guest counts
            await asyncio.sleep(0.1)


def _older(path: Path) -> None:
    os.utime(path, (1, 1))
