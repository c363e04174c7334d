"""Every row of the matrix of walls as a check of a running guest; what a wall lacks is refused with a reason."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from runtime_bench import MIB, PATH, Bench, everything, until
from wall_saving import is_saved

from isola.errors import AlreadyExists, HostFailure, InvalidInput, NotFound, Unsupported, WrongState
from isola.host.guest_mounts import Graft
from isola.host.link_kinds import Tap
from isola.host.nodes import DeviceNumber
from isola.model.disk import Disk
from isola.model.identity import PRIVILEGED, IdRange
from isola.model.limits import Limits
from isola.model.system_calls import NAMES
from isola.runtimes import (
    Capability,
    DeviceNode,
    ExecSpec,
    Guest,
    Mount,
    RootKind,
    RunSpec,
    Shareable,
    TapNic,
    WithDisks,
)

LIMITS = Limits(memory=256 * MIB)
_FEW = 5
_BUSY = "i=0; while [ $i -lt 80 ]; do sleep 1 >/dev/null 2>&1 & i=$((i+1)); done; echo all"
_MEMORY = Mount("/mnt/memory", kind="tmpfs", options=("size=64k", "mode=0777"))
Check = Callable[[Bench, Guest], Awaitable[object]]
Change = Callable[[Bench, RunSpec], RunSpec]


@dataclass(frozen=True)
class Row:
    """What a guest can do, unless its driver lacks the capability."""

    verb: str
    works: Check
    """Raises Unsupported, and nothing else, if the capability is missing."""
    needs: Capability | None = None
    given: Change | None = None
    """What has to be asked for at the start; not asked for if the capability is missing."""
    inside: bool = False
    """Seen by commands inside alone."""


def _as_it_is(bench: Bench, spec: RunSpec) -> RunSpec:
    return spec


def shown_directory(bench: Bench) -> Path:
    """A directory of the host that guests see."""
    place = bench.directory / "shown"
    place.mkdir(exist_ok=True)
    (place / "seen").write_text("of the host\n")
    return place


# --- every wall ------------------------------------------------------------------------------------------------------


async def _is_measured(bench: Bench, guest: Guest) -> None:
    assert guest.usage().memory > 0 and guest.stats().cpu_ns > 0 and not guest.oom_killed()


async def _is_recorded(bench: Bench, guest: Guest) -> None:
    adopted = await bench.second().find(guest.id)
    assert adopted == guest and adopted is not None and adopted.plan == guest.plan
    assert await bench.second().owned() == (guest.id,)
    assert await bench.second().ending(guest.id) is None


async def _has_a_log(bench: Bench, guest: Guest) -> None:
    lines = await bench.runtime.output(guest.id)
    now = bench.host.clock.now()
    assert lines and all(abs((now - line.at).total_seconds()) < 600 for line in lines)
    assert b"".join(line.data for line in lines) in await bench.runtime.console_log(guest.id)


async def _has_its_network(bench: Bench, guest: Guest) -> None:
    """A NIC comes and goes: as a tap, or as a link in its namespace."""
    if bench.kind.capabilities.shares_kernel:
        assert "lo" in {each.name for each in guest.interfaces()}
        return bench.kind.capabilities.require(Capability.PLUGGED_NICS)
    nic = TapNic(f"iswall{os.getpid() % 0xFFFF:x}", "0a:69:73:00:00:09", "eth9")
    await bench.host.links.create_tap(Tap(nic.link, ""))
    try:
        await guest.plug(nic)
        await _sees(bench, nic.mac, there=True)
        await guest.unplug(nic.link)
        await guest.unplug(nic.link)
        await _sees(bench, nic.mac, there=False)
    finally:
        await bench.host.links.delete(nic.link)


async def _sees(bench: Bench, mac: str, *, there: bool) -> None:
    """Systems of virtual machines name their links themselves, when they have found them."""
    if not bench.has(Capability.EXEC):
        return
    async with asyncio.timeout(60):
        while (mac.encode() in (await bench.run("ip", "link"))[1]) is not there:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


def _with_disks(bench: Bench, spec: RunSpec) -> RunSpec:
    if spec.disks:
        return spec
    file = bench.directory / "given.raw"
    file.write_bytes(bytes(MIB))
    return dataclasses.replace(spec, disks=(Disk("root", file),))


async def _has_disks(bench: Bench, guest: Guest) -> None:
    bench.kind.capabilities.require(Capability.DISKS)
    assert isinstance(guest, WithDisks) and await guest.disks() == {"root"}


async def _gets_disks(bench: Bench, guest: Guest) -> None:
    """They come, grow and go while it runs."""
    bench.kind.capabilities.require(Capability.PLUGGED_DISKS)
    assert isinstance(guest, WithDisks)
    file = bench.directory / "more.raw"
    node = "vdb" if bench.kind.capabilities.root is RootKind.SHARED else "sdb"
    disk = f"/sys/block/{node}"
    file.write_bytes(bytes(8 * MIB))
    await guest.add_disk(Disk("more, 1", file))
    with pytest.raises(AlreadyExists):
        await guest.add_disk(Disk("more, 1", file))
    await _says(bench, b"16384", f"cat {disk}/size")
    assert {"root", "more, 1"} == await guest.disks()
    assert (await bench.run("sh", "-c", f"echo kept > /dev/{node}; sync"))[0] == 0
    assert file.read_bytes().startswith(b"kept\n")
    await guest.resize_disk("more, 1", 16 * MIB)
    await _says(bench, b"32768", f"cat {disk}/size")
    with pytest.raises(InvalidInput):
        await guest.resize_disk("more, 1", 8 * MIB)
    with pytest.raises(NotFound):
        await guest.resize_disk("none", 32 * MIB)
    await guest.remove_disk("more, 1")
    await guest.remove_disk("more, 1")
    await _says(bench, b"gone", f"ls {disk} || echo gone")
    assert {"root"} == await guest.disks()


async def _says(bench: Bench, wanted: bytes, script: str) -> None:
    """Its kernel takes a moment to see a change."""
    async with asyncio.timeout(60):
        while wanted not in (await bench.run("sh", "-c", script))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def _has_memory_of_its_own(bench: Bench, guest: Guest) -> None:
    """It shrinks and grows up to what it was started with."""
    if bench.kind.capabilities.machine is None or not (
        bench.has(Capability.EXEC) and bench.has(Capability.LIVE_LIMITS)
    ):
        return

    async def total() -> int:
        return int((await bench.run("grep", "MemTotal", "/proc/meminfo"))[1].split()[1]) >> 10

    whole = await total()
    await guest.limit(dataclasses.replace(LIMITS, memory=192 * MIB))
    assert 55 <= whole - await total() <= 70
    await guest.limit(LIMITS)
    async with asyncio.timeout(60):
        while await total() < whole - 5:  # noqa: ASYNC110 - the guest's kernel takes it back in a moment
            await asyncio.sleep(0.2)


async def _grows(bench: Bench, guest: Guest) -> None:
    """It gets memory and CPUs that it did not have at its start, uses them, and gives them back."""
    if bench.kind.capabilities.root is not RootKind.SHARED or not bench.real:
        return

    async def has(cpus: str, memory: range) -> bool:
        _, said, _ = await bench.run("sh", "-c", "cat /sys/devices/system/cpu/online; grep MemTotal /proc/meminfo")
        online, _, rest = said.decode().partition("\n")
        return online == cpus and int(rest.split()[1]) >> 10 in memory

    most = len(bench.host.system.cpus())
    more = dataclasses.replace(LIMITS, memory=640 * MIB, vcpus=2)
    before = int((await bench.run("grep", "MemTotal", "/proc/meminfo"))[1].split()[1]) >> 10
    await guest.limit(more)
    assert await has("0-1" if most > 1 else "0", range(before + 380, before + 390))
    await guest.limit(LIMITS)
    assert await has("0", range(before - 5, before + 5))
    with pytest.raises(Unsupported, match="can grow to"):
        await guest.limit(dataclasses.replace(LIMITS, memory=8192 * MIB))


async def _is_confined(bench: Bench, guest: Guest) -> None:
    """The process of the host that runs it has no rights, and nothing of the host but what it was given."""
    if bench.kind.capabilities.machine is not None:
        assert guest.plan is not None and guest.plan.idmap is not None
        confined(guest.number, guest.plan.idmap)


def confined(pid: int, ids: IdRange) -> None:
    """A process of the host has no rights, and namespaces of its own."""
    status = Path(f"/proc/{pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status and "CapBnd:\t0000000000000000" in status and "Seccomp:\t2" in status
    uid = int(status.split("Uid:\t")[1].split()[0])
    assert uid in range(ids.base + 1, ids.base + ids.size)
    for kind in ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup"):
        own, ours = (Path(f"/proc/{each}/ns/{kind}").stat().st_ino for each in (pid, "self"))
        assert own != ours, kind


# --- inside ----------------------------------------------------------------------------------------------------------


async def _executes(bench: Bench, guest: Guest) -> None:
    script = "cat; echo err >&2; echo $GIVEN $(hostname); exit 5"
    execution = ExecSpec(("sh", "-c", script), {**PATH, "GIVEN": "value"})
    running = await guest.exec(execution)
    try:
        await running.stdin.write(b"in\n")
        running.stdin.close()
        async with asyncio.timeout(60):
            out, err, status = await asyncio.gather(
                everything(running.stdout), everything(running.stderr), running.wait()
            )
    finally:
        await running.close()
    assert (status, out, err) == (5, b"in\nvalue host-one\n", b"err\n")
    assert (await bench.run("id", "-u", user=33, group=34))[1] == b"33\n"
    assert (await bench.run("pwd", cwd="/etc"))[1] == b"/etc\n"
    assert (await bench.run("nothing"))[0] == 127


async def _executes_interactively(bench: Bench, guest: Guest) -> None:
    script = 'while read -r size; do until [ "$(stty size)" = "$size" ]; do sleep 0.05; done; echo "is $size"; done'
    spec = ExecSpec(("sh", "-c", f"{script}; exit 6"), PATH, terminal=True, width=100, height=40)
    execution = await guest.exec(spec)
    try:
        await execution.stdin.write(b"40 100\r")
        await until(execution.stdout, b"is 40 100")
        execution.resize(120, 50)
        await execution.stdin.write(b"50 120\r")
        await until(execution.stdout, b"is 50 120")
        await execution.stdin.write(b"\x04")
        async with asyncio.timeout(60):
            assert await execution.wait() == 6
    finally:
        await execution.close()


async def _signals_commands(bench: Bench, guest: Guest) -> None:
    script = "trap 'exit 55' TERM; echo ready; while true; do sleep 0.05; done"
    execution = await guest.exec(ExecSpec(("sh", "-c", script), PATH))
    try:
        await until(execution.stdout, b"ready")
        await execution.signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            assert await execution.wait() == 55
    finally:
        await execution.close()


async def _has_files(bench: Bench, guest: Guest) -> None:
    async def content() -> object:
        yield b"from outside\n"

    async with guest.files() as root:
        found = await root.stat("/etc/passwd")
        assert (found.uid, found.kind) == (0, "file")
        await root.write("/tmp/given", content(), uid=33, gid=34, mode=0o640)  # type: ignore[arg-type]
        if bench.has(Capability.EXEC):
            assert (await bench.run("cat", "/tmp/given"))[1] == b"from outside\n"
            assert (await bench.run("sh", "-c", "ls -ln /tmp/given"))[1].split()[2:4] == [b"33", b"34"]
        assert b"".join([block async for block in await root.read("/tmp/given")]) == b"from outside\n"
        await root.remove("/tmp/given")


async def _has_a_console(bench: Bench, guest: Guest) -> None:
    console = await guest.console()
    wanted = b"typed word 33 99\r\n" if bench.has(Capability.EXEC) else b"word\n"
    if bench.kind.capabilities.root is RootKind.DISKS:
        wanted = b"typed word\r\n"  # a serial port has no size
    try:
        await guest.resize_console(99, 33)
        async with asyncio.timeout(60):
            while wanted not in await bench.runtime.console_log(guest.id):
                await console.write(b"word\n")  # its read gives up after a moment, also within a word on a busy host
                await asyncio.sleep(0.3)
    finally:
        console.close()


async def _has_a_screen(bench: Bench, guest: Guest) -> None:
    (await guest.display()).close()


async def _has_firmware(bench: Bench, guest: Guest) -> None:
    bench.kind.capabilities.require(Capability.FIRMWARE)  # what it is for is asked for above the drivers


async def _is_signalled(bench: Bench, guest: Guest) -> None:
    await guest.signal(signal.SIGCONT)


async def _is_paused(bench: Bench, guest: Guest) -> None:
    await guest.pause()
    assert guest.frozen()
    adopted = await bench.second().find(guest.id)
    assert adopted is not None and adopted.frozen()
    if bench.has(Capability.EXEC):
        try:
            await guest.exec(ExecSpec(("true",), PATH))
            raise AssertionError("a command runs in a paused guest")
        except WrongState:
            pass
    await guest.resume()
    await guest.resume()
    assert not guest.frozen()


async def _is_limited(bench: Bench, guest: Guest) -> None:
    assert guest.plan is not None
    before = guest.plan.limits
    await guest.limit(dataclasses.replace(before, cpu_time=(50_000, 100_000)))
    await guest.limit(before)


# --- what it is given ------------------------------------------------------------------------------------------------


def _with_mounts(bench: Bench, spec: RunSpec) -> RunSpec:
    host = Mount("/mnt/host", str(shown_directory(bench)), read_only=True)
    return dataclasses.replace(spec, mounts=(*spec.mounts, host, _MEMORY))


async def _has_mounts(bench: Bench, guest: Guest) -> None:
    before = await guest.mounts()
    async with bench.host.guest_mounts.prepare(Graft(shown_directory(bench), read_only=True)) as tree:
        await guest.mount(tree, "/mnt/later")
    assert tree.number in await guest.mounts()
    if bench.has(Capability.EXEC):
        for place in ("/mnt/host", "/mnt/later"):
            assert (await bench.run("cat", f"{place}/seen"))[1] == b"of the host\n"
            assert (await bench.run("sh", "-c", f"echo x > {place}/new"))[0] != 0
        assert (await bench.run("sh", "-c", "echo x > /mnt/memory/new"))[0] == 0
    await guest.unmount(tree.number)
    assert await guest.mounts() == before


def _with_devices(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, devices=(DeviceNode("/dev/net/tun", "c", 10, 200, 0o666),))


async def _has_devices(bench: Bench, guest: Guest) -> None:
    await guest.let_open(DeviceNumber(True, 10, 200), allowed=True)
    assert (await bench.run("test", "-c", "/dev/net/tun"))[0] == 0


async def _has_sockets(bench: Bench, guest: Guest) -> None:
    with guest.root():
        pass


async def _shares_namespaces(bench: Bench, guest: Guest) -> None:
    assert guest.plan is not None
    spec = bench.spec("two", network=guest.plan.network, nics=(), shares={Shareable.IPC: "one"}, limits=LIMITS)
    await _second_guest(bench, spec)


async def _has_privileges(bench: Bench, guest: Guest) -> None:
    for more in ({"idmap": PRIVILEGED}, {"host_namespaces": (Shareable.UTS,)}):
        await _second_guest(bench, bench.spec("two", limits=LIMITS, nics=(), **more))


async def _second_guest(bench: Bench, spec: RunSpec) -> None:
    """What cannot be given to it is refused before anything happens."""
    try:
        await bench.launch(spec)
    except Unsupported:
        assert await bench.runtime.owned() == ("one",)
        raise
    await bench.runtime.remove("two")


def _with_capabilities(bench: Bench, spec: RunSpec) -> RunSpec:
    confinement = dataclasses.replace(spec.confinement, add=("NET_ADMIN",), drop=("NET_RAW",))
    return dataclasses.replace(spec, confinement=confinement)


async def _has_capabilities(bench: Bench, guest: Guest) -> None:
    found = int(await _of_first_process(bench, "CapEff"), 16)
    assert found >> 12 & 1 and not found >> 13 & 1


def _with_filters(bench: Bench, spec: RunSpec) -> RunSpec:
    confinement = dataclasses.replace(spec.confinement, no_new_privileges=True, masked=("/proc/version",))
    return dataclasses.replace(spec, confinement=confinement)


async def _has_filters(bench: Bench, guest: Guest) -> None:
    assert await _of_first_process(bench, "NoNewPrivs") == "1"
    assert (await bench.run("cat", "/proc/version"))[1] == b""


def _with_system_calls(bench: Bench, spec: RunSpec) -> RunSpec:
    """All but one."""
    calls = tuple(sorted({*NAMES.values()} - {"chroot"}))
    return dataclasses.replace(spec, confinement=dataclasses.replace(spec.confinement, system_calls=calls))


async def _has_system_calls(bench: Bench, guest: Guest) -> None:
    """Of the program and what it starts: an engine may leave out commands that are run beside it."""
    assert await _of_first_process(bench, "Seccomp") == "2"


def _with_ports(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, limits=dataclasses.replace(spec.limits, connects=("tcp/1",)))


async def _has_ports(bench: Bench, guest: Guest) -> None:
    """Its loopback is the host's, or within a kernel that the host does not see."""
    _, output, _ = await bench.run("sh", "-c", "wget -O /tmp/page http://127.0.0.1:2/ 2>&1")
    seen = bench.kind.capabilities.unrecordable is None
    assert (b"not permitted" in output, dict(guest.refused_ports())) == (seen, {"connect tcp/2": 1} if seen else {})


