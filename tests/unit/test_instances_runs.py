"""Processes and usage of running instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.errors import InvalidInput, Unsupported, WrongState
from isola.host.cgroup_tree import Tree
from isola.host.cgroup_v1 import LegacyTrees
from isola.host.cgroup_v2 import UnifiedTree
from isola.instances.top import batched, table
from isola.model.limits import Usage
from isola.model.reference import Ref
from isola.model.stats import DiskIo
from isola.testing.parts import World
from isola.testing.processes import Call

WEB = Ref.default("web1")
PS = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 05:00 ?        00:00:01 /sbin/init
1000000      77       1  0 05:01 ?        00:00:00 nginx: master process nginx -g daemon off;
1000033      78      77  0 05:01 ?        00:00:00 nginx: worker process
"""


def test_rows_of_ps_are_chosen_by_pid() -> None:
    found = table(PS, {"77", "78"})
    assert found.titles == ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
    assert [row[1] for row in found.rows] == ["77", "78"]
    assert found.rows[0][-1] == "nginx: master process nginx -g daemon off;"
    for without in ("", "USER COMMAND\nroot init\n"):
        with pytest.raises(InvalidInput):
            table(without, {"1"})


def test_many_processes_are_listed_in_pieces() -> None:
    assert [list(each) for each in batched(range(5), 2)] == [[0, 1], [2, 3], [4]]
    assert list(batched((), 2)) == []


async def test_options_of_ps_are_checked(world: World) -> None:
    await world.create("web1", start=True)
    runs = world.parts.services.instances.runs
    for wrong in (["-o", "pid;reboot"], ["$(x)"], ["a b"], ["x"] * 99, ["/etc/passwd"]):
        with pytest.raises(InvalidInput):
            await runs.processes(WEB, wrong)
    with pytest.raises(Unsupported, match="no ps"):
        await runs.processes(WEB)


async def test_ps_is_asked_about_processes_of_the_instance_alone(world: World) -> None:
    """With ``-u root -o rss=PID,args`` a row of a host's process would have a PID of the instance by its memory."""
    await world.create("web1", start=True)
    runs, host = world.parts.services.instances.runs, world.host
    (pid,) = world.context.live[world.parts.services.instances.get(WEB).id].guest.numbers()

    async def ps(call: Call) -> int:
        if f"-q{pid}" in call.argv and "-u" in call.argv:
            call.err(b"q/-q/--quick-pid cannot be combined with other selection options.\n")
            return 1
        if f"-q{pid}" not in call.argv:
            call.out(f"  PID COMMAND\n{pid} backup --password=secret\n".encode())
            return 0
        call.out(f"  PID COMMAND\n{pid} sleep\n".encode())
        return 0

    host.system.programs["ps"], host.processes.programs["ps"] = Path("/bin/ps"), ps
    assert (await runs.processes(WEB, ["-o", "pid,args"])).rows == ((str(pid), "sleep"),)
    with pytest.raises(InvalidInput, match="ps has failed") as refused:
        await runs.processes(WEB, ["-u", "root", "-o", "rss=PID,args"])
    assert "those of the instance are shown" in refused.value.remedy


async def test_what_ps_refuses_for_some_processes_is_asked_in_another_way_for_the_same(world: World) -> None:
    await world.create("web1", start=True)
    runs, host = world.parts.services.instances.runs, world.host
    (pid,) = world.context.live[world.parts.services.instances.get(WEB).id].guest.numbers()
    asked: list[tuple[str, ...]] = []

    async def ps(call: Call) -> int:
        asked.append(call.argv[1:])
        if f"-q{pid}" in call.argv:
            call.err(b"q/-q/--quick-pid cannot be used together with sort options.\n")
            return 1
        call.out(f"  PID COMMAND\n7 of the host\n{pid} sleep\n".encode())
        return 0

    host.system.programs["ps"], host.processes.programs["ps"] = Path("/bin/ps"), ps
    assert (await runs.processes(WEB, ["aux", "--sort", "-rss"])).rows == ((str(pid), "sleep"),)
    assert asked == [("aux", "--sort", "-rss", f"-q{pid}"), ("u", "--sort=-rss", f"-p{pid}")]
    with pytest.raises(InvalidInput, match="ps has failed"):
        await runs.processes(WEB, ["aux", "--sort", "-rss", "-o", "rss=PID"])
    assert len(asked) == 3


