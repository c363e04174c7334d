"""The drivers on a host in memory: their capabilities, the calls of their engine, and refusals."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from isola import registry
from isola.errors import AlreadyExists, HostFailure, IsolaError
from isola.events import Events
from isola.host.mounts import MemoryMount
from isola.host.small_world import shelf_in
from isola.model.identity import HostNames, IdRange
from isola.operations import Operation, Operations
from isola.runtimes import ExecSpec, Root, RunSpec
from isola.runtimes.oci.caller import Caller
from isola.runtimes.oci.guest import OciGuest
from isola.runtimes.oci.layout import Layout
from isola.runtimes.oci.runtime import OciRuntime
from isola.testing.cgroups import FakeCgroups
from isola.testing.files import FakeFiles
from isola.testing.host import FakeHost, fake_host
from isola.testing.processes import Call, Program, forever
from isola.testing.sockets import FakePipe, FakeSockets
from isola.testing.system import FakeSystem
from isola.testing.tree import find

DIRECTORY = Path("/var/lib/isola")
PROGRAMS = {name: Path("/usr/bin") / name for name in ("crun", "runc", "conmon")}
SPEC = RunSpec("one", "web", Root(Path("/root")), ("/sbin/init",), IdRange(200000), system=True)


class Inherited(FakeSockets):
    """A child keeps the pipes it is given until it closes them."""

    def _pipe(self) -> FakePipe:
        pipe = super()._pipe()
        pipe.taken = True
        return pipe


async def version(call: Call) -> int:
    call.out(f"{Path(call.argv[0]).name} version 1.2.3\ncommit: 0\n".encode())
    return 0


def host(*, layout: str = "unified", programs: dict[str, Path] | None = None, **tools: Program) -> FakeHost:
    system = FakeSystem(programs=dict(PROGRAMS if programs is None else programs))
    made = fake_host(programs={"crun": version, "runc": version, **tools}, system=system, layout=layout)
    return dataclasses.replace(made, sockets=Inherited())


def driver(name: str, on: FakeHost) -> OciRuntime:
    found: OciRuntime = registry.load("runtimes", name)(on, DIRECTORY, HostNames("isola"))
    return found


async def do(on: FakeHost, work: Callable[[Operation], Awaitable[object]]) -> None:
    operations = Operations(Events(on.clock.now), now=on.clock.now, new_id=on.clock.uuid)
    operation = operations.start("test", work)
    await operation.wait()
    if operation.error is not None:
        raise operation.error


# --- probes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["crun", "runc"])
@pytest.mark.parametrize("layout", ["unified", "hybrid"])
async def test_a_working_engine_reports_its_version(name: str, layout: str) -> None:
    probe = await registry.load("runtimes", name).probe(host(layout=layout))
    assert (probe.available, probe.version, probe.warnings) == (True, "1.2.3", ())


@pytest.mark.parametrize("name", ["crun", "runc"])
async def test_without_control_groups_no_engine_works(name: str) -> None:
    probe = await registry.load("runtimes", name).probe(host(layout="none"))
    assert not probe.available and "control groups" in probe.reason


async def test_without_cgroup_v2_only_runc_works_and_warns() -> None:
    crun = await registry.load("runtimes", "crun").probe(host(layout="legacy"))
    assert not crun.available and "runc" in crun.remedy
    runc = await registry.load("runtimes", "runc").probe(host(layout="legacy"))
    assert runc.available and runc.warnings


@pytest.mark.parametrize("missing", ["runc", "conmon"])
async def test_missing_programs_are_named_with_a_remedy(missing: str) -> None:
    programs = {name: path for name, path in PROGRAMS.items() if name != missing}
    probe = await registry.load("runtimes", "runc").probe(host(programs=programs))
    assert not probe.available and missing in probe.reason and probe.remedy == f"apt-get install {missing}"


async def test_missing_capabilities_are_named() -> None:
    on = host()
    on.system.bounding_set = frozenset({"CAP_SETUID"})
    probe = await registry.load("runtimes", "crun").probe(on)
    assert not probe.available and "CAP_SYS_ADMIN" in probe.reason


async def test_an_engine_that_fails_is_not_available() -> None:
    async def broken(call: Call) -> int:
        call.err(b"Illegal instruction\n")
        return 1

    probe = await registry.load("runtimes", "crun").probe(host(crun=broken))
    assert not probe.available and "Illegal instruction" in probe.reason


# --- how an engine is called -------------------------------------------------------------------------------------


async def test_on_a_unified_host_both_are_called_directly() -> None:
    for name in ("crun", "runc"):
        runtime = driver(name, host())
        assert await runtime.maker("one", [Path("/root")]) == Caller([f"/usr/bin/{name}"])
        assert await runtime.joiner("one") == Caller([f"/usr/bin/{name}"])


async def test_on_a_hybrid_host_crun_sees_few_mounts() -> None:
    runtime = driver("crun", host(layout="hybrid"))
    making, joining = await runtime.maker("one", [Path("/root")]), await runtime.joiner("one")
    assert making.place.mounts is not None and making.place.shelved == [Path("/root")]
    assert making.place.seen(Path("/root")) == shelf_in(DIRECTORY) / "0" != making.place.seen(Path("/other"))
    assert joining.place.mounts == making.place.mounts and joining.place.shelf is None
    assert making.argv == joining.argv and joining.argv[-1] == "/usr/bin/crun"


async def test_on_a_hybrid_host_runc_is_called_directly() -> None:
    runtime = driver("runc", host(layout="hybrid"))
    assert await runtime.maker("one", [Path("/root")]) == Caller(["/usr/bin/runc"]) == await runtime.joiner("one")


async def test_crun_is_not_run_again_to_start_the_first_process() -> None:
    on = host()
    runtime = driver("crun", on)
    fifo = on.sockets.posted[Layout.of(DIRECTORY, "one").state / "one" / "exec.fifo"] = []
    before = len(on.processes.calls)
    await runtime.let_go("one")
    assert fifo == [b"\0"] and len(on.processes.calls) == before


async def test_without_its_fifo_crun_is_called() -> None:
    on = host()
    await driver("crun", on).let_go("one")
    assert on.processes.calls[-1].argv[-2:] == ("start", "one")


async def test_device_rules_are_left_to_engines_that_support_them() -> None:
    able = host()
    able.system.bounding_set |= {"CAP_SYS_RESOURCE"}
    assert driver("crun", able).limits_devices()
    assert not driver("crun", host()).limits_devices()
    assert not driver("runc", host()).limits_devices()
    assert driver("runc", host(layout="hybrid")).limits_devices()


# --- creating the first process -------------------------------------------------------------------------------------


def monitored(on: FakeHost, report: bytes, *, lives: bool = True, inside: bool = True) -> Program:
    """conmon, started by the shell that enters its groups: writes ``report``, and leaves a process of each kind."""

    async def monitor(call: Call) -> int:
        watcher = next(process for process in on.processes.running if process.call is call)
        first = on.processes.add("init")
        if inside:
            await on.cgroups.enter("/isola/one", first.ref)
        await on.cgroups.enter("/isola/one.monitor", watcher.ref)
        if not lives:
            first.end(1)
        assert call.env is not None
        stream = on.sockets.far(int(call.env["_OCI_SYNCPIPE"]))
        await stream.write(report.replace(b"PID", str(first.ref.pid).encode()))
        stream.close()
        assert call.descriptors[2] is not None
        on.sockets.far(call.descriptors[2]).close()
        return await forever(call)

    return monitor


async def attempt(
    report: bytes, spec: RunSpec = SPEC, kinds: Mapping[str, str] | None = None, **more: bool
) -> tuple[FakeHost, OciRuntime, OciGuest | IsolaError]:
    on = host()
    on.guest_mounts.kinds = dict(kinds or {})
    on.processes.programs["sh"] = monitored(on, report, **more)
    runtime = driver("crun", on)
    made: list[OciGuest] = []

    async def work(op: Operation) -> None:
        guest = await runtime.run(op, spec)
        assert isinstance(guest, OciGuest)
        made.append(guest)
        await op.commit()

    try:
        await do(on, work)
    except IsolaError as error:
        return on, runtime, error
    return on, runtime, made[0]


async def test_created_processes_are_found_again() -> None:
    on, runtime, made = await attempt(b'{"data": PID}\n')
    assert isinstance(made, OciGuest)
    assert await runtime.find("one") == made
    assert await driver("crun", on).find("one") == made
    assert await driver("runc", on).find("one") is None
    assert await driver("runc", on).owned() == ()
    config = json.loads(await on.files.read(Layout.of(DIRECTORY, "one").config))
    assert config["hostname"] == "web"
    assert on.cgroups.groups["/isola/one"].owner == 200000
    with pytest.raises(AlreadyExists):
        await do(on, lambda op: runtime.run(op, SPEC))
    assert await runtime.find("one") == made


async def test_late_files_are_mounted_when_the_devices_are_and_may_stay_hidden() -> None:
    late = dataclasses.replace(SPEC, files={"/etc/a": "a", "/etc/b": "b"}, late_files=("/etc/a", "/etc/b"))
    for kinds, shown in (({}, ["/etc/a", "/etc/b"]), ({"/etc/a": "directory"}, ["/etc/b"])):
        on, _, made = await attempt(b'{"data": PID}\n', late, kinds)
        assert isinstance(made, OciGuest)
        assert [path for path, _ in on.guest_mounts.inside[made.world].values()] == shown
        assert not any(graft.executable or graft.set_ids or graft.read_only for graft in on.guest_mounts.grafts)


@pytest.mark.parametrize(
    ("report", "evidence"),
    [
        (b'{"data": -1, "message": "no such file"}\n', "no such file"),
        (b"", ""),
        (b"nonsense\n", "nonsense"),
        (b"[1]\n", "[1]"),
        (b'{"data": "x"}\n', "x"),
    ],
)
async def test_a_malformed_report_is_an_error_and_rolled_back(report: bytes, evidence: str) -> None:
    on, runtime, error = await attempt(report)
    assert isinstance(error, HostFailure) and evidence in error.evidence
    assert await runtime.owned() == ()
    assert not [name for name in on.cgroups.groups if name.startswith("/isola/one")]


async def test_a_first_process_that_ends_at_once_is_an_error() -> None:
    _, runtime, error = await attempt(b'{"data": PID}\n', lives=False)
    assert isinstance(error, HostFailure)
    assert await runtime.owned() == ()


async def test_a_reused_pid_is_not_taken_for_the_first_process() -> None:
    on, runtime, error = await attempt(b'{"data": PID}\n', inside=False)
    assert isinstance(error, HostFailure)
    assert await runtime.owned() == ()
    assert [process.call.argv for process in on.processes.running if not process.received] == [("init",)]


async def test_a_pid_reused_while_it_is_read_is_not_killed() -> None:
    """A daemon that died left a command's file; the command ends while the next daemon reads it."""
    on, _, made = await attempt(b'{"data": PID}\n')
    assert isinstance(made, OciGuest)
    command = on.processes.add("command")
    await on.cgroups.enter("/isola/one", command.ref)
    file = Layout.of(DIRECTORY, "one").commands / "left.pid"

    class Slow(FakeFiles):
        async def read(self, path: Path, size: int = -1) -> bytes:
            if path == file and command.running:
                command.end()
                await asyncio.sleep(0)
                on.processes.add("other", pid=command.ref.pid)
            return await super().read(path, size)

    slow = Slow()
    slow.tree = on.files.tree
    await slow.write(file, str(command.ref.pid).encode())
    assert await driver("crun", dataclasses.replace(on, files=slow)).find("one") == made
    assert [process.call.argv for process in on.processes.running if process.call.argv[0] == "other"]


