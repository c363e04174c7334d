"""What every runtime driver promises, asked of the fake and of each engine that works here."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from isola import registry
from isola.errors import AlreadyExists, HostFailure, IsolaError, Unsupported, WrongState
from isola.events import Events
from isola.host import Host
from isola.host.linux import linux_host
from isola.model.identity import HostNames, IdRange
from isola.model.network import HostTap, NetworkNamespace
from isola.operations import Operation, Operations
from isola.operations.operation import Observer
from isola.runtimes import (
    Capability,
    ExecSpec,
    Execution,
    Guest,
    Mount,
    Root,
    RootKind,
    RunSpec,
    Runtime,
    Shareable,
    TapNic,
)
from isola.testing.runtime import FakeCommand, FakeRuntime
from isola.testing.vm import FakeVm

IDMAP = IdRange(1_300_000)
NIC = TapNic("is00000001", "0a:69:73:00:00:01", "eth0")
FAKES: dict[str, type[Runtime]] = {"fake": FakeRuntime, "fake-vm": FakeVm}
MIB = 1 << 20
PATH = {"PATH": "/bin"}
APPLETS = "sh true false sleep cat echo ls id kill stty head env pwd reboot trap wc mount hostname test dd ps grep ip"
INIT = """\
trap 'echo stopping; exit 3' TERM
trap 'exec reboot -f' HUP
echo "booted $(hostname)"
while true; do
    if read -t 0.2 line; then echo "typed $line $(stty size)"; fi
