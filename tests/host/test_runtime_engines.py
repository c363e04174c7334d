"""Each engine on this host: crashes at any moment, damaged files, hostile roots, lxcfs, limits."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from runtime_root import busybox_root, command_lines, engine, own

from isola import registry
from isola.errors import HostFailure, InvalidInput
from isola.events import Events
from isola.host.linux import linux_host
from isola.host.process import HERE
from isola.model.identity import HostNames, IdRange
from isola.model.limits import Limits
from isola.operations import Operation, Operations
from isola.runtimes import ExecSpec, Guest, Root, RunSpec
from isola.runtimes.oci import monitor
from isola.runtimes.oci.guest import OciGuest
from isola.runtimes.oci.layout import Layout
from isola.runtimes.oci.runtime import OciRuntime

IDMAP = IdRange(1_400_000)
MIB = 1 << 20
TAG = f"isola-r{os.getpid() % 0xFFFF:x}"
ENVIRONMENT = {"PATH": "/bin"}
_CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from isola import registry
from isola.events import Events
from isola.host.linux import linux_host
from isola.model.identity import HostNames, IdRange
from isola.operations import Operations
from isola.runtimes import Root, RunSpec

class Die:
    seen = 0
    async def reached(self, operation, point):
        if self.seen == int(sys.argv[5]):
            os.kill(os.getpid(), signal.SIGKILL)
        self.seen += 1

async def main():
    host = linux_host()
    runtime = registry.load("runtimes", sys.argv[1])(host, Path(sys.argv[2]), HostNames(sys.argv[3]))
    spec = RunSpec("one", "one", Root(Path(sys.argv[4])), ("/bin/sleep", "1000"), IdRange(1400000), system=True)
    async def work(op):
        await runtime.run(op, spec)
        await op.commit()
    operations = Operations(Events(host.clock.now), now=host.clock.now, new_id=host.clock.uuid, observer=Die())
    print("begun", flush=True)
    operation = operations.start("start", work)
    await operation.wait()
    print("done", operation.error, flush=True)
    os._exit(0)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    applets = "sh sleep cat id grep head hostname free tail true dd"
    with busybox_root(applets.split(), IDMAP, {}) as tree:
        (tree.parent / "secret").write_text("web:x:33:34::/srv:/bin/sh\n")
        (tree / "etc/passwd").symlink_to(tree.parent / "secret")
        own(tree, IDMAP)
        os.mknod(tree / "tmp/memory", 0o666 | stat.S_IFCHR, os.makedev(1, 1))
        os.chmod(tree / "tmp/memory", 0o666)
        yield tree


def engines_of_containers() -> list[str]:
    """Other guests have no processes on the host that these tests could look at."""
    kinds = {name: registry.load("runtimes", name) for name in registry.names("runtimes")}
    return [name for name, kind in kinds.items() if "container" in kind.capabilities.isolations]


@pytest.fixture(params=engines_of_containers())
async def runtime(request: pytest.FixtureRequest) -> AsyncIterator[OciRuntime]:
    kind: type[OciRuntime] = registry.load("runtimes", request.param)
    async with engine(kind, linux_host(), HostNames(TAG)) as found:
        yield found


def proc(pid: int, file: str) -> str:
    return Path(f"/proc/{pid}/{file}").read_text()


def spec(root: Path, **more: object) -> RunSpec:
    values: dict[str, object] = {"command": ("/bin/sleep", "1000"), "system": True, **more}
    return RunSpec(id="one", hostname="one", root=Root(root), idmap=IDMAP, **values)  # type: ignore[arg-type]


async def launch(runtime: OciRuntime, wanted: RunSpec) -> OciGuest:
    async def work(op: Operation) -> None:
        op.metadata["guest"] = await runtime.run(op, wanted)
        await op.commit()

    clock = runtime.host.clock
    operation = Operations(Events(clock.now), now=clock.now, new_id=clock.uuid).start("start", work)
    await operation.wait()
    if operation.error is not None:
        raise operation.error
    guest = operation.metadata["guest"]
    assert isinstance(guest, OciGuest)
    return guest


async def found(runtime: OciRuntime) -> Guest:
    """The running guest."""
    guest = await runtime.find("one")
    assert guest is not None
    return guest


async def output(runtime: OciRuntime, *command: str, **more: object) -> tuple[int, str]:
    execution = await (await found(runtime)).exec(ExecSpec(command, ENVIRONMENT, **more))  # type: ignore[arg-type]
    if execution.stderr is not None:  # to close a terminal would be to hang up
        execution.stdin.close()
    data = b""
    async with asyncio.timeout(60):
        while block := await execution.stdout.read():
            data += block
        status = await execution.wait()
    await execution.close()
    return status, data.decode()


# --- crashes -----------------------------------------------------------------------------------------------------


async def test_leftovers_of_a_daemon_killed_at_any_point_are_removed(runtime: OciRuntime, root: Path) -> None:
    for point in range(100):
        if not await crash(runtime, root, point):
            break
        await runtime.remove("one")
        assert await runtime.owned() == ()
        assert await runtime.find("one") is None
    assert point >= 5
    await runtime.remove("one")


async def test_leftovers_of_a_daemon_killed_at_any_time_are_removed(runtime: OciRuntime, root: Path) -> None:
    for delay in (0.002, 0.006, 0.012, 0.02, 0.028, 0.036, 0.05):
        child = begin(runtime, root, 1000)
        await asyncio.sleep(delay)
        child.kill()
        child.wait()
        await runtime.remove("one")
        assert await runtime.owned() == ()
        async with asyncio.timeout(60):
            # Processes that were just being started find their groups removed.
            while [line for line in command_lines() if str(runtime.directory) in line]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert await runtime.owned() == ()


async def crash(runtime: OciRuntime, root: Path, point: int) -> bool:
    child = begin(runtime, root, point)
    return await asyncio.to_thread(child.wait) == -signal.SIGKILL


def begin(runtime: OciRuntime, root: Path, point: int) -> subprocess.Popen[str]:
    argv = [sys.executable, "-c", _CHILD, runtime.name, str(runtime.directory), TAG, str(root), str(point)]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert child.stdout and child.stdout.readline() == "begun\n"
    return child


async def test_instances_outlive_the_daemon_that_started_them(runtime: OciRuntime, root: Path) -> None:
    child = begin(runtime, root, 1000)
    assert child.stdout and child.stdout.readline() == "done None\n"
    await asyncio.to_thread(child.wait)
    guest = await runtime.find("one")
    assert guest is not None
    assert await output(runtime, "hostname") == (0, "one\n")
    ended = asyncio.ensure_future(guest.ended())
    await guest.signal(signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await ended == 137


async def test_commands_do_not_outlive_the_daemon(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root))
    execution = await (await found(runtime)).exec(ExecSpec(("sleep", "9876"), ENVIRONMENT))
    await sleeping(runtime, "9876")
    files = Layout.of(runtime.directory, "one").commands
    async with asyncio.timeout(60):
        while not [file for file in files.glob("[!.]*.pid") if file.read_text()]:  # noqa: ASYNC110 - the engine's
            await asyncio.sleep(0.01)
    next_one = type(runtime)(runtime.host, runtime.directory, runtime.names)
    assert await next_one.find("one") is not None
    async with asyncio.timeout(60):
        assert await execution.wait() == 137
    await execution.close()
    again = await (await found(next_one)).exec(ExecSpec(("true",), ENVIRONMENT))
    assert await next_one.find("one") is not None
    assert await again.wait() == 0
    await again.close()


async def test_an_instance_without_its_monitor_has_ended(runtime: OciRuntime, root: Path) -> None:
    guest = await launch(runtime, spec(root))
    os.kill(guest.processes.monitor.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        assert await guest.ended() == 137
    assert await runtime.find("one") is None
    assert await runtime.owned() == ("one",)
    await runtime.remove("one")
    assert not runtime.host.processes.alive(guest.processes.init)


@pytest.mark.parametrize("damage", ["record", "state", "config", "engine", "everything"])
async def test_damaged_files_of_a_run_are_removed(runtime: OciRuntime, root: Path, damage: str) -> None:
    guest = await launch(runtime, spec(root))
    layout = Layout.of(runtime.directory, "one")
    if damage in ("record", "everything"):
        layout.record.write_bytes(b'{"boot": \xff')
    if damage in ("config", "everything"):
        layout.config.write_text("[]")
    if damage in ("state", "everything"):
        for file in layout.state.rglob("*"):
            if file.is_file():
                file.write_text("nonsense")
    if damage in ("engine", "everything"):
        layout.engine.unlink()
    assert await runtime.owned() == ("one",)
    assert (await runtime.find("one") is None) == (damage in ("record", "everything"))
    await runtime.remove("one")
    assert not runtime.host.processes.alive(guest.processes.init)
    assert not runtime.host.processes.alive(guest.processes.monitor)


async def test_a_record_of_another_boot_is_ignored(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root))
    record = Layout.of(runtime.directory, "one").record
    record.write_text(json.dumps(json.loads(record.read_text()) | {"boot": "another"}))
    assert await runtime.find("one") is None


# --- isolation --- ----------------------------------------------------------------------------------------------------


async def test_root_inside_is_unprivileged_outside(runtime: OciRuntime, root: Path) -> None:
    guest = await launch(runtime, spec(root))
    lines = proc(guest.processes.init.pid, "status").splitlines()
    assert f"Uid:\t{IDMAP.base}\t{IDMAP.base}\t{IDMAP.base}\t{IDMAP.base}" in lines
    assert await output(runtime, "id", "-u") == (0, "0\n")
    assert await output(runtime, "id", "-u", user=33, group=34) == (0, "33\n")
    groups = proc(guest.processes.monitor.pid, "cgroup").splitlines()
    # On a host with v1 the v1 groups are used, which can be entered without waiting.
    needed = (":name=systemd:", ":freezer:", ":memory:", ":pids:")
    told = [line for line in groups if any(name in line for name in needed)] or groups
    assert all(line.endswith(f"/{TAG}/one.monitor") for line in told)


async def test_the_first_id_of_the_range_owns_the_user_namespace(runtime: OciRuntime, root: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    guest = await launch(runtime, spec(root))
    assert owner_of(f"/proc/{guest.processes.init.pid}/ns/user") == IDMAP.base
    # Later namespaces of the engine and of commands belong to it, too.
    for kind in ("net", "uts", "ipc", "pid", "mnt", "cgroup"):
        assert (
            user_namespace_of(guest.processes.init.pid, kind)
            == os.stat(f"/proc/{guest.processes.init.pid}/ns/user").st_ino
        )
    execution = await (await found(runtime)).exec(ExecSpec(("sleep", "4322"), ENVIRONMENT))
    command = await sleeping(runtime, "4322")
    assert os.readlink(f"/proc/{command}/ns/user") == os.readlink(f"/proc/{guest.processes.init.pid}/ns/user")
    await execution.close()
    assert proc(guest.processes.init.pid, "uid_map").split() == ["0", str(IDMAP.base), "65536"]
    assert proc(guest.processes.init.pid, "gid_map").split() == ["0", str(IDMAP.base), "65536"]
    # The kernel accounts it to its creator on the host: nothing else may hold it once the first process does.
    held = [os.readlink(f"/proc/self/fd/{fd}") for fd in set(os.listdir("/proc/self/fd")) - before if link_there(fd)]
    assert not [link for link in held if link.startswith("user:")]


async def test_resources_of_an_instance_are_not_counted_for_the_hosts_root(runtime: OciRuntime, root: Path) -> None:
    guest = await launch(runtime, spec(root))
    # Together more than the limit of one user, while the host's root can still use nearly all of its own.
    limit = inotify_limit()
    enter = ["nsenter", f"--user=/proc/{guest.processes.init.pid}/ns/user", "--setuid", "0", "--setgid", "0"]
    with watching(16) as outside, watching(limit - 8, *enter) as inside:
        assert (outside, inside) == (16, limit - 8)


def inotify_limit() -> int:
    """How many inotify instances a user may have."""
    return int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())


@contextlib.contextmanager
def watching(count: int, *enter: str) -> Iterator[int]:
    """Number of inotify instances that a process could open, at most ``count``."""
    argv = [*enter, "/usr/bin/python3", "-c", _WATCH, str(count)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout
        yield int(process.stdout.readline())
    finally:
        process.communicate()


_WATCH = """
import ctypes, resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
count = 0
while count < int(sys.argv[1]) and ctypes.CDLL(None).inotify_init() >= 0:
    count += 1
