"""The contract of runtime drivers whose guests boot a kernel, with as few boots as possible."""

from __future__ import annotations

import asyncio
import dataclasses
import signal
from pathlib import Path

import pytest
from runtime_bench import MIB, Bench, booted, shown
from runtime_verbs import VERBS

from isola.errors import AlreadyExists, IsolaError, Unsupported, WrongState
from isola.host.guest_mounts import Graft
from isola.host.links import Tap
from isola.model.limits import Limits
from isola.model.network import NetworkNamespace
from isola.runtimes import Guest, Mount, Root, RootKind, RunSpec, TapNic
from isola.runtimes.qemu.guest import VmGuest
from isola.runtimes.qemu.runtime import QemuRuntime

LIMITS = Limits(memory=256 * MIB)
SHELL = ("/bin/sh", "-c")


def application(bench: Bench, script: str, **more: object) -> RunSpec:
    given: dict[str, object] = {"limits": LIMITS, "nics": (), "system": False, "terminal": False}
    return bench.spec(command=(*SHELL, script), **given | more)  # type: ignore[arg-type]


def session_ends(guest: Guest) -> None:
    """As if the daemon had been killed."""
    assert isinstance(guest, VmGuest)
    guest.session.leave()
    QemuRuntime.forget(guest.session)


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


async def test_a_system_lives_and_is_adopted_and_changed(machines: Bench) -> None:
    bench = machines
    guest = await bench.launch(bench.spec(limits=LIMITS, nics=(), stop_signal=signal.SIGTERM))
    await booted(bench)
    await _is_watched(bench, guest)
    await _has_commands_files_and_a_console(bench, guest)
    for capability, verb in VERBS.items():
        if bench.has(capability):
            await verb(guest)
        else:
            with pytest.raises(Unsupported):
                await verb(guest)
    await _is_paused(bench, guest)
    await _memory_follows_its_limit(bench, guest)
    await _mounts_come_and_go(bench, guest)
    await _nics_come_and_go(bench, guest)
    session_ends(guest)
    adopted = await bench.second().find("one")
    assert adopted == guest and adopted is not None and adopted.plan == guest.plan
    assert (await bench.run("echo", "again"))[:2] == (0, b"again\n")
    await adopted.request_stop()
    async with asyncio.timeout(30):
        assert await adopted.ended() == 3
    for refused in (adopted.pause(), adopted.console(), adopted.mounts(), adopted.resize_console(1, 1)):
        with pytest.raises(WrongState):
            await refused
    assert (adopted.interfaces(), adopted.numbers(), adopted.frozen()) == ((), (), False)
    await adopted.request_stop()


async def _is_watched(bench: Bench, guest: Guest) -> None:
    assert "lo" in {interface.name for interface in guest.interfaces()}
    assert guest.number > 0 and guest.numbers() == () and not guest.oom_killed()
    assert guest.usage().memory > 0 and guest.stats().cpu_ns > 0
    _is_confined(guest)


def _is_confined(guest: Guest) -> None:
    status = Path(f"/proc/{guest.number}/status").read_text()
    assert "NoNewPrivs:\t1" in status and "CapBnd:\t0000000000000000" in status and "Seccomp:\t2" in status
    uid = int(status.split("Uid:\t")[1].split()[0])
    assert guest.plan is not None and guest.plan.idmap is not None
    assert uid in range(guest.plan.idmap.base + 1, guest.plan.idmap.base + guest.plan.idmap.size)
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        own, ours = (Path(f"/proc/{pid}/ns/{kind}").stat().st_ino for pid in (guest.number, "self"))
        assert own != ours, kind


async def _has_commands_files_and_a_console(bench: Bench, guest: Guest) -> None:
    assert await bench.run("sh", "-c", "cat; echo err >&2; exit 5", stdin=b"in") == (5, b"in", b"err\n")
    assert (await bench.run("id", "-u", user=33, group=34))[1] == b"33\n"
    assert (await bench.run("nothing"))[0] == 127
    async with guest.files() as root:
        entry = await root.stat("/etc/passwd")
        assert (entry.uid, entry.gid) == (0, 0)
    console = await guest.console()
    await guest.resize_console(99, 33)
    await console.write(b"word\n")
    await shown(bench, lambda log: b"typed word 33 99\r\n" in log)
    console.close()


async def _is_paused(bench: Bench, guest: Guest) -> None:
    await guest.pause()
    assert guest.frozen()
    with pytest.raises(WrongState):
        await bench.run("true")
    await guest.resume()
    await guest.resume()
    assert not guest.frozen()


async def _memory_follows_its_limit(bench: Bench, guest: Guest) -> None:
    async def total() -> int:
        text = (await bench.run("grep", "MemTotal", "/proc/meminfo"))[1]
        return int(text.split()[1]) >> 10

    await guest.limit(LIMITS)
    whole = await total()
    await guest.limit(dataclasses.replace(LIMITS, memory=192 * MIB))
    assert 55 <= whole - await total() <= 70
    await guest.limit(LIMITS)
    with pytest.raises(Unsupported):
        await guest.limit(dataclasses.replace(LIMITS, memory=512 * MIB))


async def _mounts_come_and_go(bench: Bench, guest: Guest) -> None:
    directory = bench.directory / "later"
    directory.mkdir()
    (directory / "file").write_text("shown")
    before = await guest.mounts()
    async with bench.host.guest_mounts.prepare(Graft(directory, read_only=True)) as tree:
        await guest.mount(tree, "/mnt/later")
    assert tree.number in await guest.mounts()
    assert (await bench.run("cat", "/mnt/later/file"))[1] == b"shown"
    await guest.unmount(tree.number)
    assert await guest.mounts() == before


async def _nics_come_and_go(bench: Bench, guest: Guest) -> None:
    nic = TapNic("isvmtest0", "0a:69:73:00:00:07", "eth7")
    await bench.host.links.create_tap(Tap(nic.link, ""))
    try:
        await guest.plug(nic)
        assert b"eth7" in (await bench.run("ip", "link"))[1]
        await guest.unplug(nic.link)
        assert b"eth7" not in (await bench.run("ip", "link"))[1]
        await guest.unplug(nic.link)
    finally:
        await bench.host.links.delete(nic.link)


@pytest.mark.parametrize("victim", ["qemu", "server", "monitor"])
async def test_a_killed_helper_ends_the_guest(machines: Bench, victim: str) -> None:
    bench = machines
    guest = await bench.launch(application(bench, "sleep 600"))
    assert isinstance(guest, VmGuest)
    run = guest.session.run
    bench.host.processes.signal(getattr(run, victim), signal.SIGKILL)
    async with asyncio.timeout(20):
        assert await guest.ended() == 137
    assert not any(map(bench.host.processes.alive, run.processes))
    assert await bench.runtime.find("one") is None
    ending = await bench.runtime.ending("one")
    assert ending is not None and ending.status == 137
    await bench.runtime.remove("one")
    assert await bench.runtime.owned() == ()


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