done
"""


@dataclass
class Bench:
    """A driver, what it needs, and how to look at what it did."""

    param: str
    kind: type[Runtime]
    host: Host
    directory: Path
    names: HostNames
    operations: Operations
    root: Path
    runtime: Runtime

    @property
    def real(self) -> bool:
        return not issubclass(self.kind, FakeRuntime)

    def spec(self, id: str = "one", *, command: tuple[str, ...] = ("/bin/sh", "/init"), **more: object) -> RunSpec:
        given: dict[str, object] = {"environment": {"PATH": "/bin"}, "system": True}
        shared = self.kind.capabilities.shares_kernel
        given |= {"idmap": IDMAP} if shared else {"network": HostTap(), "nics": (NIC,)}
        given["root"] = Root(self.root, self.kind.capabilities.root)
        return RunSpec(id=id, hostname=f"host-{id}", command=command, **given | more)  # type: ignore[arg-type]

    def has(self, capability: Capability) -> bool:
        return self.kind.capabilities.has(capability)

    async def guest(self, id: str = "one") -> Guest:
        """The one that runs."""
        found = await self.runtime.find(id)
        assert found is not None
        return found

    async def do(self, work: Callable[[Operation], Awaitable[object]]) -> Operation:
        async def committed(op: Operation) -> None:
            await work(op)
            await op.commit()

        operation = self.operations.start("test", committed)
        await operation.wait()
        return operation

    async def launch(self, spec: RunSpec) -> Guest:
        guests = []

        async def work(op: Operation) -> None:
            guests.append(await self.runtime.run(op, spec))

        operation = await self.do(work)
        if operation.error is not None:
            raise operation.error
        return guests[0]

    def second(self) -> Runtime:
        """The object of a daemon that comes after."""
        runtime = self.kind(self.host, self.directory, self.names)
        if isinstance(runtime, FakeRuntime) and isinstance(self.runtime, FakeRuntime):
            runtime.programs = self.runtime.programs
        return runtime

    def end(self, id: str, status: int) -> None:
        """Let the first process end with a status of its own."""
        if isinstance(self.runtime, FakeRuntime):
            self.runtime.end(id, status)

    async def run(self, *command: str, id: str = "one", stdin: bytes = b"", **more: object) -> tuple[int, bytes, bytes]:
        execution = await (await self.guest(id)).exec(ExecSpec(command, PATH, **more))  # type: ignore[arg-type]
        return await finish(execution, stdin)


def operations(host: Host, observer: Observer | None = None) -> Operations:
    return Operations(Events(host.clock.now), now=host.clock.now, new_id=host.clock.uuid, observer=observer)


async def finish(execution: Execution, stdin: bytes = b"") -> tuple[int, bytes, bytes]:
    async def feed() -> None:
        await execution.stdin.write(stdin)
        execution.stdin.close()

    assert execution.stderr is not None
    try:
        async with asyncio.timeout(20):
            _, out, err, status = await asyncio.gather(
                feed(), everything(execution.stdout), everything(execution.stderr), execution.wait()
            )
    finally:
        await execution.close()
    return status, out, err


async def everything(stream: object) -> bytes:
    data = b""
    while block := await stream.read():  # type: ignore[attr-defined]
        data += block
    return data


async def until(stream: object, wanted: bytes) -> bytes:
    data = b""
    async with asyncio.timeout(10):
        while wanted not in data:
            block = await stream.read()  # type: ignore[attr-defined]
            assert block, f"the end came before {wanted!r}: {data!r}"
            data += block
    return data


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="runtime-root-", dir="/tmp"))
    directory.chmod(0o711)
    tree = directory / "root"
    for name in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for applet in APPLETS.split():
        (tree / "bin" / applet).symlink_to("busybox")
    (tree / "init").write_text(INIT)
    (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/srv:/bin/sh\nbroken\nbad:x:x:y::/:/\n")
    (tree / "etc/group").write_text("root:x:0:\nweb:x:34:\nextra:x:50:web,other\n")
    (tree / "etc/notexecutable").write_text("text")
    for path in [tree, *tree.rglob("*")]:
        os.lchown(path, IDMAP.base, IDMAP.base)
    yield tree
    shutil.rmtree(directory)


@pytest.fixture(params=["fake", "fake-vm", *registry.names("runtimes")])
async def bench(request: pytest.FixtureRequest, root: Path) -> AsyncIterator[Bench]:
    host = linux_host()
    kind = FAKES.get(request.param) or registry.load("runtimes", request.param)
    probe = await kind.probe(host)
    assert probe.available, f"{probe.reason}; {probe.remedy}"
    directory = Path(tempfile.mkdtemp(prefix="runtime-", dir="/tmp"))
    os.chmod(directory, 0o711)
    names = HostNames(f"isola-t{os.getpid() % 0xFFFF:x}")
    runtime = kind(host, directory, names)
    if isinstance(runtime, FakeRuntime):
        runtime.programs.update(PROGRAMS)
        runtime.ends_on |= {15}
    bench = Bench(request.param, kind, host, directory, names, operations(host), root, runtime)
    yield bench
    for id in await runtime.owned():
        await runtime.remove(id)
    assert await runtime.owned() == ()
    left = [process for process in processes() if str(directory) in process]
    assert not left
    if bench.real:
        assert await host.files.names(directory / "run") == ()
        assert await host.cgroups.children(names.cgroup()) == ()
        await host.cgroups.remove(names.cgroup())
        assert not mounts_below(directory)
    shutil.rmtree(directory)


def mounts_below(directory: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]


async def shown(bench: Bench, wanted: Callable[[bytes], bool], id: str = "one") -> None:
    """Wait for the console's log."""
    async with asyncio.timeout(10):
        while not wanted(await bench.runtime.console_log(id)):  # noqa: ASYNC110 - a program elsewhere writes it
            await asyncio.sleep(0.01)


def processes() -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


async def _cat(command: FakeCommand) -> int:
    while data := await command.stdin.read():
        await command.stdout.write(data)
    return 0


async def _sh(command: FakeCommand) -> int:
    script = command.spec.command[-1]
    if "echo err" in script:
        await command.stdout.write(b"out\n")
        await command.stderr.write(b"err\n")
        return 7
    if "trap" in script:
        await command.stdout.write(b"ready\n")
        return 40 + await command.signals.get()
    if "echo out" in script:
        await command.stdout.write(b"out\r\n")
        return 7
    if "stty" in script:
        while b"\x04" not in (asked := await command.stdin.read()):
            width, height = command.size
            if asked == f"{height} {width}\r".encode():
                await command.stdout.write(f"is {height} {width}\r\n".encode())
    return 0


async def _sleep(command: FakeCommand) -> int:
    while True:
        signum = await command.signals.get()
        if signum in (9, 15):
            return 128 + signum


async def _true(command: FakeCommand) -> int:
    return 0