print(count, flush=True)
sys.stdin.read()
"""


def owner_of(file: str) -> int:
    """Who owns a user namespace, as the host numbers users: NS_GET_OWNER_UID."""
    with open(file) as namespace:
        return int.from_bytes(fcntl.ioctl(namespace, 0xB704, b"\0" * 4), sys.byteorder)


def user_namespace_of(pid: int, kind: str) -> int:
    """Inode of the user namespace that owns another namespace of a process: NS_GET_USERNS."""
    with open(f"/proc/{pid}/ns/{kind}") as namespace:
        owner = fcntl.ioctl(namespace, 0xB701)
    try:
        return os.fstat(owner).st_ino
    finally:
        os.close(owner)


def link_there(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


async def test_first_process_and_commands_are_in_the_group_of_every_hierarchy(runtime: OciRuntime, root: Path) -> None:
    guest = await launch(runtime, spec(root))
    execution = await (await found(runtime)).exec(ExecSpec(("sleep", "4321"), ENVIRONMENT))
    for pid in (guest.processes.init.pid, await sleeping(runtime, "4321")):
        groups = [line.removesuffix("/.isola") for line in proc(pid, "cgroup").splitlines()]
        assert [line for line in groups if not line.endswith(f"/{TAG}/one")] == []
    await execution.close()


async def sleeping(runtime: OciRuntime, seconds: str) -> int:
    """The command's process, after execve."""
    async with asyncio.timeout(60):
        while True:
            for pid in runtime.host.cgroups.processes(f"/{TAG}/one"):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    if proc(pid, "cmdline") == f"sleep\0{seconds}\0":
                        return pid
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("kill -9 $$", "conmon was killed by signal 9"),
        ("exit 3", "conmon ended with status 3"),
        ("echo no terminal >&2; exit 1", "no terminal"),
        ("""echo '{"data": -1, "message": "no such file"}' >/proc/self/fd/$_OCI_SYNCPIPE""", "no such file"),
    ],
)
async def test_a_monitor_that_fails_has_a_reason(script: str, reason: str, tmp_path: Path) -> None:
    layout = Layout.of(tmp_path, "one")
    layout.run.mkdir(parents=True)
    with pytest.raises(HostFailure) as failed:
        await monitor.create(linux_host(), layout, ["/bin/sh", "-c", script], HERE)
    assert failed.value.evidence == reason