async def test_stats_are_those_of_the_run(world: World) -> None:
    await world.create("web1", start=True)
    runs = world.parts.services.instances.runs
    world.on_host("web1").usage = Usage(cpu_ns=5, memory=6, processes=7)
    found = await runs.stats(WEB)
    assert (found.group.cpu_ns, found.group.memory, found.group.processes) == (5, 6, 7)
    assert [each.name for each in found.network] == ["eth0"] and found.host_cpus == 2
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    for asked in (runs.stats(WEB), runs.processes(WEB), runs.signal(WEB, 15)):
        with pytest.raises(WrongState):
            await asked


def write(directory: Path, **files: str) -> None:
    directory.mkdir(parents=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(content)


def test_numbers_of_the_unified_hierarchy(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu io memory pids\n")
    write(
        tmp_path / "isola",
        cpu__stat="usage_usec 30\nuser_usec 20\nsystem_usec 10\nnr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
        memory__current="1000\n", memory__max="max\n", memory__peak="2000\n",
        memory__stat="anon 600\ninactive_file 300\n", memory__events="low 0\nmax 5\noom_kill 1\n",
        pids__current="9\n", pids__max="100\n",
        io__stat="8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n7:1 rbytes=5\n",
    )  # fmt: skip
    found = UnifiedTree(tmp_path).stats("/isola")
    assert (found.cpu_ns, found.cpu_user_ns, found.cpu_system_ns, found.per_cpu_ns) == (30_000, 20_000, 10_000, ())
    assert (found.periods, found.throttled_periods, found.throttled_ns) == (4, 3, 2000)
    assert (found.memory, found.memory_used, found.memory_limit, found.memory_failures) == (1000, 700, 0, 5)
    assert (found.processes, found.processes_limit) == (9, 100)
    assert found.io == (DiskIo(7, 1, read_bytes=5), DiskIo(8, 0, 1, 2, 3, 4))
    assert UnifiedTree(tmp_path).oom_kills("/isola") == 1 and UnifiedTree(tmp_path).stats("/none").memory == 0


def test_numbers_of_the_legacy_hierarchies(tmp_path: Path) -> None:
    trees = [Tree(tmp_path / name, frozenset({name})) for name in ("cpu", "cpuacct", "memory", "pids", "blkio")]
    write(
        tmp_path / "cpuacct/isola",
        cpuacct__usage="70\n",
        cpuacct__usage_percpu="30 40 \n",
        cpuacct__stat="user 2\nsystem 1\n",
    )
    write(tmp_path / "cpu/isola", cpu__stat="nr_periods 4\nnr_throttled 3\nthrottled_time 2\n")
    write(
        tmp_path / "memory/isola", memory__usage_in_bytes="1000\n", memory__max_usage_in_bytes="2000\n",
        memory__limit_in_bytes=f"{2**63 - 4096}\n", memory__failcnt="5\n", memory__stat="total_inactive_file 300\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    )  # fmt: skip
    write(tmp_path / "pids/isola", pids__current="9\n", pids__max="max\n")
    write(
        tmp_path / "blkio/isola",
        blkio__throttle__io_service_bytes="8:0 Read 1\n8:0 Write 2\n8:0 Total 3\nTotal 3\n",
        blkio__throttle__io_serviced="8:0 Read 3\n8:0 Write 4\nTotal 7\n",
    )
    found = LegacyTrees(trees).stats("/isola")
    assert (found.cpu_ns, found.per_cpu_ns, found.cpu_user_ns) == (70, (30, 40), 20_000_000)
    assert (found.memory, found.memory_used, found.memory_limit, found.memory_failures) == (1000, 700, 0, 5)
    assert (found.processes, found.processes_limit, found.throttled_ns) == (9, 0, 2)
    assert found.io == (DiskIo(8, 0, 1, 2, 3, 4),) and LegacyTrees(trees).oom_kills("/isola") == 2
