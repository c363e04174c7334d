"""Cgroup layouts of hosts, and the files that are written, on trees of plain files."""

import os
import stat
from pathlib import Path

import pytest

from isola.errors import HostFailure, InvalidInput
from isola.host.cgroup_tree import format_cpus, parse_cpus
from isola.host.cgroups import LinuxCgroups
from isola.model.limits import Limits, Usage

GROUP = "/isola/one"
MIB = 1 << 20


def hierarchy(directory: Path, **files: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "cgroup.procs").touch()
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)
    return directory


@pytest.fixture
def unified(tmp_path: Path) -> Path:
    """A host with cgroup2 only; the files that the kernel creates in a new group exist in advance."""
    hierarchy(tmp_path, cgroup__controllers="cpuset cpu io memory hugetlb pids\n", cgroup__subtree_control="")
    for group in (tmp_path / "isola", tmp_path / "isola/one"):
        hierarchy(group, cgroup__subtree_control="", pids__max="", memory__max="", memory__high="", cpuset__cpus="")
        (group / "memory.swap.max").touch()
        (group / "cpuset.cpus.effective").write_text("0-3\n")
    return tmp_path


@pytest.fixture
def legacy(tmp_path: Path) -> Path:
    """A host with v1 hierarchies only, two of them mounted together."""
    hierarchy(tmp_path / "cpu,cpuacct")
    (tmp_path / "cpu").symlink_to("cpu,cpuacct")
    for name in ("cpuset", "memory", "pids", "freezer"):
        hierarchy(tmp_path / name)
    hierarchy(tmp_path / "systemd")
    for controller in ("cpuset/isola", "memory/isola", "pids/isola", "cpu,cpuacct/isola"):
        group = hierarchy(tmp_path / controller / "one", pids__max="", cpuset__cpus="")
        (group / "memory.limit_in_bytes").write_text(str(1 << 62))
        (group / "memory.memsw.limit_in_bytes").touch()
    (tmp_path / "cpuset/isola/cpuset.effective_cpus").write_text("0-3\n")
    return tmp_path


def test_layouts_are_distinguished(tmp_path: Path) -> None:
    hierarchy(tmp_path / "a", cgroup__controllers="memory")
    hierarchy(tmp_path / "b/memory")
    hierarchy(tmp_path / "c/memory")
    hierarchy(tmp_path / "c/unified", cgroup__controllers="")
    assert [LinuxCgroups(tmp_path / name).layout for name in "abc"] == ["unified", "legacy", "hybrid"]


def test_aliases_of_a_hierarchy_are_ignored(legacy: Path) -> None:
    names = {path.parts[-3] for path in LinuxCgroups(legacy).directories(GROUP)}
    assert names == {"cpu,cpuacct", "cpuset", "memory", "pids", "freezer", "systemd"}


async def test_controllers_are_enabled_at_every_level(unified: Path) -> None:
    await LinuxCgroups(unified).create(GROUP)
    for parent in (unified, unified / "isola"):
        # A plain file contains the last write.
        assert (parent / "cgroup.subtree_control").read_text().startswith("+pids")
    assert (unified / "isola/one/cgroup.subtree_control").read_text() == ""


@pytest.mark.parametrize("layout", ["unified", "legacy"])
async def test_a_group_that_cannot_be_created_is_a_failure_that_names_it(
    request: pytest.FixtureRequest, layout: str
) -> None:
    """Such as one beyond the limits of the kernel; here its name is too long."""
    name = "x" * 300
    with pytest.raises(HostFailure, match=f"control group .*{name}"):
        await LinuxCgroups(request.getfixturevalue(layout)).create(f"/isola/{name}")


async def test_a_cpuset_that_a_killed_daemon_left_in_part_is_completed(legacy: Path) -> None:
    group = legacy / "cpuset" / "isola" / "one"
    for directory, nodes in ((group.parent.parent, "0\n"), (group.parent, "0\n"), (group, "\n")):
        (directory / "cpuset.cpus").write_text("0-3\n")
        (directory / "cpuset.mems").write_text(nodes)
    await LinuxCgroups(legacy).create("/isola/one")
    assert (group / "cpuset.mems").read_text().strip() == "0"


