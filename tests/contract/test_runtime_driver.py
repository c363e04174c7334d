"""The contract of runtime drivers for the life cycle of guests: for the fake and each engine that works here."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest
from runtime_bench import (
    IDMAP,
    PATH,
    Bench,
    booted,
    booted_as_fake,
    finish,
    operations,
    shown,
)
from stopwatch import Stopwatch

from isola.errors import AlreadyExists, HostFailure, IsolaError, Unsupported, WrongState
from isola.model.identity import PRIVILEGED
from isola.model.network import HostNetwork, HostTap, NetworkNamespace
from isola.operations import Operation
from isola.runtimes import (
    Capability,
    ExecSpec,
    Mount,
    Root,
    RootKind,
    RunSpec,
    Shareable,
)
from isola.runtimes.oci.guest import OciGuest
from isola.testing.runtime import FakeRuntime

# --- lifecycle -----------------------------------------------------------------------------------------------------


async def test_a_started_guest_runs_and_is_recorded(bench: Bench) -> None:
    # runc needs a capability to lower a limit of another process, crun lets that process do it.
    able = bench.param != "runc" or "CAP_SYS_RESOURCE" in bench.host.system.capabilities()
    ulimits = {"nofile": (512, 1024)} if able else {}
    spec = bench.spec(environment={"PATH": "/bin", "A": "b"}, ulimits=ulimits)
    guest = await bench.launch(spec)
    assert (guest.id, guest.plan, guest.frozen()) == ("one", spec, False)
    booted_as_fake(bench)
    await shown(bench, lambda log: b"booted host-one\r\n" in log)
    adopted = await bench.second().find("one")
    assert adopted == guest and adopted is not None and adopted.plan == spec
    assert guest.number > 0 or not bench.has(Capability.SIGNAL)
    assert "lo" in {interface.name for interface in guest.interfaces()}
    if bench.real and able:
        assert (await bench.run("sh", "-c", "ulimit -n"))[1] == b"512\n"


async def test_missing_capabilities_have_a_reason(bench: Bench) -> None:
    for capability in Capability:
        if bench.has(capability):
            bench.kind.capabilities.require(capability)
        else:
            with pytest.raises(Unsupported, match=r"\w+ \w+"):
                bench.kind.capabilities.require(capability)
    guest = await bench.launch(bench.spec())
    if not bench.has(Capability.SIGNAL):
        with pytest.raises(Unsupported):
            await guest.signal(signal.SIGTERM)
    other = bench.spec("two", root=Root(bench.root, RootKind.DISKS))
    with pytest.raises(Unsupported):
        await bench.launch(other)
    ends = HostTap() if bench.kind.capabilities.shares_kernel else NetworkNamespace(bench.directory / "netns")
    with pytest.raises(Unsupported):
        await bench.launch(bench.spec("two", network=ends))
    if bench.real and not bench.has(Capability.PRIVILEGES):
        for more in ({"network": HostNetwork()}, {"idmap": PRIVILEGED}, {"host_namespaces": (Shareable.PID,)}):
            with pytest.raises(Unsupported):
                await bench.launch(bench.spec("two", **more))
    assert await bench.runtime.owned() == ("one",)


async def test_files_are_those_the_guest_sees(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    async with guest.files() as root:
        assert (await root.stat("/etc/passwd")).uid == 0
        assert b"".join([block async for block in await root.read("/etc/group")]).startswith(b"root:x:0:")
    bench.end("one", 0)
    await bench.runtime.remove("one")
    with pytest.raises(WrongState):
        async with guest.files():
            pass
    assert guest.interfaces() == () and guest.usage().memory == 0


async def test_a_guest_stops_cleanly(bench: Bench) -> None:
    guest = await bench.launch(bench.spec(stop_signal=signal.SIGTERM))
    if bench.real:
        await booted(bench)
    await guest.request_stop()
    async with asyncio.timeout(60):
        assert await guest.ended() == {"fake": 143, "fake-vm": 0}.get(bench.param, 3)
    await guest.request_stop()


async def test_without_a_terminal_there_is_a_log_and_no_console(bench: Bench) -> None:
    guest = await bench.launch(bench.spec(terminal=False, command=("/bin/sh", "-c", "echo out; echo err >&2; sleep 9")))
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.show("one", b"out\nerr\n")
    await shown(bench, lambda log: sorted(log.splitlines()) == [b"err", b"out"])
    for verb in (guest.console(), guest.resize_console(80, 25)):
        with pytest.raises(Unsupported):
            await verb


async def test_requested_mounts_and_sysctls_are_set(bench: Bench) -> None:
    if not bench.real:
        return
    directory = bench.directory / "shown"
    directory.mkdir()
    (directory / "seen").write_text("from the host")
    mounts = (
        Mount("/mnt/host", str(directory), read_only=True),
        Mount("/mnt/memory", kind="tmpfs", options=("size=64k", "mode=0777")),
    )
    sysctls = {"kernel.shm_rmid_forced": "1"}
    if not bench.has(Capability.SYSCTLS):
        with pytest.raises(Unsupported):
            await bench.launch(bench.spec(mounts=mounts, sysctls=sysctls))
        sysctls = {}
    await bench.launch(bench.spec(mounts=mounts, sysctls=sysctls))
    assert (await bench.run("cat", "/mnt/host/seen"))[1] == b"from the host"
    assert (await bench.run("sh", "-c", "echo x > /mnt/host/new"))[0] != 0
    assert (await bench.run("sh", "-c", "echo x > /mnt/memory/new"))[0] == 0
    if sysctls:
        assert (await bench.run("cat", "/proc/sys/kernel/shm_rmid_forced"))[1] == b"1\n"
    assert os.listdir(directory) == ["seen"]


async def test_guests_of_one_pod_share_namespaces(bench: Bench) -> None:
    if not bench.real:
        return
    if not bench.has(Capability.SHARED_NAMESPACES):
        with pytest.raises(Unsupported):
            await bench.launch(bench.spec("two", shares={Shareable.PID: "one"}))
        return
    namespace = NetworkNamespace(bench.directory / "netns" / "pod")
    await bench.host.namespaces.make_network(namespace.path, IDMAP)
    try:
        with pytest.raises(WrongState):
            await bench.launch(bench.spec("two", network=namespace, shares={Shareable.PID: "one"}))
        await bench.launch(bench.spec(network=namespace, command=("/bin/sleep", "1234")))
        shares = {Shareable.PID: "one", Shareable.IPC: "one"}
        await bench.launch(bench.spec("two", network=namespace, shares=shares, command=("/bin/sleep", "2345")))
        assert b"sleep 1234" in (await bench.run("ps", id="two"))[1]
        assert (await bench.run("sh", "-c", "echo shared > /dev/shm/file", id="two"))[0] == 0
        assert (await bench.run("cat", "/dev/shm/file"))[1] == b"shared\n"
        await bench.runtime.remove("two")
        assert (await bench.run("true"))[0] == 0
    finally:
        for id in ("two", "one"):
            await bench.runtime.remove(id)
        await bench.host.namespaces.remove_network(namespace.path)


async def test_a_second_create_is_refused_without_effect(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    with pytest.raises(AlreadyExists):
        await bench.launch(bench.spec())
    assert await bench.runtime.find("one") == guest


async def test_a_missing_program_is_an_error_and_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(HostFailure) as caught:
        await bench.launch(bench.spec(command=("/no/such/program",)))
    assert "no such file or directory" in str(caught.value).lower()
    assert await bench.runtime.owned() == ()
    assert await bench.runtime.find("one") is None


async def test_another_object_adopts_running_guests(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    adopted = bench.second()
    assert await adopted.find("one") == guest
    assert await adopted.owned() == ("one",)
    execution = await (await bench.guest()).exec(ExecSpec(("cat",), PATH))
    assert await finish(execution, b"hello") == (0, b"hello", b"")
    await adopted.remove("one")
    assert await bench.runtime.find("one") is None


async def test_ended_returns_the_exit_status(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    adopted = await bench.second().find("one")
    assert adopted is not None
    waiting = [asyncio.ensure_future(each.ended()) for each in (guest, adopted)]
    if bench.real:
        await booted(bench)
    bench.end("one", 3)
    await guest.request_stop()
    async with asyncio.timeout(60):
        assert await asyncio.gather(*waiting) == [3, 3]
    assert await bench.runtime.find("one") is None
    await guest.request_stop()
    await bench.runtime.remove("one")


async def test_a_reboot_is_distinguished_from_a_halt(bench: Bench) -> None:
    if not bench.has(Capability.REBOOT):
        return
    guest = await bench.launch(bench.spec())
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.reboot("one")
    else:
        await booted(bench)
        await guest.signal(signal.SIGHUP)
    async with asyncio.timeout(60):
        assert await guest.ended() == 129
        ending = await bench.second().ending("one")
        assert ending is not None and ending.status == 129


async def test_the_exit_status_stays_until_the_run_is_removed(bench: Bench) -> None:
    """Another daemon reads it, also in the moment in which the first process ends."""
    assert await bench.runtime.ending("one") is None
    guest = await bench.launch(bench.spec())
    second = bench.second()
    assert await second.ending("one") is None
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.end("one", 137)
    else:
        await booted(bench)
        assert isinstance(guest, OciGuest)
        await guest.signal(signal.SIGKILL)
        await bench.host.processes.gone(guest.processes.init)
    ending = await second.ending("one")
    assert ending is not None and (ending.status, ending.oom_killed) == (137, False)
    assert abs((bench.host.clock.now() - ending.at).total_seconds()) < 60
    await bench.runtime.remove("one")
    assert await second.ending("one") is None


async def test_a_running_guest_is_settled_soon(bench: Bench) -> None:
    await settles_within(bench, bench.spec(), 0.5)


TRIES = 6
"""On a busy host a program may get no CPU for as long as its start is watched."""


async def settles_within(bench: Bench, spec: RunSpec, seconds: float) -> None:
    for _ in range(TRIES):
        guest = await bench.launch(spec)
        watch = Stopwatch()
        assert await guest.settled() is None
        if (took := watch.seconds()) < seconds:
            return
        await bench.runtime.remove(spec.id)
    raise AssertionError(f"it took {took:.2f} s")


BUSY = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done;"
ENDS = {
    "at once": ("echo last output; exit 3", 3),
    "done": ("exit 0", 0),
    "after some work": (f"{BUSY} echo last output; exit 4", 4),
    "halts": ("trap 'exec reboot -f' HUP; kill -HUP 1; sleep 1", 129),
}


@pytest.mark.parametrize("how", ENDS)
async def test_a_system_that_ends_at_once_has_an_exit_status(bench: Bench, how: str) -> None:
    script, status = ENDS[how]
    if how == "halts" and not bench.has(Capability.REBOOT):
        return
    for _ in range(TRIES):
        guest = await bench.launch(bench.spec(command=("/bin/sh", "-c", script)))
        bench.end("one", status)
        if (found := await guest.settled()) is not None:
            break
        assert await guest.ended() == status
        await bench.runtime.remove("one")
    assert found == status
    if bench.real and "echo" in script:
        assert b"last output" in await bench.runtime.console_log("one")


async def test_a_program_that_cannot_be_run_ends_with_a_status(bench: Bench) -> None:
    if not bench.real:
        return
    script = bench.root / "bin/orphan"
    script.write_text("#!/bin/no-such-interpreter\n")
    script.chmod(0o755)
    for system in (True, False):
        try:
            guest = await bench.launch(bench.spec(command=("/bin/orphan",), system=system))
        except HostFailure:
            continue  # an engine that checks the program itself
        assert await guest.settled() not in (None, 0)
        await bench.runtime.remove("one")


async def test_a_waiting_program_is_settled(bench: Bench) -> None:
    await settles_within(bench, bench.spec(command=("/bin/cat",)), 0.9)
    await bench.runtime.remove("one")
    guest = await bench.launch(bench.spec(command=("/bin/sh", "-c", f"{BUSY * 5} exit 5"), system=False))
    assert await guest.settled() is None, "a single program may end at any time"


async def test_killed_is_137(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    if not bench.has(Capability.SIGNAL):
        return
    await guest.signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await guest.ended() == 137


async def test_remove_kills_and_repeats(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    ended = asyncio.ensure_future(guest.ended())
    await bench.runtime.remove("one")
    await bench.runtime.remove("one")
    async with asyncio.timeout(60):
        assert await ended == 137
    await bench.launch(bench.spec())


async def test_several_instances_are_separate(bench: Bench) -> None:
    await asyncio.gather(*(bench.launch(bench.spec(f"i{number}")) for number in range(3)))
    assert await bench.runtime.owned() == ("i0", "i1", "i2")
    await bench.runtime.remove("i1")
    assert await bench.runtime.owned() == ("i0", "i2")
    assert (await bench.run("true", id="i2"))[0] == 0


async def test_pause_and_resume(bench: Bench) -> None:
    await bench.launch(bench.spec())
    guest = await bench.guest()
    await guest.pause()
    adopted = await bench.second().find("one")
    assert adopted is not None and adopted.frozen()
    with pytest.raises(WrongState):
        await (await bench.guest()).exec(ExecSpec(("true",), PATH))
    await guest.resume()
    assert not guest.frozen()
    assert (await bench.run("true"))[0] == 0


async def test_a_frozen_instance_can_be_removed(bench: Bench) -> None:
    await bench.launch(bench.spec())
    await (await bench.guest()).pause()
    await bench.runtime.remove("one")
    assert await bench.runtime.owned() == ()


async def test_verbs_on_stopped_guests_are_refused(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    await bench.runtime.remove("one")
    for verb in (
        guest.exec(ExecSpec(("true",), PATH)),
        guest.console(),
        guest.pause(),
        guest.resize_console(80, 25),
    ):
        with pytest.raises(WrongState):
            await verb
    assert guest.usage().memory == 0 and not guest.frozen()
    await guest.resume()
    await bench.runtime.clear_console_log("one")


async def test_a_given_network_namespace_is_administered_from_inside(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    namespace = NetworkNamespace(bench.directory / "netns" / "one")
    await bench.host.namespaces.make_network(namespace.path, IDMAP)
    try:
        for system in (True, False):
            await bench.launch(bench.spec(network=namespace, system=system))
            if system:  # a single program may not configure links
                assert (await bench.run("ip", "link", "set", "lo", "up"))[0] == 0
            status, out, _ = await bench.run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
            assert (status, out) == (0, b"1024\n" if system else b"0\n")
            assert (await bench.run("ip", "addr", "show", "lo"))[1].count(b"127.0.0.1") == 1, "it outlives a run"
            await bench.runtime.remove("one")
            assert bench.host.namespaces.has_network(namespace.path)
    finally:
        await bench.host.namespaces.remove_network(namespace.path)


async def test_a_router_beside_a_configured_one_is_no_obstacle(bench: Bench) -> None:
    if not bench.real or not bench.runtime.capabilities.shares_kernel:
        return
    namespace = NetworkNamespace(bench.directory / "netns" / "one")
    await bench.host.namespaces.make_network(namespace.path, IDMAP)
    ip = ["nsenter", f"--net={namespace.path}", "ip", "-6"]
    try:
        for command in (
            "link add eth0 type veth peer name other",
            "link set other up",
            "link set eth0 up",
            "addr add fd42::2/64 dev eth0 nodad",
            "route add default via fd42::1 dev eth0 metric 100",
            "route add default via fe80::1 dev eth0 proto ra metric 1024",
        ):
            await bench.host.processes.run([*ip, *command.split()])
        await bench.launch(bench.spec(network=namespace))
        left = (await bench.host.processes.run([*ip, "route", "show", "default"])).stdout.decode()
        # A stack of its own takes one over, and IPv6 of the host's ends with it.
        assert left.count("default") == (2 if bench.has(Capability.PLUGGED_NICS) else 0)
        if not bench.has(Capability.PLUGGED_NICS):
            assert (await bench.run("ip", "-6", "addr", "show", "eth0"))[1].count(b"fd42::2") == 1
    finally:
        await bench.runtime.remove("one")
        await bench.host.namespaces.remove_network(namespace.path)


async def test_the_network_namespace_of_a_run_can_be_kept(bench: Bench) -> None:
    namespace, again = (NetworkNamespace(bench.directory / "netns" / name) for name in ("one", "again"))
    if not bench.runtime.capabilities.shares_kernel:
        with pytest.raises(Unsupported):
            await (await bench.launch(bench.spec())).keep_network(again)
        return
    await bench.host.namespaces.make_network(namespace.path, IDMAP)
    try:
        guest = await bench.launch(bench.spec(network=namespace))
        await bench.host.namespaces.remove_network(namespace.path)  # processes in it keep it
        await guest.keep_network(again)
        assert bench.host.namespaces.has_network(again.path)
        await bench.runtime.remove("one")
        with pytest.raises(WrongState):
            await guest.keep_network(namespace)
    finally:
        for file in (namespace.path, again.path):
            await bench.host.namespaces.remove_network(file)


# --- rollback ----------------------------------------------------------------------------------------------------


class Interrupt:
    """Fails or cancels an operation at its n-th point."""

    def __init__(self, at: int, how: str) -> None:
        self.at, self.how, self.seen = at, how, 0

    async def reached(self, operation: Operation, point: str) -> None:
        self.seen += 1
        if self.seen - 1 == self.at and not operation.committed:
            if self.how == "cancel":
                operation.cancel()
                await asyncio.sleep(0)
            else:
                raise HostFailure(f"injected at {point}")


@pytest.mark.parametrize("how", ["fail", "cancel"])
async def test_nothing_remains_whichever_point_fails(bench: Bench, how: str) -> None:
    at = 0
    while True:
        interrupt = Interrupt(at, how)
        bench.operations = operations(bench.host, interrupt)
        try:
            await bench.launch(bench.spec())
        except (IsolaError, asyncio.CancelledError):
            assert await bench.runtime.owned() == ()
            assert await bench.runtime.find("one") is None
        else:
            if interrupt.seen <= at:
                break
            await bench.runtime.remove("one")
        at += 1
    assert at > 4
