"""The contract of ``Cgroups``: for the fake, for this host's layout, and for its cgroup2 tree only."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from isola.errors import HostFailure, InvalidInput
from isola.host.cgroups import Cgroups, LinuxCgroups
from isola.host.process import Child, LinuxProcesses, Processes
from isola.model.limits import Limits, Usage
from isola.testing.cgroups import FakeCgroups
from isola.testing.processes import FakeProcesses

MOUNT = Path("/sys/fs/cgroup")
TOP = f"/isola-contract-{os.getpid()}"
GROUP = f"{TOP}/one"
OWNER = 100_000
DELEGABLE = {"memory.oom.group", *Path("/sys/kernel/cgroup/delegate").read_text().split()}


def only_cgroup2() -> Path:
    return next(path for path in (MOUNT, MOUNT / "unified") if (path / "cgroup.controllers").exists())


def left_over() -> list[Path]:
    return [path for path in [MOUNT, *MOUNT.iterdir()] if (path / TOP[1:]).exists()]


@dataclass
class Side:
    """Groups and the processes to put into them."""

    cgroups: Cgroups
    processes: Processes

    async def spawn(self, *argv: str) -> Child:
        return await self.processes.spawn(argv or ("sleep", "600"))


@pytest.fixture(params=["fake", "host", "cgroup2"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "fake":
        processes = FakeProcesses()
        yield Side(FakeCgroups(lambda pid: processes.table[pid].signal(signal.SIGKILL)), processes)
        return
    real = Side(LinuxCgroups(MOUNT if request.param == "host" else only_cgroup2()), LinuxProcesses())
    yield real
    await real.cgroups.kill(TOP)
    await real.cgroups.remove(TOP)
    assert not left_over()


@pytest.fixture
async def group(side: Side) -> str:
    await side.cgroups.create(GROUP, owner=OWNER)
    return GROUP


async def test_a_group_is_created_and_removed(side: Side) -> None:
    assert not await side.cgroups.exists(GROUP)
    await side.cgroups.create(GROUP)
    await side.cgroups.create(GROUP)
    assert await side.cgroups.exists(GROUP)
    await side.cgroups.remove(GROUP)
    await side.cgroups.remove(GROUP)
    assert not await side.cgroups.exists(GROUP)
    assert await side.cgroups.exists(TOP)


async def test_children(side: Side) -> None:
    assert await side.cgroups.children(TOP) == ()
    await side.cgroups.create(f"{TOP}/b/deep")
    await side.cgroups.create(f"{TOP}/a")
    assert await side.cgroups.children(TOP) == ("a", "b")


async def test_removing_includes_all_groups_below(side: Side, group: str) -> None:
    await side.cgroups.create(f"{group}/x/y")
    await side.cgroups.remove(TOP)
    assert not await side.cgroups.exists(f"{group}/x/y")
    assert not await side.cgroups.exists(TOP)


async def test_process_enters_and_is_killed(side: Side, group: str) -> None:
    child = await side.spawn()
    await side.cgroups.enter(group, child.ref)
    await side.cgroups.enter(group, child.ref)
    assert list(side.cgroups.processes(group)) == [child.ref.pid]
    assert list(side.cgroups.processes(TOP)) == [child.ref.pid]
    assert side.cgroups.holds(group, child.ref.pid) and side.cgroups.holds(TOP, child.ref.pid)
    assert not side.cgroups.holds(group, os.getpid()) and not side.cgroups.holds(group[:-1], child.ref.pid)
    await side.cgroups.kill(TOP)
    assert await child.wait() == -signal.SIGKILL
    assert not side.cgroups.processes(group)


async def test_group_with_processes_is_not_removed(side: Side, group: str) -> None:
    child = await side.spawn()
    await side.cgroups.enter(group, child.ref)
    with pytest.raises(HostFailure, match=f"processes {child.ref.pid} are in it"):
        await side.cgroups.remove(TOP)
    assert await side.cgroups.exists(group)
    await side.cgroups.kill(group)
    await side.cgroups.remove(TOP)


async def test_empty_groups_are_removed_up_to_one_with_processes(side: Side, group: str) -> None:
    first, last = f"{TOP}/first", f"{TOP}/last"
    for each in (f"{first}/deep", last):
        await side.cgroups.create(each)
    child = await side.spawn()
    await side.cgroups.enter(group, child.ref)
    assert not await side.cgroups.remove_empty(first, group, last)
    assert [await side.cgroups.exists(each) for each in (first, group, last)] == [False, True, True]
    await side.cgroups.kill(group)
    assert await side.cgroups.remove_empty(first, group, last)
    assert await side.cgroups.children(TOP) == ()


async def test_the_path_of_the_unified_hierarchy(side: Side, group: str) -> None:
    unified = side.cgroups.unified
    assert (unified is None) == (side.cgroups.layout == "legacy")
    assert unified is None or Path(f"{unified}{group}") in side.cgroups.directories(group)


async def test_who_joins_others_has_a_group_below(side: Side, group: str) -> None:
    unified = side.cgroups.layout == "unified"
    assert await side.cgroups.leaf(group, owner=OWNER) == "", "its groups have no controllers"
    names = [await side.cgroups.leaf(group, owner=OWNER, always=True) for _ in range(2)]
    assert names == ([".isola"] * 2 if unified else [""] * 2)
    assert await side.cgroups.children(group) == ((".isola",) if unified else ())
    if unified:
        child = await side.spawn()
        await side.cgroups.enter(f"{group}/.isola", child.ref)
        assert side.cgroups.holds(group, child.ref.pid) and list(side.cgroups.processes(group)) == [child.ref.pid]
        await side.cgroups.kill(group)
        assert await child.wait() == -signal.SIGKILL
    await side.cgroups.remove(group)
    assert await side.cgroups.leaf(group, always=True) == ""


async def test_missing_groups_are_empty(side: Side) -> None:
    assert side.cgroups.usage(GROUP) == Usage()
    assert side.cgroups.activity(GROUP) == (0, 0)
    assert not side.cgroups.processes(GROUP)
    await side.cgroups.kill(GROUP)
    await side.cgroups.remove(GROUP)


async def test_entering_a_missing_group_fails(side: Side) -> None:
    child = await side.spawn()
    with pytest.raises(HostFailure):
        await side.cgroups.enter(GROUP, child.ref)
    child.signal(signal.SIGKILL)
    await child.wait()


@pytest.mark.parametrize("path", ["", "/", "isola", "/isola/../..", "/isola//x", "/./x", "/isola/"])
async def test_paths_outside_the_hierarchy_are_refused(side: Side, path: str) -> None:
    attempts: list[Callable[[], Awaitable[object]]] = [
        lambda: side.cgroups.remove(path),
        lambda: side.cgroups.create(path),
        lambda: side.cgroups.exists(path),
    ]
    for attempt in attempts:
        with pytest.raises(InvalidInput):
            await attempt()


async def test_removing_all_limits_always_succeeds(side: Side, group: str) -> None:
    await side.cgroups.limit(group, Limits())


async def test_a_group_is_frozen_and_thawed(side: Side, group: str) -> None:
    child = await side.spawn()
    await side.cgroups.enter(group, child.ref)
    assert not side.cgroups.frozen(group)
    await side.cgroups.freeze(group, frozen=True)
    await side.cgroups.freeze(group, frozen=True)
    assert side.cgroups.frozen(group)
    await side.cgroups.freeze(group, frozen=False)
    assert not side.cgroups.frozen(group)
    await side.cgroups.freeze(group, frozen=True)
    await side.cgroups.kill(group)
    assert await child.wait() == -signal.SIGKILL


async def test_missing_groups_cannot_be_frozen(side: Side) -> None:
    assert not side.cgroups.frozen(GROUP)
    with pytest.raises(HostFailure, match="no control group"):
        await side.cgroups.freeze(GROUP, frozen=True)


async def test_device_rules_are_set_if_there_is_a_controller(side: Side, group: str) -> None:
    able = isinstance(side.cgroups, LinuxCgroups) and any(
        (path / "devices.list").exists() for path in side.cgroups.directories(group)
    )
    assert await side.cgroups.allow_devices(group, ["c 1:3 rwm"]) == able


async def test_directories_of_a_group(side: Side, group: str) -> None:
    directories = side.cgroups.directories(group)
    assert directories
    assert all(str(directory).endswith(group) for directory in directories)


async def test_missing_cpus_are_refused(side: Side, group: str) -> None:
    with pytest.raises(HostFailure, match="CPUs"):
        await side.cgroups.limit(group, Limits(cpus=(4000,)))


async def test_memory_below_what_is_in_use_is_refused(side: Side, group: str) -> None:
    if isinstance(side.cgroups, FakeCgroups):
        side.cgroups.groups[group].usage = Usage(memory=64 << 20)
    elif has_memory(side.cgroups, group):
        await fill_memory(side, group)
    with pytest.raises(HostFailure, match="memory"):
        await side.cgroups.limit(group, Limits(memory=16 << 20))
    await side.cgroups.limit(group, Limits())


def has_memory(cgroups: Cgroups, group: str) -> bool:
    """On hybrid hosts cgroup2 has no memory controller, and all limits are refused."""
    return any((path / name).exists() for path in cgroups.directories(group) for name in MEMORY_FILES)


MEMORY_FILES = ("memory.max", "memory.limit_in_bytes")
EATER = "import time; held = bytearray(b'x') * (64 << 20); time.sleep(600)"


async def fill_memory(side: Side, group: str) -> Child:
    child = await side.spawn("sh", "-c", f'sleep 0.2; exec python3 -c "{EATER}"')
    await side.cgroups.enter(group, child.ref)
    for _ in range(6000):
        if side.cgroups.usage(group).memory > 64 << 20:
            return child
        await asyncio.sleep(0.01)
    pytest.fail("the memory is not charged to the group")


def test_nothing_may_be_mounted(tmp_path: Path) -> None:
    assert (LinuxCgroups(tmp_path).layout, LinuxCgroups(tmp_path).unified) == ("none", None)


async def test_a_group_below_belongs_to_the_instance() -> None:
    """Which may freeze it: then a command would not begin there."""
    cgroups = LinuxCgroups(only_cgroup2())
    await cgroups.create(GROUP, owner=OWNER)
    try:
        assert await cgroups.leaf(GROUP, owner=OWNER, always=True) == ".isola"
        [leaf] = [path / ".isola" for path in cgroups.directories(GROUP)]
        assert {os.stat(leaf / name).st_uid for name in (".", "cgroup.procs", "cgroup.subtree_control")} == {OWNER}
        (leaf / "cgroup.freeze").write_text("1")
        assert await cgroups.leaf(GROUP, owner=OWNER, always=True) == ""
        (leaf / "cgroup.freeze").write_text("0")
        assert await cgroups.leaf(GROUP, owner=OWNER, always=True) == ".isola"
        leaf.rmdir()
        (leaf.parent / "cgroup.max.descendants").write_text("0")
        assert await cgroups.leaf(GROUP, owner=OWNER, always=True) == "", "it has as many groups as it may"
    finally:
        await cgroups.remove(TOP)


# From here on: tests with the real kernel only. All limits, on the layout of this host.


@pytest.fixture
async def real() -> AsyncIterator[Side]:
    side = Side(LinuxCgroups(), LinuxProcesses())
    await side.cgroups.create(GROUP, owner=OWNER)
    yield side
    await side.cgroups.kill(TOP)
    await side.cgroups.remove(TOP)


def control(side: Side, *names: str) -> str:
    """The first of these control files that exists in any hierarchy."""
    files = (path / name for name in names for path in side.cgroups.directories(GROUP))
    return next(file for file in files if file.exists()).read_text().strip()


async def test_limits_are_raised_lowered_and_removed(real: Side) -> None:
    memory = ("memory.limit_in_bytes", "memory.max")
    unlimited = control(real, *memory)
    for size in (256 << 20, 128 << 20, 512 << 20):
        limits = Limits(cpus=(0,), memory=size, processes=size >> 20)
        await real.cgroups.limit(GROUP, limits)
        assert control(real, *memory) == str(size)
        assert control(real, "pids.max") == str(limits.processes)
        assert control(real, "cpuset.cpus") == "0"
    await real.cgroups.limit(GROUP, Limits())
    assert control(real, *memory) == unlimited
    assert control(real, "pids.max") == "max"


async def test_finer_limits_are_set_and_removed(real: Side) -> None:
    before = {name: control(real, *names) for name, names in FINER.items() if has(real, *names)}
    reserved, memory = 64 << 20, 128 << 20
    finer = Limits(cpu_time=(50_000, 100_000), cpu_shares=512, memory=memory, memory_reserved=reserved, swap=memory)
    await real.cgroups.limit(GROUP, finer)
    assert control(real, "cpu.cfs_quota_us", "cpu.max") in ("50000", "50000 100000")
    assert control(real, "cpu.shares", "cpu.weight") in ("512", "20")
    assert control(real, "memory.soft_limit_in_bytes", "memory.low") == str(reserved)
    above = [path.parent / "memory.low" for path in real.cgroups.directories(GROUP)]
    assert {file.read_text().strip() for file in above if file.exists()} <= {str(reserved)}
    with_swap = control(real, "memory.memsw.limit_in_bytes", "memory.swap.max")
    assert with_swap == str(2 * memory if real.cgroups.layout != "unified" else memory)
    await real.cgroups.limit(GROUP, replace(finer, swap=None, memory=memory * 2))
    assert control(real, "memory.limit_in_bytes", "memory.max") == str(memory * 2)
    await real.cgroups.limit(GROUP, replace(finer, swap=0, memory=memory))
    await real.cgroups.limit(GROUP, Limits())
    assert {name: control(real, *FINER[name]) for name in before} == before


FINER = {
    "time": ("cpu.cfs_quota_us", "cpu.max"),
    "shares": ("cpu.shares", "cpu.weight"),
    "memory": ("memory.limit_in_bytes", "memory.max"),
    "reserved": ("memory.soft_limit_in_bytes", "memory.low"),
    "swap": ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    "swappiness": ("memory.swappiness",),
    "killing": ("memory.oom_control",),
    "nodes": ("cpuset.mems",),
}


def has(side: Side, *names: str) -> bool:
    return any((path / name).exists() for name in names for path in side.cgroups.directories(GROUP))


@pytest.mark.parametrize(
    ("limits", "file", "value"),
    [
        (Limits(swappiness=7), "memory.swappiness", "7"),
        (Limits(kill_when_full=False), "memory.oom_control", "oom_kill_disable 1"),
        (Limits(memory_nodes=(0,)), "cpuset.mems", "0"),
    ],
    ids=["swappiness", "waiting", "nodes"],
)
async def test_limits_of_some_kernels_are_set_or_refused(real: Side, limits: Limits, file: str, value: str) -> None:
    if not has(real, file):
        with pytest.raises(HostFailure, match="cannot limit"):
            await real.cgroups.limit(GROUP, limits)
        return
    before = control(real, file)
    await real.cgroups.limit(GROUP, limits)
    assert control(real, file).startswith(value)
    await real.cgroups.limit(GROUP, Limits())
    assert control(real, file) == before


async def test_memory_nodes_of_a_group_with_processes_are_those_of_its_parent_again(real: Side) -> None:
    child = await real.spawn()
    await real.cgroups.enter(GROUP, child.ref)
    await real.cgroups.limit(GROUP, Limits(memory_nodes=(0,)))
    await real.cgroups.limit(GROUP, Limits())
    everywhere = next(
        file.read_text().strip()
        for path in real.cgroups.directories(GROUP)
        for file in (path.parent / "cpuset.mems.effective", path.parent / "cpuset.effective_mems")
        if file.exists()
    )
    assert control(real, "cpuset.mems") in ("", everywhere)
    assert real.processes.alive(child.ref)


async def test_a_weight_of_disks_is_set_or_refused(real: Side) -> None:
    files = ("blkio.bfq.weight", "blkio.weight", "io.bfq.weight", "io.weight")
    if has(real, *files):
        await real.cgroups.limit(GROUP, Limits(io_weight=200))
        assert control(real, *files).split()[-1] in ("200", "1920")
    else:
        with pytest.raises(HostFailure, match="cannot limit the weight of disk access"):
            await real.cgroups.limit(GROUP, Limits(io_weight=200))
    await real.cgroups.limit(GROUP, Limits())


def a_disk() -> Path:
    return next(path for path in (Path("/dev") / each.name for each in Path("/sys/block").iterdir()) if path.exists())


async def test_rates_of_disks_are_set_and_removed_or_refused(real: Side) -> None:
    files = ("blkio.throttle.read_bps_device", "io.max")
    disk = a_disk()
    limits = Limits(disk_rates=(f"read_bps:{disk}:1048576",))
    if has(real, *files):
        await real.cgroups.limit(GROUP, limits)
        number = f"{os.major(disk.stat().st_rdev)}:{os.minor(disk.stat().st_rdev)}"
        assert control(real, *files).startswith(number) and "1048576" in control(real, *files)
        await real.cgroups.limit(GROUP, Limits())
        assert "1048576" not in control(real, *files)
    else:
        with pytest.raises(HostFailure, match="cannot limit disk access"):
            await real.cgroups.limit(GROUP, limits)


async def test_members_run_on_the_cpus_of_the_group(real: Side) -> None:
    child = await real.spawn()
    everywhere = os.sched_getaffinity(child.ref.pid)
    await real.cgroups.enter(GROUP, child.ref)
    await real.cgroups.limit(GROUP, Limits(cpus=(min(everywhere),)))
    assert os.sched_getaffinity(child.ref.pid) == {min(everywhere)}
    await real.cgroups.limit(GROUP, Limits())
    assert os.sched_getaffinity(child.ref.pid) == everywhere


async def test_a_process_limit_holds(real: Side) -> None:
    await real.cgroups.limit(GROUP, Limits(processes=3))
    # Each attempt is a separate subshell, because a shell that cannot fork exits.
    script = "sleep 0.2; for i in 1 2 3 4 5 6; do sleep 600 & done; wait"
    child = await real.spawn("sh", "-c", script)
    await real.cgroups.enter(GROUP, child.ref)
    await child.wait()
    assert 1 <= len(real.cgroups.processes(GROUP)) <= 2


async def test_a_memory_limit_holds(real: Side) -> None:
    await real.cgroups.limit(GROUP, Limits(memory=32 << 20))
    child = await real.spawn("sh", "-c", f'sleep 0.2; exec python3 -c "{EATER}"')
    await real.cgroups.enter(GROUP, child.ref)
    assert await asyncio.wait_for(child.wait(), 60) == -signal.SIGKILL


async def test_a_refused_memory_limit_leaves_the_old_one_and_the_process(real: Side) -> None:
    await real.cgroups.limit(GROUP, Limits(memory=256 << 20))
    child = await fill_memory(real, GROUP)
    with pytest.raises(HostFailure, match="are in use"):
        await real.cgroups.limit(GROUP, Limits(memory=16 << 20))
    assert control(real, "memory.limit_in_bytes", "memory.max") == str(256 << 20)
    assert real.processes.alive(child.ref)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A directory that is not in memory, as /tmp may be."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="isola-cgroups-") as made:
        yield Path(made)


async def test_page_cache_gives_way_to_a_lower_limit(real: Side, on_disk: Path) -> None:
    script = f"sleep 0.2; head -c 100000000 /dev/zero > {on_disk}/file; sync {on_disk}/file; exec sleep 600"
    child = await real.spawn("sh", "-c", script)
    await real.cgroups.enter(GROUP, child.ref)
    for _ in range(6000):
        if real.processes.command_line(child.ref)[:1] == ("sleep",):
            break
        await asyncio.sleep(0.01)
    await real.cgroups.limit(GROUP, Limits(memory=32 << 20))
    assert real.cgroups.usage(GROUP).memory <= 32 << 20
    assert real.processes.alive(child.ref)


async def test_usage_counts_processes_memory_and_time(real: Side) -> None:
    await fill_memory(real, GROUP)
    usage = real.cgroups.usage(GROUP)
    assert usage.processes == 1
    assert usage.cpu_ns > 1_000_000
    assert real.cgroups.activity(GROUP)[0] == 1 and real.cgroups.activity(GROUP)[1] >= usage.cpu_ns
    assert 64 << 20 < usage.memory <= usage.memory_peak < 256 << 20
    assert (usage.swap, usage.swap_peak) == (0, 0)


async def test_a_fork_bomb_is_killed(real: Side) -> None:
    await real.cgroups.limit(GROUP, Limits(processes=200))
    child = await real.spawn("sh", "-c", "sleep 0.2; f() { f | f & sleep 600; }; f")
    await real.cgroups.enter(GROUP, child.ref)
    for _ in range(300):  # an emulated processor takes seconds for it
        await asyncio.sleep(0.2)
        if len(real.cgroups.processes(GROUP)) > 50:
            break
    assert len(real.cgroups.processes(GROUP)) > 50
    await asyncio.wait_for(real.cgroups.kill(GROUP), 60)
    await child.wait()
    assert not real.cgroups.processes(GROUP)


async def test_processes_below_are_killed_and_their_groups_removed(side: Side, group: str) -> None:
    child = await side.spawn()
    await side.cgroups.create(f"{group}/a/b/c")
    await side.cgroups.enter(f"{group}/a/b/c", child.ref)
    await side.cgroups.kill(group)
    assert await child.wait() == -signal.SIGKILL
    await side.cgroups.remove(group)
    assert not await side.cgroups.exists(group)


async def test_members_open_only_the_devices_they_are_allowed(real: Side) -> None:
    if not await real.cgroups.allow_devices(GROUP, ["c 1:3 rwm"]):
        return  # cgroup2 only: engines use a BPF program for this
    script = "sleep 0.2; echo x > /dev/null || exit 1; head -c 1 /dev/zero && exit 2; exit 0"
    child = await real.spawn("sh", "-c", script)
    await real.cgroups.enter(GROUP, child.ref)
    assert await child.wait() == 0


async def test_a_device_is_opened_as_allowed(real: Side) -> None:
    if not await real.cgroups.allow_devices(GROUP, ["c 1:3 rwm"]):
        return
    await real.cgroups.allow_device(GROUP, "c 1:5", allowed=True, access="r")
    script = "sleep 0.2; head -c 1 /dev/zero >/dev/null || exit 1; (echo x > /dev/zero) 2>/dev/null && exit 2; exit 0"
    child = await real.spawn("sh", "-c", script)
    await real.cgroups.enter(GROUP, child.ref)
    assert await child.wait() == 0


async def test_owner_gets_the_cgroup2_directory_and_no_other(real: Side) -> None:
    (tree,) = (path for path in real.cgroups.directories(GROUP) if (path / "cgroup.controllers").exists())
    owned = {path.name for path in [tree, *tree.iterdir()] if path.stat().st_uid == OWNER}
    needed = {tree.name, "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"}
    assert needed <= owned <= needed | DELEGABLE
    others = set(real.cgroups.directories(GROUP)) - {tree}
    assert all(path.stat().st_uid == 0 for path in others)


async def test_the_owner_cannot_create_unlimited_groups(real: Side) -> None:
    (tree,) = (path for path in real.cgroups.directories(GROUP) if (path / "cgroup.controllers").exists())
    deep = tree
    with pytest.raises(OSError):
        for _ in range(200):
            deep = deep / "d"
            deep.mkdir()
    await real.cgroups.remove(GROUP)


async def test_paths_too_long_to_be_opened_are_removed(real: Side) -> None:
    (tree,) = (path for path in real.cgroups.directories(GROUP) if (path / "cgroup.controllers").exists())
    here = os.open(tree, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("n" * 200, dir_fd=here)
        here, above = os.open("n" * 200, os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    child = await real.spawn()
    await real.cgroups.enter(GROUP, child.ref)
    await real.cgroups.kill(GROUP)
    await child.wait()
    await real.cgroups.remove(GROUP)
    assert not await real.cgroups.exists(GROUP)


async def test_a_group_with_enabled_controllers_accepts_processes(real: Side) -> None:
    (tree,) = (path for path in real.cgroups.directories(GROUP) if (path / "cgroup.controllers").exists())
    root = tree.parents[len(Path(GROUP).parts) - 2]
    controller = next(name for name in ("memory", "hugetlb") if name in (root / "cgroup.controllers").read_text())
    for above in (root, tree.parent, tree):
        (above / "cgroup.subtree_control").write_text(f"+{controller}")
    child = await real.spawn()
    await real.cgroups.enter(GROUP, child.ref)
    await real.cgroups.enter(GROUP, child.ref)
    assert list(real.cgroups.processes(GROUP)) == [child.ref.pid]
    assert (tree / ".isola/cgroup.procs").read_text().strip() == str(child.ref.pid)
    await real.cgroups.kill(GROUP)
    await child.wait()


async def test_frozen_processes_are_killed(real: Side) -> None:
    child = await real.spawn()
    await real.cgroups.enter(GROUP, child.ref)
    for path in real.cgroups.directories(GROUP):
        for name, value in (("freezer.state", "FROZEN"), ("cgroup.freeze", "1")):
            if (path / name).exists():
                (path / name).write_text(value)
    await asyncio.wait_for(real.cgroups.kill(GROUP), 60)
    assert await child.wait() == -signal.SIGKILL


def test_usage_of_the_fake_is_set_by_tests() -> None:
    cgroups = FakeCgroups()
    asyncio.run(cgroups.create(GROUP))
    cgroups.groups[GROUP].usage = replace(Usage(), memory=5)
    assert cgroups.usage(GROUP).memory == 5
    cgroups.groups[GROUP].usage = Usage(processes=3, cpu_ns=7)
    assert cgroups.activity(GROUP) == (3, 7)