async def _head(command: FakeCommand) -> int:
    for _ in range(16):
        await command.stdout.write(bytes(262144))
    return 0


PROGRAMS = {"cat": _cat, "sh": _sh, "sleep": _sleep, "true": _true, "head": _head}


# --- life --------------------------------------------------------------------------------------------------------


async def test_what_was_started_runs_and_is_written_down(bench: Bench) -> None:
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


async def test_what_a_runtime_lacks_it_says_why(bench: Bench) -> None:
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
    other = bench.spec("two", root=Root(bench.root, RootKind.BLOCK_DEVICE))
    with pytest.raises(Unsupported):
        await bench.launch(other)
    ends = HostTap() if bench.kind.capabilities.shares_kernel else NetworkNamespace(bench.directory / "netns")
    with pytest.raises(Unsupported):
        await bench.launch(bench.spec("two", network=ends))
    assert await bench.runtime.owned() == ("one",)


async def test_files_are_those_the_guest_sees(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    async with guest.files() as root:
        assert (await root.stat("/etc/passwd")).uid == (0 if bench.kind.capabilities.shares_kernel else IDMAP.base)
        assert b"".join([block async for block in await root.read("/etc/group")]).startswith(b"root:x:0:")
    bench.end("one", 0)
    await bench.runtime.remove("one")
    with pytest.raises(WrongState):
        async with guest.files():
            pass
    assert guest.interfaces() == () and guest.usage().memory == 0


async def test_a_guest_is_asked_to_stop(bench: Bench) -> None:
    guest = await bench.launch(bench.spec(stop_signal=signal.SIGTERM))
    if bench.real:
        await booted(bench)
    await guest.request_stop()
    async with asyncio.timeout(10):
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


async def test_mounts_and_sysctls_are_made_as_asked(bench: Bench) -> None:
    if not bench.real:
        return
    directory = bench.directory / "shown"
    directory.mkdir()
    (directory / "seen").write_text("from the host")
    mounts = (
        Mount("/mnt/host", str(directory), read_only=True),
        Mount("/mnt/memory", kind="tmpfs", options=("size=64k", "mode=0777")),
    )
    await bench.launch(bench.spec(mounts=mounts, sysctls={"kernel.shm_rmid_forced": "1"}))
    assert (await bench.run("cat", "/mnt/host/seen"))[1] == b"from the host"
    assert (await bench.run("sh", "-c", "echo x > /mnt/host/new"))[0] != 0
    assert (await bench.run("sh", "-c", "echo x > /mnt/memory/new"))[0] == 0
    assert (await bench.run("cat", "/proc/sys/kernel/shm_rmid_forced"))[1] == b"1\n"
    assert os.listdir(directory) == ["seen"]


async def test_guests_of_one_pod_share_namespaces(bench: Bench) -> None:
    if not bench.real:
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
        await bench.runtime.remove("two")
        assert (await bench.run("true"))[0] == 0
    finally:
        for id in ("two", "one"):
            await bench.runtime.remove(id)
        await bench.host.namespaces.remove_network(namespace.path)


async def test_a_second_create_is_refused_and_harms_nothing(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    with pytest.raises(AlreadyExists):
        await bench.launch(bench.spec())
    assert await bench.runtime.find("one") == guest


async def test_a_program_that_is_not_there_is_told_and_leaves_nothing(bench: Bench) -> None:
    with pytest.raises(HostFailure) as caught:
        await bench.launch(bench.spec(command=("/no/such/program",)))
    assert "no such file or directory" in str(caught.value).lower()
    assert await bench.runtime.owned() == ()
    assert await bench.runtime.find("one") is None


async def test_another_object_adopts_what_runs(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    adopted = bench.second()
    assert await adopted.find("one") == guest
    assert await adopted.owned() == ("one",)
    execution = await (await bench.guest()).exec(ExecSpec(("cat",), PATH))
    assert await finish(execution, b"hello") == (0, b"hello", b"")
    await adopted.remove("one")
    assert await bench.runtime.find("one") is None


async def test_ended_tells_the_exit_status(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    adopted = await bench.second().find("one")
    assert adopted is not None
    waiting = [asyncio.ensure_future(each.ended()) for each in (guest, adopted)]
    if bench.real:
        await booted(bench)
    bench.end("one", 3)
    await guest.request_stop()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*waiting) == [3, 3]
    assert await bench.runtime.find("one") is None
    await guest.request_stop()
    await bench.runtime.remove("one")


async def test_a_reboot_is_told_from_a_halt(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.reboot("one")
    else:
        await booted(bench)
        await guest.signal(signal.SIGHUP)
    async with asyncio.timeout(10):
        assert await guest.ended() == 129


async def test_what_lives_is_settled_soon(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    begun = time.monotonic()
    assert await guest.settled() is None
    assert time.monotonic() - begun < 0.5


BUSY = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done;"
ENDS = {
    "at once": ("echo last words; exit 3", 3),
    "done": ("exit 0", 0),
    "after some work": (f"{BUSY} echo last words; exit 4", 4),
    "halts": ("trap 'exec reboot -f' HUP; kill -HUP 1; sleep 1", 129),
}


@pytest.mark.parametrize("how", ENDS)
async def test_a_system_that_ends_before_it_has_begun_is_told_by_its_status(bench: Bench, how: str) -> None:
    script, status = ENDS[how]
    guest = await bench.launch(bench.spec(command=("/bin/sh", "-c", script)))
    bench.end("one", status)
    assert await guest.settled() == status
    if bench.real and "echo" in script:
        assert b"last words" in await bench.runtime.console_log("one")


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
            continue  # an engine that has looked by itself
        assert await guest.settled() not in (None, 0)
        await bench.runtime.remove("one")


async def test_a_program_that_waits_for_something_is_settled_though_it_does_nothing(bench: Bench) -> None:
    guest = await bench.launch(bench.spec(command=("/bin/cat",)))
    begun = time.monotonic()
    assert await guest.settled() is None
    assert time.monotonic() - begun < 0.9
    await bench.runtime.remove("one")
    guest = await bench.launch(bench.spec(command=("/bin/sh", "-c", f"{BUSY} exit 5"), system=False))
    assert await guest.settled() is None, "one program may end whenever it likes"


async def test_killed_is_137(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    if not bench.has(Capability.SIGNAL):
        return
    await guest.signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await guest.ended() == 137


async def test_remove_kills_and_repeats(bench: Bench) -> None:
    guest = await bench.launch(bench.spec())
    ended = asyncio.ensure_future(guest.ended())
    await bench.runtime.remove("one")
    await bench.runtime.remove("one")
    async with asyncio.timeout(10):
        assert await ended == 137
    await bench.launch(bench.spec())


async def test_several_instances_do_not_meet(bench: Bench) -> None:
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


async def test_what_does_not_run_is_refused(bench: Bench) -> None:
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


async def test_a_network_namespace_made_beforehand_is_ruled_from_inside(bench: Bench) -> None:
    if not bench.real:
        return
    namespace = NetworkNamespace(bench.directory / "netns" / "one")
    await bench.host.namespaces.make_network(namespace.path, IDMAP)
    try:
        for system in (True, False):
            await bench.launch(bench.spec(network=namespace, system=system))
            if system:  # one program alone may not set up links
                assert (await bench.run("ip", "link", "set", "lo", "up"))[0] == 0
            status, out, _ = await bench.run("cat", "/proc/sys/net/ipv4/ip_unprivileged_port_start")
            assert (status, out) == (0, b"1024\n" if system else b"0\n")
            assert (await bench.run("ip", "addr", "show", "lo"))[1].count(b"127.0.0.1") == 1, "it outlives a run"
            await bench.runtime.remove("one")
            assert bench.host.namespaces.has_network(namespace.path)
    finally:
        await bench.host.namespaces.remove_network(namespace.path)


# --- commands ----------------------------------------------------------------------------------------------------


async def test_streams_and_status_of_a_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    assert await bench.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")


async def test_much_input_and_output(bench: Bench) -> None:
    await bench.launch(bench.spec())
    sent = os.urandom(3 * MIB)
    assert await bench.run("cat", stdin=sent) == (0, sent, b"")
    status, out, _ = await bench.run("head", "-c", str(4 * MIB), "/dev/zero")
    assert (status, len(out)) == (0, 4 * MIB)


async def test_a_command_that_is_not_there(bench: Bench) -> None:
    await bench.launch(bench.spec())
    assert (await bench.run("no-such-command"))[0] == 127


async def test_a_terminal_says_why_a_command_could_not_be_run(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("no-such-command",), PATH, terminal=True))
    async with asyncio.timeout(10):
        assert bench.real == (b"no-such-command" in await everything(execution.stdout))
        assert await execution.wait() == 127
    await execution.close()


async def test_a_signal_reaches_the_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    script = "trap 'exit 55' TERM; echo ready; while true; do sleep 0.05; done"
    execution = await (await bench.guest()).exec(ExecSpec(("sh", "-c", script), PATH))
    await until(execution.stdout, b"ready")
    await execution.signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert await execution.wait() == 55
    await execution.close()


async def test_a_killed_command_is_128_and_the_signal(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("sleep", "100"), PATH))
    await execution.signal(signal.SIGKILL)
    async with asyncio.timeout(10):
        assert await execution.wait() == 137
    await execution.close()


async def test_close_kills_the_command_even_at_once(bench: Bench) -> None:
    await bench.launch(bench.spec())
    mark = f"9{uuid.uuid4().int % 10**8:08}"  # no other process of this host has it
    for pause in (0, 0.005, 0.05):
        execution = await (await bench.guest()).exec(ExecSpec(("sleep", mark), PATH))
        await asyncio.sleep(pause)
        await execution.close()
        await execution.close()
        assert not [process for process in processes() if mark in process]


async def test_a_terminal_with_its_size(bench: Bench) -> None:
    await bench.launch(bench.spec())
    # A size may arrive a moment after the program has begun, as it may on any terminal.
    script = 'while read -r size; do until [ "$(stty size)" = "$size" ]; do sleep 0.02; done; echo "is $size"; done'
    spec = ExecSpec(("sh", "-c", script), PATH, terminal=True, width=100, height=40)
    execution = await (await bench.guest()).exec(spec)
    assert execution.stderr is None
    await execution.stdin.write(b"40 100\r")
    await until(execution.stdout, b"is 40 100")
    execution.resize(120, 50)
    await execution.stdin.write(b"50 120\r")
    await until(execution.stdout, b"is 50 120")
    await execution.stdin.write(b"\x04")
    async with asyncio.timeout(10):
        assert await execution.wait() == 0
    await execution.close()


async def test_a_terminal_shows_the_end_of_a_short_command(bench: Bench) -> None:
    await bench.launch(bench.spec())
    for _ in range(10):
        execution = await (await bench.guest()).exec(ExecSpec(("sh", "-c", "echo out; exit 7"), PATH, terminal=True))
        async with asyncio.timeout(10):
            assert b"out" in await everything(execution.stdout)
            assert await execution.wait() == 7
        await execution.close()


async def test_the_end_of_the_instance_ends_its_commands(bench: Bench) -> None:
    await bench.launch(bench.spec())
    execution = await (await bench.guest()).exec(ExecSpec(("sleep", "100"), PATH))
    await asyncio.sleep(0.1)
    await bench.runtime.remove("one")
    async with asyncio.timeout(10):
        assert await execution.wait() == 137
    await execution.close()


# --- console -----------------------------------------------------------------------------------------------------


async def test_console_and_its_log(bench: Bench) -> None:
    await bench.launch(bench.spec())
    await booted(bench)
    guest = await bench.guest()
    console = await guest.console()
    await guest.resize_console(90, 30)
    await console.write(b"hello\n")
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.show("one", b"typed hello 30 90\r\n")
    await until(console, b"typed hello 30 90\r\n")
    console.close()
    assert b"booted host-one\r\n" in await bench.runtime.console_log("one")
    await bench.runtime.clear_console_log("one")
    await shown(bench, lambda log: log == b"")
    again = await guest.console()
    await bench.runtime.remove("one")
    assert await everything(again) is not None


def booted_as_fake(bench: Bench) -> None:
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.show("one", b"booted host-one\r\n")


async def booted(bench: Bench) -> None:
    booted_as_fake(bench)
    await shown(bench, lambda log: b"booted" in log)


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
async def test_nothing_is_left_whatever_point_fails(bench: Bench, how: str) -> None:
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
