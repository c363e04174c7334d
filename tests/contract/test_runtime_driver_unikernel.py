"""The contract of the driver of unikernels, over kernels of a hundred bytes, which start at once."""

from __future__ import annotations

import asyncio

import kernels
import pytest
from hypervisors import session_ends
from kernels import READY
from runtime_bench import IDMAP, MIB, Bench, shown

from isola.errors import InvalidInput, IsolaError, NotFound, Unsupported
from isola.model.kernel import Kernel
from isola.model.limits import Limits
from isola.model.network import HostTap
from isola.runtimes import Guest, Root, RunSpec

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
    async with asyncio.timeout(30):
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
    guest = await started(bench, unikernel(bench, path, machine))
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