async def test_unified_limits_are_written_and_lifted(unified: Path) -> None:
    cgroups, group = LinuxCgroups(unified), unified / "isola/one"
    await cgroups.limit(GROUP, Limits(cpus=(3, 1), memory=512 * MIB, processes=77))
    assert (group / "memory.max").read_text() == str(512 * MIB)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "pids.max").read_text() == "77"
    assert (group / "cpuset.cpus").read_text() == "1,3"
    for name in ("memory.max", "memory.swap.max", "pids.max"):
        (group / name).write_text("")
    await cgroups.limit(GROUP, Limits())
    assert [(group / name).read_text() for name in ("memory.max", "pids.max")] == ["max", "max"]
    assert (group / "cpuset.cpus").read_text().startswith("\n")  # a plain file keeps the rest of what it had


async def test_unlimited_cpus_follow_the_parent(unified: Path) -> None:
    await LinuxCgroups(unified).limit(GROUP, Limits())
    assert (unified / "isola/one/cpuset.cpus").read_text() == ""


async def test_a_memory_limit_below_usage_is_refused_instead_of_killing(unified: Path) -> None:
    group = unified / "isola/one"
    (group / "memory.current").write_text(f"{300 * MIB}\n")
    (group / "memory.reclaim").touch()
    with pytest.raises(HostFailure) as refusal:
        await LinuxCgroups(unified).limit(GROUP, Limits(memory=100 * MIB))
    assert "300.00MiB are in use" in refusal.value.evidence
    assert refusal.value.remedy
    assert (group / "memory.max").read_text() == ""
    assert (group / "memory.reclaim").read_text() == str(200 * MIB)
    assert (group / "memory.high").read_text().startswith("max")


async def test_legacy_limits_are_written_and_lifted(legacy: Path) -> None:
    cgroups = LinuxCgroups(legacy)
    memory = legacy / "memory/isola/one"
    await cgroups.limit(GROUP, Limits(cpus=(0, 2), memory=512 * MIB, processes=77))
    assert (memory / "memory.limit_in_bytes").read_text().startswith(str(512 * MIB))
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(512 * MIB)
    assert (legacy / "pids/isola/one/pids.max").read_text() == "77"
    assert (legacy / "cpuset/isola/one/cpuset.cpus").read_text() == "0,2"
    (legacy / "cpuset/isola/one/cpuset.cpus").write_text("")
    await cgroups.limit(GROUP, Limits())
    assert (memory / "memory.limit_in_bytes").read_text().startswith("-1")
    assert (legacy / "cpuset/isola/one/cpuset.cpus").read_text() == "0-3"


@pytest.mark.parametrize("limits", [Limits(memory=MIB), Limits(processes=5), Limits(cpus=(0,))])
async def test_a_limit_without_its_controller_is_refused_by_name(tmp_path: Path, limits: Limits) -> None:
    hierarchy(tmp_path, cgroup__controllers="")
    cgroups = LinuxCgroups(tmp_path)
    await cgroups.create(GROUP)
    await cgroups.limit(GROUP, Limits())
    with pytest.raises(HostFailure, match="This host cannot limit"):
        await cgroups.limit(GROUP, limits)


async def test_a_default_without_its_controller_is_left_out(tmp_path: Path) -> None:
    hierarchy(tmp_path, cgroup__controllers="")
    cgroups = LinuxCgroups(tmp_path)
    await cgroups.create(GROUP)
    await cgroups.limit(GROUP, Limits(processes=8192, by_default=True))