async def test_a_device_node_in_the_root_cannot_be_opened(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root))
    status, _ = await output(runtime, "head", "-c", "1", "/tmp/memory")
    assert status != 0
    assert (await output(runtime, "head", "-c", "1", "/dev/zero"))[0] == 0


async def test_a_symlink_in_the_root_does_not_lead_to_the_hosts_users(runtime: OciRuntime, root: Path) -> None:
    with pytest.raises(InvalidInput):
        await launch(runtime, spec(root, user="web"))
    assert await runtime.owned() == ()


async def test_limits_apply_at_once_and_live(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root, limits=Limits(memory=64 * MIB, processes=20, cpus=(0,))))
    assert (await output(runtime, "grep", "Cpus_allowed_list", "/proc/self/status"))[1].split() == [
        "Cpus_allowed_list:",
        "0",
    ]
    eat = ("sh", "-c", "head -c 100000000 /dev/zero | tail -c 99999999 >/dev/null")
    assert (await output(runtime, *eat))[0] == 137
    await (await found(runtime)).limit(Limits(memory=512 * MIB))
    assert (await output(runtime, *eat))[0] == 0
    assert (await output(runtime, "grep", "Cpus_allowed_list", "/proc/self/status"))[1].split()[1] != "0"
    assert (await found(runtime)).usage().processes >= 1
    with pytest.raises(HostFailure):
        await (await found(runtime)).limit(Limits(memory=4096))


