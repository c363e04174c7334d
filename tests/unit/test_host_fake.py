"""The fakes of one host agree with each other."""

import asyncio
import signal
from pathlib import Path

import pytest

from isola.model.instance import InterfaceState
from isola.model.limits import Limits
from isola.testing.host import FakeHost, fake_host
from isola.testing.processes import Call
from isola.testing.system import FakeSystem


@pytest.fixture
async def host() -> FakeHost:
    return fake_host(system=FakeSystem(cpu_count=4))


async def test_a_killed_group_ends_its_processes(host: FakeHost) -> None:
    process = host.processes.add("init")
    await host.cgroups.create("/isola/one")
    await host.cgroups.enter("/isola/one", process.ref)
    await host.cgroups.kill("/isola")
    assert await process.wait() == -signal.SIGKILL
    assert not host.processes.alive(process.ref)


async def test_a_process_that_ends_leaves_group_and_namespace(host: FakeHost) -> None:
    process = host.processes.add("init")
    host.namespaces.set_interfaces(process.ref, InterfaceState("eth0"))
    await host.cgroups.create("/isola/one")
    await host.cgroups.enter("/isola/one", process.ref)
    process.end(3)
    await asyncio.sleep(0)
    assert not host.cgroups.processes("/isola/one")
    assert host.namespaces.interfaces(process.ref) == ()


async def test_pids_may_be_reused(host: FakeHost) -> None:
    first = host.processes.add("old", pid=77)
    first.end()
    second = host.processes.add("new", pid=77)
    assert host.processes.identify(77) == second.ref
    assert not host.processes.signal(first.ref, signal.SIGKILL)
    assert host.processes.command_line(second.ref) == ("new",)


async def test_cpus_of_host_and_groups_are_the_same(host: FakeHost) -> None:
    await host.cgroups.create("/isola/one")
    await host.cgroups.limit("/isola/one", Limits(cpus=(3,)))
    assert len(host.system.cpus()) == 4


async def test_a_spawned_program_talks_over_the_descriptors_it_was_given() -> None:
    machine: FakeHost

    async def shout(call: Call) -> int:
        stdin, stdout, _ = call.descriptors
        assert stdin is not None and stdout is not None
        source, target = machine.sockets.far(stdin), machine.sockets.far(stdout)
        while block := await source.read():
            await target.write(block.upper())
        target.close()
        return 7

    machine = fake_host(programs={"shout": shout})
    into, out = machine.sockets.pipe_to_child(), machine.sockets.pipe_from_child()
    child = await machine.processes.spawn(["shout"], stdin=into.remote, stdout=out.remote)
    await asyncio.sleep(0)
    into.close_remote()
    out.close_remote()
    await into.stream.write(b"hello")
    into.stream.close()
    assert await out.stream.read() == b"HELLO"
    assert await child.wait() == 7


async def test_ignored_signals_do_not_end_a_process(host: FakeHost) -> None:
    process = host.processes.add("init")
    process.ignores.add(signal.SIGTERM)
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGWINCH)
    assert process.running
    assert process.received == [signal.SIGTERM, signal.SIGWINCH]
    process.signal(signal.SIGKILL)
    assert await process.wait() == -signal.SIGKILL


async def test_files_mounts_and_archives_share_one_tree(host: FakeHost) -> None:
    await host.files.make_directory(Path("/var/lib/isola"))
    await host.files.write(Path("/var/lib/isola/key"), b"value")
    assert await host.files.read(Path("/var/lib/isola/key")) == b"value"
    assert not await host.mounts.mounted(Path("/var/lib/isola"))