LXCFS = DIRECTORY / "lxcfs"
REFUSED = b'{"data": -1, "message": "cannot stat lxcfs/proc/meminfo: Transport endpoint is not connected"}\n'


@dataclass
class BesideLxcfs:
    """A start while lxcfs, started ``age`` seconds ago, may die; the first creation fails."""

    on: FakeHost = field(default_factory=host)
    attempts: int = 0

    async def begin(self, *, age: int, dies: bool) -> OciRuntime:
        await self.on.files.make_directory(LXCFS)
        await self.on.mounts.memory(MemoryMount(LXCFS, 0o755))
        await self.on.files.make_directory(LXCFS / "proc")
        await self.on.files.write(LXCFS / "proc/meminfo", b"")
        await self.on.files.write(DIRECTORY / "lxcfs.pid", b"1")
        find(self.on.files.tree, DIRECTORY / "lxcfs.pid").modified = int(self.on.clock.now().timestamp()) - age

        async def create(call: Call) -> int:
            self.attempts += 1
            if dies:
                await self.on.mounts.unmount_memory(LXCFS)
            return await monitored(self.on, REFUSED if self.attempts == 1 else b'{"data": PID}\n')(call)

        self.on.processes.programs["sh"] = create
        runtime = driver("crun", self.on)
        await do(self.on, lambda op: self._run(runtime, op))
        return runtime

    async def _run(self, runtime: OciRuntime, op: Operation) -> None:
        await runtime.run(op, dataclasses.replace(SPEC, lxcfs=LXCFS))
        await op.commit()

    async def mounted(self) -> list[str]:
        config = json.loads(await self.on.files.read(Layout.of(DIRECTORY, "one").config))
        return [mount["destination"] for mount in config["mounts"] if "lxcfs" in mount["source"]]