async def test_a_command_beyond_the_process_limit_runs_or_has_a_reason(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root))
    await (await found(runtime)).limit(Limits(processes=1))
    for terminal in (False, True):
        try:
            assert (await output(runtime, "true", terminal=terminal))[0] == 0  # an engine may need no further process
        except HostFailure as error:
            assert "could not be started" in error.message and error.evidence
    await (await found(runtime)).limit(Limits())
    assert (await output(runtime, "true"))[0] == 0


async def test_lxcfs_shows_the_instance_s_own_memory(runtime: OciRuntime, root: Path) -> None:
    mount = Path(tempfile.mkdtemp(prefix="runtime-lxcfs-", dir="/tmp"))
    os.chmod(mount, 0o755)
    lxcfs = await runtime.host.processes.spawn(["lxcfs", "-f", "-p", f"{mount}.pid", str(mount)])
    try:
        async with asyncio.timeout(60):
            while not await runtime.host.mounts.mounted(mount):  # noqa: ASYNC110 - lxcfs does not tell
                await asyncio.sleep(0.01)
        await launch(runtime, spec(root, lxcfs=mount, limits=Limits(memory=64 * MIB)))
        status, text = await output(runtime, "grep", "MemTotal", "/proc/meminfo")
        assert (status, int(text.split()[1]) * 1024) == (0, 64 * MIB)
        await runtime.remove("one")
    finally:
        lxcfs.signal(signal.SIGTERM)
        await lxcfs.wait()
        await runtime.host.mounts.unmount(mount)
        shutil.rmtree(mount)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{mount}.pid")


async def test_an_application_has_fewer_privileges(runtime: OciRuntime, root: Path) -> None:
    await launch(runtime, spec(root, system=False))
    status, text = await output(runtime, "grep", "CapBnd", "/proc/self/status")
    system_admin = 1 << 21
    assert status == 0 and not int(text.split()[1], 16) & system_admin
    assert (await output(runtime, "cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start"))[1] == "0\n"