def test_unified_usage(unified: Path) -> None:
    group = unified / "isola/one"
    (group / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\nsystem_usec 234\n")
    for name, value in (("current", 10), ("peak", 20), ("swap.current", 3), ("swap.peak", 4)):
        (group / f"memory.{name}").write_text(f"{value}\n")
    (group / "pids.current").write_text("7\n")
    assert LinuxCgroups(unified).usage(GROUP) == Usage(1_234_000, 10, 20, 3, 4, 7)


def test_legacy_usage_takes_swap_from_the_sum(legacy: Path) -> None:
    memory = legacy / "memory/isola/one"
    for name, value in (("usage", 100), ("max_usage", 200), ("memsw.usage", 130), ("memsw.max_usage", 190)):
        (memory / f"memory.{name}_in_bytes").write_text(f"{value}\n")
    (legacy / "cpu,cpuacct/isola/one/cpuacct.usage").write_text("55\n")
    (legacy / "pids/isola/one/pids.current").write_text("7\n")
    assert LinuxCgroups(legacy).usage(GROUP) == Usage(55, 100, 200, 30, 0, 7)


def test_cpu_sets() -> None:
    assert parse_cpus("0-2,5,7-7\n") == {0, 1, 2, 5, 7}
    assert parse_cpus("\n") == frozenset()
    assert format_cpus((5, 1, 1)) == "1,5"


async def test_a_monitors_group_is_created_only_where_needed(legacy: Path) -> None:
    cgroups, monitor = LinuxCgroups(legacy), "/isola/one.monitor"
    await cgroups.create(GROUP, monitor=monitor)
    there = {path.parts[-3] for path in cgroups.directories(monitor) if path.exists()}
    assert there == {"systemd", "freezer", "memory", "pids"}
    assert there == {path.parts[-3] for path in cgroups.directories_of_monitor(monitor)}
    assert all(path.exists() for path in cgroups.directories(GROUP))


async def test_with_cgroup2_only_a_monitor_has_a_group(unified: Path) -> None:
    cgroups, monitor = LinuxCgroups(unified), "/isola/one.monitor"
    await cgroups.create(GROUP, monitor=monitor)
    assert [path.exists() for path in cgroups.directories_of_monitor(monitor)] == [True]


async def test_finer_limits_of_v2_are_scaled(unified: Path) -> None:
    group = unified / "isola/one"
    for name in ("cpu.max", "cpu.weight", "memory.low", "io.weight"):
        (group / name).touch()
    above = unified / "isola/memory.low"
    above.touch()
    cgroups = LinuxCgroups(unified)
    time, shares = (7000, 9000), 1024
    limits = Limits(memory=MIB, swap=2 * MIB, memory_reserved=5, cpu_time=time, cpu_shares=shares, io_weight=1000)
    await cgroups.limit(GROUP, limits)
    found = {name: (group / name).read_text() for name in ("cpu.max", "cpu.weight", "memory.low", "io.weight")}
    assert found == {"cpu.max": "7000 9000", "cpu.weight": "39", "memory.low": "5", "io.weight": "default 10000"}
    assert (group / "memory.swap.max").read_text() == str(2 * MIB) and above.read_text() == "5"
    await cgroups.limit(GROUP, Limits())
    assert above.read_text() == "0"
    assert (group / "cpu.max").read_text() == "max 100000" and (group / "cpu.weight").read_text() == "100"


async def test_rates_of_disks_are_lines_of_io_max(unified: Path, tmp_path: Path) -> None:
    file, disk, number = unified / "isola/one/io.max", tmp_path / "disk", "7:3"
    file.touch()
    os.mknod(disk, stat.S_IFBLK | 0o600, os.makedev(7, 3))
    cgroups = LinuxCgroups(unified)
    await cgroups.limit(GROUP, Limits(disk_rates=(f"read_bps:{disk}:4096", f"write_iops:{disk}:7")))
    assert file.read_text() == f"{number} rbps=4096 wbps=max riops=max wiops=7"
    await cgroups.limit(GROUP, Limits())
    assert file.read_text() == f"{number} rbps=max wbps=max riops=max wiops=max"
    for path in ("/dev/null", "/dev/nosuch"):  # the same answer for both
        with pytest.raises(InvalidInput, match=f"^stat {path}: no such file or directory, or not a block device$"):
            await cgroups.limit(GROUP, Limits(disk_rates=(f"read_bps:{path}:4096",)))


@pytest.mark.parametrize("limits", [Limits(swappiness=1), Limits(kill_when_full=False)])
async def test_v2_has_no_swappiness_and_always_kills(unified: Path, limits: Limits) -> None:
    with pytest.raises(HostFailure, match="cannot limit"):
        await LinuxCgroups(unified).limit(GROUP, limits)