def _with_umask(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, umask=0o27)


async def _has_an_umask(bench: Bench, guest: Guest) -> None:
    assert await _of_first_process(bench, "Umask") == "0027"


def _with_sysctls(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, sysctls={"kernel.shm_rmid_forced": "1"})


async def _has_sysctls(bench: Bench, guest: Guest) -> None:
    assert (await bench.run("cat", "/proc/sys/kernel/shm_rmid_forced"))[1] == b"1\n"


def _can_lower(bench: Bench) -> bool:
    """runc needs a capability to lower a limit of another process, crun lets that process do it."""
    return bench.param != "runc" or "CAP_SYS_RESOURCE" in bench.host.system.capabilities()


def _with_ulimits(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, ulimits={"nofile": (500, 600)} if _can_lower(bench) else {})


async def _has_ulimits(bench: Bench, guest: Guest) -> None:
    if _can_lower(bench):
        assert (await bench.run("sh", "-c", "ulimit -n; ulimit -Hn"))[1] == b"500\n600\n"


def _with_process_limit(bench: Bench, spec: RunSpec) -> RunSpec:
    return dataclasses.replace(spec, limits=dataclasses.replace(spec.limits, processes=60))


async def _has_a_process_limit(bench: Bench, guest: Guest) -> None:
    """It holds, and the guest outlives it."""
    assert b"all" not in (await bench.run("sh", "-c", _BUSY))[1]
    async with asyncio.timeout(60):
        while guest.usage().processes > _FEW or not await _answers(bench):  # noqa: ASYNC110
            await asyncio.sleep(0.2)  # commands of the next row need room too


