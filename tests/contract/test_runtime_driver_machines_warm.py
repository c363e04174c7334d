"""Starts from a kernel that has booted before: the guests of one such kernel share nothing of an instance."""

from __future__ import annotations

import dataclasses
import time

from runtime_bench import MIB, Bench

from isola.host.link_kinds import Tap
from isola.model.limits import Limits
from isola.runtimes import RunSpec, TapNic
from isola.runtimes.qemu.warm import PLACE

NICS = [TapNic(f"isvmwarm{number}", f"0a:69:73:00:02:0{number}", "eth0") for number in range(2)]
SAYS = "cat /proc/sys/kernel/random/uuid; hostname; cat /sys/class/net/eth0/address; exec sleep 600"


async def test_guests_of_one_kernel_have_identities_of_their_own(machines: Bench) -> None:
    bench, seen = machines, []
    for nic in NICS:
        await bench.host.links.create_tap(Tap(nic.link, ""))
    try:
        for number, nic in enumerate(NICS):
            before = time.monotonic()
            await bench.launch(_spec(bench, f"host{number}", nic))
            print(f"start {number}: {time.monotonic() - before:.2f} s")
            assert len(_kept(bench)) == 1
            found = (await bench.run("sh", "-c", SAYS.replace("exec sleep 600", "date +%s")))[1].decode().split()
            seen.append((_kept(bench)[0], *found))
            assert found[1:3] == [f"host{number}", nic.mac]
            assert abs(int(found[3]) - time.time()) < 60
            await bench.runtime.remove("one")
        assert seen[0][1] != seen[1][1], "guests of one kernel draw the same random numbers"
        (bench.directory / PLACE / seen[0][0] / "memory").write_bytes(b"damaged")
        broken = await bench.do(lambda op: bench.runtime.run(op, _spec(bench, "host2", NICS[0])))
        assert broken.error is not None and _kept(bench) == []
        assert await bench.runtime.owned() == ()
    finally:
        await bench.runtime.remove("one")
        for nic in NICS:
            await bench.host.links.delete(nic.link)


def _kept(bench: Bench) -> list[str]:
    return [each.name for each in (bench.directory / PLACE).iterdir()]


def _spec(bench: Bench, hostname: str, nic: TapNic) -> RunSpec:
    spec = bench.spec(
        command=("/bin/sh", "-c", SAYS),
        limits=Limits(memory=256 * MIB),
        system=False,
        terminal=False,
        nics=(nic,),
        warm=True,
    )
    return dataclasses.replace(spec, hostname=hostname)