async def test_lxcfs_that_dies_during_a_start_is_gone_without() -> None:
    start = BesideLxcfs()
    runtime = await start.begin(age=3600, dies=True)
    assert start.attempts == 2 and await runtime.find("one") is not None and not await start.mounted()


async def test_lxcfs_that_is_started_again_during_a_start_is_used() -> None:
    start = BesideLxcfs()
    await start.begin(age=0, dies=False)
    assert start.attempts == 2 and await start.mounted() == ["/proc/meminfo"]


async def test_a_start_that_fails_beside_a_living_lxcfs_is_not_repeated() -> None:
    start = BesideLxcfs()
    with pytest.raises(HostFailure):
        await start.begin(age=3600, dies=False)
    assert start.attempts == 1 and await driver("crun", start.on).owned() == ()


@pytest.mark.parametrize("name", ["crun", "runc"])
@pytest.mark.parametrize(
    ("layout", "system", "group"),
    [("unified", True, ["--cgroup", ".isola"]), ("unified", False, []), ("hybrid", True, [])],
)
async def test_commands_are_in_a_group_beside_that_of_a_service_manager(
    name: str, layout: str, system: bool, group: list[str]
) -> None:
    on, calls = host(layout=layout), list[tuple[str, ...]]()

    async def program(call: Call) -> int:
        if "exec" in call.argv:
            calls.append(call.argv)
        elif "_OCI_SYNCPIPE" in (call.env or {}):
            return await monitored(on, b'{"data": PID}\n')(call)
        return 0

    on.processes.programs |= dict.fromkeys(("sh", name, "conmon"), program)
    runtime, spec = driver(name, on), dataclasses.replace(SPEC, system=system)

    async def run(op: Operation) -> None:
        await runtime.run(op, spec)
        await op.commit()

    await do(on, run)
    guest = await runtime.find("one")
    assert guest is not None
    execution = await guest.exec(ExecSpec(("true",), {}))
    assert await execution.wait() == 0
    await execution.close()
    [argv] = calls
    assert list(argv[argv.index("--pid-file") + 2 :]) == [*group, "one"]


