"""The contract of runtime drivers for instances that use namespaces, ids and devices of the host."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from applications import application, has
from runtime_bench import Bench

from isola.model.confinement import Confinement
from isola.model.identity import PRIVILEGED, IdRange
from isola.model.network import HostNetwork
from isola.runtimes import Capability, DeviceNode, Shareable

_SYS_ADMIN, _SYS_MODULE = 21, 16
ALL = Confinement(add=("ALL",), seccomp="unconfined", masked=(), read_only=(), device_rules=("a *:* rwm",))


def own(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}")


async def of(bench: Bench, kind: str) -> str:
    """The namespace of the first process, as the host sees it."""
    return os.readlink(f"/proc/{(await bench.guest()).number}/ns/{kind}")


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("net", {"network": HostNetwork()}),
        ("pid", {"host_namespaces": (Shareable.PID,)}),
        ("ipc", {"host_namespaces": (Shareable.IPC,)}),
        ("uts", {"host_namespaces": (Shareable.UTS,)}),
    ],
    ids=["network", "pid", "ipc", "uts"],
)
async def test_a_namespace_is_the_host_s_and_the_others_are_not(
    bench: Bench, kind: str, more: dict[str, object]
) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    await bench.launch(application(bench, **more))
    for each in ("net", "pid", "ipc", "uts", "mnt", "user", "cgroup"):
        assert (await of(bench, each) == own(each)) == (each == kind), each
    assert (await bench.run("ls", "/sys/kernel", "/dev/shm"))[0] == 0


@pytest.mark.parametrize("idmap", [None, PRIVILEGED], ids=["unprivileged", "privileged"])
async def test_what_the_host_has_below_sys_is_not_writable_in_its_network(bench: Bench, idmap: IdRange | None) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    more = {} if idmap is None else {"idmap": idmap}
    await bench.launch(application(bench, network=HostNetwork(), **more))
    lines = (await bench.run("cat", "/proc/self/mounts"))[1].decode().splitlines()
    below = [line.split() for line in lines if line.split()[1].startswith("/sys") and "lxcfs" not in line]
    writable = {place for _, place, _, options, *_ in below if "rw" in options.split(",")}
    assert writable == ({"/sys", "/sys/fs/cgroup"} if idmap is PRIVILEGED else set()), below
    if idmap is PRIVILEGED:
        assert {place for _, place, *_ in below} == {"/sys", "/sys/fs/cgroup", "/sys/firmware"}, "what was made for it"


async def test_processes_of_the_host_are_seen_and_not_touched(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    await bench.launch(application(bench, host_namespaces=(Shareable.PID,)))
    mine = str(os.getpid())
    assert (await bench.run("cat", f"/proc/{mine}/comm"))[0] == 0
    assert (await bench.run("kill", "-0", mine))[0] != 0


async def test_shared_memory_of_the_host_is_seen(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    name = Path("/dev/shm") / f"isola-test-{os.getpid()}"
    name.write_text("from the host")
    try:
        name.chmod(0o644)
        await bench.launch(application(bench, host_namespaces=(Shareable.IPC,)))
        assert (await bench.run("cat", str(name)))[1] == b"from the host"
    finally:
        name.unlink()


async def test_the_name_of_the_host_stays(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    before = os.uname().nodename
    await bench.launch(application(bench, host_namespaces=(Shareable.UTS,)))
    assert (await bench.run("hostname"))[1].decode().strip() == before == os.uname().nodename


async def test_a_privileged_one_has_the_host_s_ids(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    await bench.launch(application(bench, idmap=PRIVILEGED))
    assert await of(bench, "user") == own("user") and await of(bench, "pid") != own("pid")
    assert not await has(bench, _SYS_ADMIN)
    assert (await bench.run("sh", "-c", "cat /proc/self/uid_map"))[1].split() == [b"0", b"0", b"4294967295"]
    assert os.stat(f"/proc/{(await bench.guest()).number}").st_uid == 0


async def test_with_all_privileges_it_mounts_and_opens_devices(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    await bench.launch(application(bench, idmap=PRIVILEGED, confinement=ALL))
    assert await has(bench, _SYS_ADMIN)
    assert (await bench.run("sh", "-c", "mount -t tmpfs none /tmp && mount | grep -q ' /tmp '"))[0] == 0
    status, _, errors = await bench.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    assert status == 0, errors
    for place in ("/sys", "/sys/fs/cgroup"):
        assert (await bench.run("grep", "-q", f" {place} [^ ]* rw", "/proc/mounts"))[0] == 0, place


async def test_devices_are_opened_as_rules_allow(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES) or bench.host.cgroups.layout == "unified":
        return
    group = next(path for path in bench.host.cgroups.directories(bench.names.cgroup("one")) if "devices" in path.parts)
    await bench.launch(application(bench, confinement=Confinement(device_rules=("c 10:200 rw",))))
    rules = (group / "devices.list").read_text().splitlines()
    assert any(rule.startswith("c 10:200 rw") for rule in rules) and "a *:* rwm" not in rules


async def test_devices_of_the_host_can_be_used_by_a_privileged_one(bench: Bench) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    nodes = {node.path: node for node in await bench.host.nodes.everything()}
    assert not {Path("/dev/null"), Path("/dev/console")} & set(nodes)
    kmsg = nodes[Path("/dev/kmsg")]
    devices = (DeviceNode("/dev/kmsg", "c", kmsg.number.major, kmsg.number.minor, kmsg.mode, kmsg.uid, kmsg.gid),)
    await bench.launch(application(bench, idmap=PRIVILEGED, confinement=ALL, devices=devices))
    assert (await bench.run("sh", "-c", "exec 3</dev/kmsg"))[0] == 0
    assert (await bench.run("sh", "-c", 'stat=$(ls -l /dev/kmsg); [ "${stat#c}" != "$stat" ]'))[0] == 0


async def test_an_lxcfs_that_cannot_be_read_does_not_keep_it_from_starting(bench: Bench, tmp_path: Path) -> None:
    if not bench.real or not bench.has(Capability.PRIVILEGES):
        return
    (tmp_path / "proc").touch()
    await bench.launch(application(bench, lxcfs=tmp_path))
    assert (await bench.run("grep", "-q", "MemTotal", "/proc/meminfo"))[0] == 0
