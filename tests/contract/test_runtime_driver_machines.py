"""The contract of runtime drivers whose guests boot a kernel, with as few boots as possible."""

from __future__ import annotations

import asyncio
import dataclasses
import signal

import pytest
from hypervisors import session_ends
from runtime_bench import MIB, Bench, booted

from isola.errors import AlreadyExists, IsolaError, Unsupported, WrongState
from isola.model.limits import Limits
from isola.model.network import NetworkNamespace
from isola.runtimes import Mount, Root, RootKind, RunSpec, TapNic

LIMITS = Limits(memory=256 * MIB)
SHELL = ("/bin/sh", "-c")


def application(bench: Bench, script: str, **more: object) -> RunSpec:
    given: dict[str, object] = {"limits": LIMITS, "nics": (), "system": False, "terminal": False}
    return bench.spec(command=(*SHELL, script), **given | more)  # type: ignore[arg-type]


async def test_an_application_runs_to_its_end_without_a_daemon(machines: Bench) -> None:
    bench = machines
    directory = bench.directory / "shown"
    directory.mkdir()
    seen = directory / "seen"
    seen.write_text("from the host\n")
    mounts = (
        Mount("/mnt/host", str(directory), read_only=True),
        Mount("/mnt/memory", kind="tmpfs", options=("size=64k", "mode=0777")),
    )
    script = (
        "echo out; echo err >&2; id -u; id -g; cat /mnt/host/seen /etc/hosts; echo x > /mnt/host/new; sleep 2; exit 7"
    )
    guest = await bench.launch(
        application(bench, script, mounts=mounts, user="web", files={"/etc/hosts": "10.0.0.1 peer\n"})
    )
    assert await guest.settled() is None
    with pytest.raises(AlreadyExists):
        await bench.launch(application(bench, "true"))
    session_ends(guest)
    second = bench.second()
    async with asyncio.timeout(60):
        while (ending := await second.ending("one")) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    assert (ending.status, ending.oom_killed) == (7, False)
    assert await second.find("one") is None
    found = {line.channel.value: b"" for line in await second.output("one")}
    for line in await second.output("one"):
        found[line.channel.value] += line.data
    assert found["stdout"] == b"out\n33\n34\nfrom the host\n10.0.0.1 peer\n"
    assert found["stderr"].startswith(b"err\n") and b"can't create /mnt/host/new" in found["stderr"]
    assert seen.read_text() == "from the host\n"
    assert bench.host.cgroups.processes(bench.names.cgroup("one")) == []


async def test_a_system_is_stopped_by_the_next_daemon(machines: Bench) -> None:
    bench = machines
    guest = await bench.launch(bench.spec(limits=LIMITS, nics=(), stop_signal=signal.SIGTERM))
    await booted(bench)
    with pytest.raises(Unsupported):
        await guest.limit(dataclasses.replace(LIMITS, memory=8192 * MIB))
    session_ends(guest)
    adopted = await bench.second().find("one")
    assert adopted == guest and adopted is not None and adopted.plan == guest.plan
    assert (await bench.run("echo", "again"))[:2] == (0, b"again\n")
    await adopted.request_stop()
    async with asyncio.timeout(60):
        assert await adopted.ended() == 3
    for refused in (adopted.pause(), adopted.console(), adopted.mounts(), adopted.resize_console(1, 1)):
        with pytest.raises(WrongState):
            await refused
    assert (adopted.interfaces(), adopted.numbers(), adopted.frozen()) == ((), (), False)
    await adopted.request_stop()


async def test_what_it_cannot_be_given_is_refused(machines: Bench) -> None:
    bench = machines
    wrong: tuple[dict[str, object], ...] = (
        {"root": Root(bench.root, RootKind.DISKS)},
        {"network": NetworkNamespace(bench.directory / "netns")},
        {"limits": Limits(memory=MIB)},
        {"nics": (TapNic("isnothere0", "0a:69:73:00:00:08", "eth0"),)},
    )
    for given in wrong:
        with pytest.raises(IsolaError):
            await bench.launch(application(bench, "true", **given))
        assert await bench.runtime.owned() == ()