async def test_waiting_for_a_silent_monitor_can_be_cancelled() -> None:
    on = host()
    reached = asyncio.Event()

    async def silent(call: Call) -> int:
        assert call.env is not None
        on.sockets.far(int(call.env["_OCI_SYNCPIPE"]))
        reached.set()
        await asyncio.Event().wait()
        return 0

    on.processes.programs["sh"] = silent
    runtime = driver("crun", on)
    operations = Operations(Events(on.clock.now), now=on.clock.now, new_id=on.clock.uuid)
    operation = operations.start("test", lambda op: runtime.run(op, SPEC))
    await reached.wait()
    assert await runtime.owned() == ("one",)
    operation.cancel()
    await operation.wait()
    assert operation.warnings == []
    assert await runtime.owned() == ()


class Entered(FakeCgroups):
    """Processes that enter the group after all others were killed."""

    def __init__(self, late: int) -> None:
        super().__init__()
        self.late = late

    async def remove(self, path: str) -> None:
        if self.late and path in self.groups:
            self.late -= 1
            self.groups[path].members.add(4000 + self.late)
        await super().remove(path)


async def test_processes_that_enter_a_killed_group_are_killed_too() -> None:
    on = dataclasses.replace(host(), cgroups=Entered(late=3))
    for group in ("/isola/one", "/isola/one.monitor"):
        await on.cgroups.create(group)
    await driver("crun", on).remove("one")
    assert list(on.cgroups.groups) == ["/isola"]


async def test_endless_new_processes_in_a_group_are_reported() -> None:
    on = dataclasses.replace(host(), cgroups=Entered(late=1000))
    await on.cgroups.create("/isola/one")
    with pytest.raises(HostFailure, match="Cannot remove the control group"):
        await driver("crun", on).remove("one")


@pytest.mark.parametrize(
    ("said", "given"),
    [("1.1.5+ds1", True), ("1.1.10", True), ("1.1.11", False), ("1.1.15+ds1", False), ("1.2.0", False), ("?", True)],
)
async def test_newer_versions_of_runc_read_the_mappings_of_the_namespace(said: str, given: bool) -> None:
    async def answer(call: Call) -> int:
        call.out(f"runc version {said}\ncommit: 0\n".encode())
        return 0

    runtime = driver("runc", host(layout="hybrid", runc=answer))
    config: dict[str, object] = {"linux": {"uidMappings": [1], "gidMappings": [2], "cgroupsPath": "/one"}, "root": {}}
    await runtime.maker("one", [])
    wanted = config if given else {"linux": {"cgroupsPath": "/one"}, "root": {}}
    assert runtime.adapted(SPEC, config) == wanted