async def _answers(bench: Bench) -> bool:
    try:
        return (await bench.run("true"))[0] == 0
    except HostFailure:
        return False


async def _of_first_process(bench: Bench, field: str) -> str:
    _, text, _ = await bench.run("cat", "/proc/1/status")
    return next(line.partition(":")[2].strip() for line in text.decode().splitlines() if line.startswith(f"{field}:"))


async def _reboots(bench: Bench, guest: Guest) -> None:
    """The last one."""
    bench.kind.capabilities.require(Capability.REBOOT)
    execution = await guest.exec(ExecSpec(("kill", "-HUP", "1"), PATH))
    try:
        async with asyncio.timeout(60):
            assert await guest.ended() == 128 + signal.SIGHUP
    finally:
        await execution.close()


NEEDED = Capability
ROWS = (
    Row("stats", _is_measured),
    Row("restart of the daemon", _is_recorded),
    Row("logs", _has_a_log),
    Row("network", _has_its_network, NEEDED.PLUGGED_NICS),
    Row("disks", _has_disks, NEEDED.DISKS, _with_disks),
    Row("disks while it runs", _gets_disks, NEEDED.PLUGGED_DISKS),
    Row("confinement of the hypervisor", _is_confined),
    Row("memory", _has_memory_of_its_own),
    Row("growth", _grows),
    Row("exec", _executes, NEEDED.EXEC),
    Row("exec -it", _executes_interactively, NEEDED.EXEC),
    Row("signals to commands", _signals_commands, NEEDED.EXEC),
    Row("files", _has_files, NEEDED.FILES),
    Row("console", _has_a_console, NEEDED.CONSOLE),
    Row("screen", _has_a_screen, NEEDED.DISPLAY),
    Row("firmware", _has_firmware, NEEDED.FIRMWARE),
    Row("kill", _is_signalled, NEEDED.SIGNAL),
    Row("pause and resume", _is_paused, NEEDED.PAUSE),
    Row("limits", _is_limited, NEEDED.LIVE_LIMITS),
    Row("volumes", _has_mounts, NEEDED.MOUNTS, _with_mounts),
    Row("devices", _has_devices, NEEDED.DEVICES, _with_devices),
    Row("sockets", _has_sockets, NEEDED.SOCKETS),
    Row("shared namespaces", _shares_namespaces, NEEDED.SHARED_NAMESPACES),
    Row("privileges", _has_privileges, NEEDED.PRIVILEGES),
    Row("capabilities", _has_capabilities, NEEDED.CONFINEMENT, _with_capabilities, inside=True),
    Row("filters", _has_filters, NEEDED.FILTERS, _with_filters, inside=True),
    Row("system calls", _has_system_calls, NEEDED.SYSTEM_CALLS, _with_system_calls, inside=True),
    Row("ports", _has_ports, NEEDED.PORTS, _with_ports, inside=True),
    Row("umask", _has_an_umask, NEEDED.UMASK, _with_umask, inside=True),
    Row("sysctls", _has_sysctls, NEEDED.SYSCTLS, _with_sysctls, inside=True),
    Row("ulimits", _has_ulimits, NEEDED.ULIMITS, _with_ulimits, inside=True),
    Row("process limit", _has_a_process_limit, NEEDED.PROCESS_LIMIT, _with_process_limit, inside=True),
    Row("checkpoint", is_saved, NEEDED.CHECKPOINT),
    Row("reboot", _reboots, NEEDED.REBOOT),
)
