"""The contract of the driver of unikernels, over kernels of a hundred bytes, which start at once."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import kernels
import pytest
from hypervisors import session_ends
from kernels import READY
from runtime_bench import IDMAP, MIB, Bench, shown

from isola.errors import AlreadyExists, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.host.link_kinds import Tap
from isola.model.disk import Disk
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.model.network import HostTap
from isola.operations import Operation
from isola.runtimes import Guest, Restore, Root, RunSpec, TapNic, WithDisks
from isola.runtimes.guest import Standing

LIMITS = Limits(memory=200 * MIB)


def unikernel(bench: Bench, path: str = "/multiboot", machine: str = "q35", **more: object) -> RunSpec:
    given: dict[str, object] = {
        "id": "one", "hostname": "host-one", "root": Root(bench.root), "command": ("hello", "{hostname}"),
        "idmap": IDMAP, "network": HostTap(), "limits": LIMITS, "kernel": Kernel(path, machine=machine),
    }  # fmt: skip
    return RunSpec(**given | more)  # type: ignore[arg-type]


async def started(bench: Bench, spec: RunSpec) -> Guest:
    guest = await bench.launch(spec)
    assert await guest.settled() is None
    await shown(bench, lambda log: READY in log)
    return guest


async def status_of(guest: Guest) -> int:
    async with asyncio.timeout(60):
        return await guest.ended()


async def test_a_unikernel_lives_is_adopted_and_ends(unikernels: Bench) -> None:
    bench = unikernels
    guest = await started(bench, unikernel(bench))
    assert b"hello host-one\n" in (await bench.runtime.console_log("one")).replace(b"\r", b"")
    console = await guest.console()
    await console.write(b"typed\n")
    await shown(bench, lambda log: b"typed" in log)
    console.close()
    with pytest.raises(Unsupported, match="200 MiB"):
        await guest.limit(Limits(memory=300 * MIB))
    session_ends(guest)
    adopted = await bench.second().find("one")
    assert adopted == guest and adopted is not None and adopted.plan == guest.plan
    console = await adopted.console()
    await console.write(kernels.OFF)
    assert await status_of(adopted) == 0
    console.close()
    assert (adopted.interfaces(), adopted.frozen()) == ((), False)
    ending = await bench.second().ending("one")
    assert ending is not None and ending.status == 0
    assert bench.host.cgroups.processes(bench.names.cgroup("one")) == []


@pytest.mark.parametrize(("path", "machine"), [("/pvh", "microvm"), ("/pvh", "pc")])
async def test_other_machines_start_too(unikernels: Bench, path: str, machine: str) -> None:
    bench = unikernels
    disk = bench.directory / "disk.raw"
    disk.write_bytes(bytes(MIB))
    guest = await started(bench, unikernel(bench, path, machine, disks=(Disk("data", disk),)))
    assert isinstance(guest, WithDisks) and await guest.disks() == {"data"}
    await guest.request_stop()  # it does not listen to a power button
    assert await status_of(guest) == 128 + 9


async def test_without_a_terminal_its_output_is_kept(unikernels: Bench) -> None:
    bench = unikernels
    guest = await started(bench, unikernel(bench, terminal=False))
    with pytest.raises(Unsupported, match="without a terminal"):
        await guest.console()
    await guest.pause()
    await guest.signal(9)
    assert await status_of(guest) == 128 + 9


async def test_a_reset_is_an_end(unikernels: Bench) -> None:
    bench = unikernels
    guest = await started(bench, unikernel(bench))
    console = await guest.console()
    await console.write(kernels.RESET)
    assert await status_of(guest) == 129
    console.close()


def count(log: bytes) -> int:
    """The last number that the kernel has said, in a whole line."""
    return int(log.rpartition(b"\n")[0].rpartition(b"at ")[2])


async def test_it_reads_and_writes_disks_and_goes_on_from_a_saved_state(unikernels: Bench) -> None:
    bench, disk = unikernels, unikernels.directory / "disk.raw"
    disk.write_bytes(b"of the host\0".ljust(MIB, b"x"))
    tap = TapNic("isuksave0", "0a:69:73:00:02:00", "eth0")
    await bench.host.links.create_tap(Tap(tap.link, ""))
    try:
        spec = unikernel(bench, "/sector", disks=(Disk("data", disk),), nics=(tap,))
        guest = await bench.launch(spec)
        await shown(bench, lambda log: b"sector: of the host" in log and b"at 3" in log)
        assert disk.read_bytes()[512:].startswith(b"written by the kernel\0")
        await disks_come_and_go(bench, guest)
        await guest.pause()
        images = bench.directory / "images"
        images.mkdir(mode=0o700)
        assert isinstance(guest, Standing)
        await guest.save(images)
        await guest.resume()
        before = count(await bench.runtime.console_log("one"))
        await shown(bench, lambda log: count(log) > before)
        with pytest.raises(IsolaError, match="saved"):
            await guest.checkpoint(Path("/proc/self"))
        assert not guest.frozen()
        saved = count(await bench.runtime.console_log("one"))
        images = bench.directory / "more"
        images.mkdir(mode=0o700)
        await guest.checkpoint(images)
        await bench.runtime.remove("one")
        for changed, says in (
            ({"disks": ()}, "disks were data, now none"),
            ({"limits": Limits(memory=100 * MIB)}, "limits.memory was 200MiB"),
            ({"kernel": Kernel("/sector", machine="pc")}, "machine was q35"),
            ({"nics": (tap, TapNic("isuksave1", "0a:69:73:00:02:01", "eth1"))}, "eth1 was not there"),
        ):
            with pytest.raises(WrongState) as refused:
                await restored(bench, dataclasses.replace(spec, **changed), images)
            assert says in refused.value.evidence and "without its state" in refused.value.remedy
            assert await bench.runtime.owned() == ()
        again = await restored(bench, spec, images)
        await shown(bench, lambda log: b"at " in log and count(log) > saved)
        assert b"sector:" not in (await bench.runtime.console_log("one")), "it has not started again"
        console = await again.console()
        await console.write(b"r")
        await shown(bench, lambda log: b"sector: of the host" in log)
        console.close()
    finally:
        await bench.runtime.remove("one")
        await bench.host.links.delete(tap.link)


async def disks_come_and_go(bench: Bench, guest: Guest) -> None:
    """What was removed fails inside, and can come again; no other one can."""
    assert isinstance(guest, WithDisks) and await guest.disks() == {"data"}
    disk, console = Disk("data", bench.directory / "disk.raw"), await guest.console()
    with pytest.raises(Unsupported, match="when it starts"):
        await guest.add_disk(Disk("other", disk.path))
    with pytest.raises(AlreadyExists):
        await guest.add_disk(disk)
    with pytest.raises(InvalidInput, match="do not shrink"):
        await guest.resize_disk("data", 512)
    await guest.resize_disk("data", 2 * MIB)
    assert disk.path.stat().st_size == 2 * MIB
    await guest.remove_disk("data")
    await guest.remove_disk("data")
    assert await guest.disks() == frozenset()
    await console.write(b"r")
    await shown(bench, lambda log: b"disk: it cannot be read" in log)
    await guest.add_disk(disk)
    assert await guest.disks() == {"data"}
    await console.write(b"r")
    await shown(bench, lambda log: log.count(b"sector: of the host") == 2)
    console.close()


async def restored(bench: Bench, spec: RunSpec, images: Path) -> Guest:
    guests = []

    async def work(op: Operation) -> None:
        guests.append(await bench.runtime.run(op, spec, restore=Restore(images)))

    operation = await bench.do(work)
    if operation.error is not None:
        raise operation.error
    return guests[0]


@pytest.mark.parametrize(
    ("spec", "error", "says"),
    [
        ({"path": "/broken"}, InvalidInput, "table of segments"),
        ({"path": "/nothing"}, NotFound, "/nothing"),
        ({"path": "/../../etc/passwd"}, IsolaError, "."),
        ({"machine": "microvm"}, Unsupported, "multiboot"),
        ({"limits": Limits(memory=MIB)}, InvalidInput, "at least 8 MiB"),
        ({"command": ("{address}",)}, InvalidInput, "0 NICs"),
        ({"kernel": None}, Unsupported, "no kernel"),
        ({"disks": (Disk("data", Path("/nothing"), bus="nvme"),)}, Unsupported, "virtio-blk, not nvme"),
        ({"idmap": None}, Unsupported, "user ids"),
    ],
)
async def test_what_cannot_start_leaves_nothing(
    unikernels: Bench, spec: dict[str, object], error: type[IsolaError], says: str
) -> None:
    bench = unikernels
    with pytest.raises(error, match=says):
        await bench.launch(unikernel(bench, **spec))  # type: ignore[arg-type]
    assert await bench.runtime.find("one") is None
    assert await bench.runtime.owned() == ()
    assert not await bench.host.files.exists(bench.directory / "run" / "one")
