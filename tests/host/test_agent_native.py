"""The real agent in namespaces of its own: commands, the first process, the network, reports, and reconnection."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from native_agent import bare_plan, native_agent, native_service, native_stream
from runtime_root import busybox_root

from isola.errors import HostFailure, NotFound, WrongState
from isola.host.clock import LinuxClock
from isola.host.link_kinds import Inside
from isola.host.sockets import Stream
from isola.host.stream import DescriptorStream
from isola.model.identity import IdRange
from isola.runtimes import ExecSpec, Mount, Root, RunSpec, TapNic
from isola.runtimes.agent.agent import Agent, Identity
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.methods import GuestMount
from isola.runtimes.agent.plan import BIND, Console, plan_of
from isola.runtimes.users import User

PATH = {"PATH": "/bin"}
APPLETS = "sh true sleep cat echo id kill stty head env pwd hostname ps grep ip tty wc ulimit mount date dd"
MIB = 1 << 20


@pytest.fixture(scope="module")
def tree() -> Iterator[Path]:
    files = {"etc/notexecutable": "text", "etc/hosts": "of the image"}
    with busybox_root(APPLETS.split(), IdRange(0), files) as found:
        yield found


@pytest.fixture
async def agent(tree: Path) -> AsyncIterator[Agent]:
    """With a prepared root; nothing has been started."""
    async with native_agent() as found:
        body = bare_plan(tree)
        await found.prepare(body)
        await found.mount(GuestMount("proc", "/proc", "proc"))
        await found.mount(GuestMount("devtmpfs", "/dev", "devtmpfs"))
        await found.mount(GuestMount("devpts", "/dev/pts", "devpts", options="ptmxmode=0666"))
        yield found


async def everything(stream: Stream | None) -> bytes:
    assert stream is not None
    found = b""
    async with asyncio.timeout(60):
        while block := await stream.read():
            found += block
    return found


async def until(stream: Stream, text: bytes) -> bytes:
    found = b""
    async with asyncio.timeout(60):
        while text not in found:
            block = await stream.read()
            assert block, found
            found += block
    return found


async def run(agent: Agent, *command: str, stdin: bytes = b"", **more: object) -> tuple[int, bytes, bytes]:
    execution = await agent.exec(ExecSpec(command, PATH, **more))  # type: ignore[arg-type]

    async def give() -> None:
        await execution.stdin.write(stdin)
        execution.stdin.close()

    _, out, errors = await asyncio.gather(give(), everything(execution.stdout), everything(execution.stderr))
    status = await execution.wait()
    await execution.close()
    return status, out, errors


# --- commands ----------------------------------------------------------------------------------------------------


async def test_a_command_has_its_ids_directory_and_environment(agent: Agent) -> None:
    assert await run(agent, "sh", "-c", "echo out; echo err >&2; exit 7") == (7, b"out\n", b"err\n")
    _, out, _ = await run(agent, "sh", "-c", "id -u; id -G; pwd; umask", user=5, group=6, groups=(7, 8), cwd="/tmp")
    assert out == b"5\n6 7 8\n/tmp\n0022\n"


async def test_much_input_and_output(agent: Agent) -> None:
    sent = os.urandom(3 * MIB)
    assert await run(agent, "cat", stdin=sent) == (0, sent, b"")
    # Input that is not read does not block.
    assert (await run(agent, "true", stdin=sent))[0] == 0


@pytest.mark.parametrize(("program", "status"), [("no-such", 127), ("/etc/notexecutable", 126), ("/etc", 126)])
async def test_a_command_that_cannot_be_executed(agent: Agent, program: str, status: int) -> None:
    execution = await agent.exec(ExecSpec((program,), PATH, terminal=True))
    assert program.encode() in await everything(execution.stdout)
    assert await execution.wait() == status and program in execution.refusal
    await execution.close()


async def test_signals_reach_the_command_and_close_kills_it(agent: Agent) -> None:
    script = "trap 'exit 55' TERM; echo ready; while true; do sleep 0.05; done"
    execution = await agent.exec(ExecSpec(("sh", "-c", script), PATH))
    await until(execution.stdout, b"ready")
    await execution.signal(signal.SIGTERM)
    assert await execution.wait() == 55
    await execution.close()
    execution = await agent.exec(ExecSpec(("sleep", "99"), PATH))
    await execution.close()
    await execution.close()
    assert await execution.wait() == 137
    assert not [process for process in await agent.processes() if "sleep" in process.command]


async def test_a_terminal_with_its_size_and_name(agent: Agent) -> None:
    spec = ExecSpec(("sh", "-c", "tty; stty size; read x; stty size"), PATH, terminal=True, width=100, height=40)
    execution = await agent.exec(spec)
    assert b"/dev/pts/" in await until(execution.stdout, b"40 100")
    execution.resize(120, 50)
    await execution.stdin.write(b"\r")
    await until(execution.stdout, b"50 120")
    assert await execution.wait() == 0
    await execution.close()


async def test_a_slow_reader_blocks_only_its_own_command(agent: Agent) -> None:
    slow = await agent.exec(ExecSpec(("cat", "/dev/zero"), PATH))
    quick = await asyncio.gather(*(run(agent, "head", "-c", str(MIB), "/dev/zero") for _ in range(8)))
    assert all((status, len(out)) == (0, MIB) for status, out, _ in quick)
    await slow.close()


# --- as a service ------------------------------------------------------------------------------------------------


async def test_a_service_serves_the_system_that_it_is_part_of() -> None:
    async with native_service() as agent:
        assert agent.welcome.state == 1
        assert await run(agent, "sh", "-c", "cat /proc/1/comm; exit 3") == (3, b"sleep\n", b"")
        assert [process.command for process in await agent.processes() if process.pid == 1] == ["sleep 1000"]
        async with agent.files() as root:
            assert (await root.stat("/proc/1")).kind == "directory"
        assert [each.name for each in await agent.interfaces()] == ["lo"]
        assert (await agent.stats()).processes


async def test_a_service_starts_no_first_process(tree: Path) -> None:
    async with native_service() as agent:
        with pytest.raises(HostFailure):
            await agent.prepare(bare_plan(tree))
        with pytest.raises(HostFailure):
            await agent.start()
        assert (await run(agent, "true"))[0] == 0


# --- the first process -------------------------------------------------------------------------------------------


def spec(tree: Path, script: str, **more: object) -> RunSpec:
    given: dict[str, object] = {"environment": {"A": "b"}, "terminal": False, "hostname": "guest"}
    root = Root(tree)
    return RunSpec(id="one", root=root, command=("/bin/sh", "-c", script), **given | more)  # type: ignore[arg-type]


def bound(tree: Path) -> GuestMount:
    return GuestMount(str(tree), str(tree), "none", BIND | 16384)


def empty(tree: Path, name: str) -> Path:
    """A file inside that stands for a device."""
    path = tree / "tmp" / name
    path.write_bytes(b"")
    return path


async def started(agent: Agent, run_spec: RunSpec, user: User, console: Console, tree: Path) -> None:
    await agent.prepare(plan_of(run_spec, user, console, bound(tree), power_off=False))
    assert not agent.closed
    await agent.start()


async def test_the_first_process_has_what_its_plan_says(tree: Path) -> None:
    out, err = empty(tree, "out"), empty(tree, "err")
    script = (
        'echo "$A $HOME $(hostname) $(id -u) $(pwd) $(umask)"; cat /etc/hosts; ulimit -n; echo wrong >&2;'
        "grep -c ' /scratch tmpfs' /proc/mounts; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; exit 9"
    )
    run_spec = spec(
        tree,
        script,
        cwd="/srv/new",
        umask=0o27,
        files={"/etc/hosts": "of the run\n"},
        ulimits={"nofile": (100, 200)},
        mounts=(Mount("/scratch", kind="tmpfs", options=("size=1m", "noexec")),),
    )
    async with native_agent() as agent:
        console = Console("", "/tmp/out", "/tmp/err")
        await started(agent, run_spec, User(0, 0, (), "/home"), console, tree)
        async with asyncio.timeout(60):
            assert await agent.ended() == (9, "")
        await written(err, "wrong\n")
    assert out.read_text() == "b /home guest 0 /srv/new 0027\nof the run\n100\n1\n0\n"
    assert err.read_text() == "wrong\n"
    assert (tree / "etc/hosts").read_text() == "of the image"


async def test_files_of_a_run_are_put_where_links_of_the_image_lead(tree: Path) -> None:
    """As the link at ``/etc/resolv.conf`` of a system, whose target is only there once it has booted."""
    out = empty(tree, "out")
    links = {"etc/resolv.conf": "../run/resolve/stub", "run/resolve/stub": "/run/other", "etc/loop": "loop"}
    (tree / "run/resolve").mkdir(parents=True, exist_ok=True)
    for name, target in links.items():
        (tree / name).unlink(missing_ok=True)
        (tree / name).symlink_to(target)
    run_spec = spec(tree, "cat /etc/resolv.conf", files={"/etc/resolv.conf": "nameserver 192.0.2.1\n"})
    async with native_agent() as agent:
        await started(agent, run_spec, User(), Console("", "/tmp/out", ""), tree)
        async with asyncio.timeout(20):
            assert await agent.ended() == (0, "")
    assert out.read_text() == "nameserver 192.0.2.1\n"
    async with native_agent() as agent:
        endless = spec(tree, "true", files={"/etc/loop": "x"})
        with pytest.raises(HostFailure, match="file /etc/loop"):
            await agent.prepare(plan_of(endless, User(), Console(), bound(tree)))


async def test_input_of_the_first_process_ends(tree: Path) -> None:
    out = empty(tree, "out")
    (tree / "tmp/in").write_bytes(b"given")
    console = Console("/tmp/in", "/tmp/out", "")
    async with native_agent() as agent:
        await started(agent, spec(tree, "cat; cat /dev/stdin; exit 3"), User(), console, tree)
        async with asyncio.timeout(60):
            assert await agent.ended() == (3, "")
    assert out.read_bytes() == b"given"


async def test_a_program_that_does_not_exist_ends_with_the_reason(tree: Path) -> None:
    async with native_agent() as agent:
        wrong = RunSpec(id="x", hostname="x", root=Root(tree), command=("/no/such",), terminal=False)
        await started(agent, wrong, User(), Console(), tree)
        async with asyncio.timeout(60):
            status, reason = await agent.ended()
        assert status == 127 and "No such file" in reason


async def test_the_first_process_is_signalled_and_stopped(tree: Path) -> None:
    out = empty(tree, "out")
    script = "trap 'echo usr' USR1; trap 'exit 4' TERM; echo ready; while true; do sleep 0.02; done"
    limits = {"nofile": (123, 200)}
    async with native_agent() as agent:
        with pytest.raises(HostFailure):
            await agent.request_stop()
        await started(
            agent, spec(tree, script, stop_signal=15, ulimits=limits), User(), Console("", "/tmp/out", ""), tree
        )
        await written(out, "ready")
        await agent.signal(signal.SIGUSR1)
        await written(out, "usr")
        assert await run(agent, "sh", "-c", "ulimit -n") == (0, b"123\n", b"")
        with pytest.raises(HostFailure):
            await agent.prepare(bare_plan(tree))
        with pytest.raises(HostFailure):
            await agent.start()
        await agent.request_stop()
        async with asyncio.timeout(60):
            assert await agent.ended() == (4, "")


async def written(path: Path, text: str) -> None:
    await eventually(lambda: text in path.read_text())


async def eventually(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        found = condition()
        if await found if isinstance(found, Awaitable) else found:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen")


async def test_orphans_are_reaped(agent: Agent) -> None:
    assert (await run(agent, "sh", "-c", "(sleep 0.05 & exec true) & wait"))[0] == 0

    async def reaped() -> bool:
        return not any("sleep" in each.command or each.state == "Z" for each in await agent.processes())

    await eventually(reaped)


async def test_a_prepare_that_fails_says_what_failed(tree: Path) -> None:
    async with native_agent() as agent:
        plan = plan_of(
            spec(tree, "true", mounts=(Mount("/x", kind="tmpfs", options=("bogus=1",)),)),
            User(),
            Console(),
            bound(tree),
        )
        with pytest.raises(HostFailure, match="mount /x"):
            await agent.prepare(plan)
        agent.close()
        with pytest.raises(WrongState):
            await agent.exec(ExecSpec(("true",), PATH))


# --- network, reports, identity ------------------------------------------------------------------------------------


async def test_a_nic_is_found_by_its_address_and_configured(agent: Agent) -> None:
    mac = "0a:69:73:00:00:01"
    script = f"ip link add br0 type bridge && ip link set br0 address {mac}"
    assert await run(agent, "sh", "-c", script) == (0, b"", b"")
    inside = Inside(addresses=("10.9.8.7/24", "fd00::7/64"), gateways=("10.9.8.1", "fd00::1"), metric=77)
    await agent.set_up_loopback()
    await agent.configure(TapNic("tap", mac, "eth0", 1400, inside))
    await agent.configure(TapNic("tap", mac, "eth0", 1400, inside))
    found = {interface.name: interface for interface in await agent.interfaces()}
    assert set(found) == {"lo", "eth0"}
    nic = found["eth0"]
    assert (nic.hwaddr, nic.mtu, nic.state, nic.type) == (mac, 1400, "up", "broadcast")
    addresses = {(address.family, address.address, address.netmask) for address in nic.addresses}
    assert {("inet", "10.9.8.7", "24"), ("inet6", "fd00::7", "64")} <= addresses
    assert found["lo"].type == "loopback" and found["lo"].state == "up"
    _, routes, _ = await run(agent, "ip", "route")
    assert b"default via 10.9.8.1 dev eth0 metric 77" in b" ".join(routes.split())
    with pytest.raises(HostFailure):
        await agent.configure(TapNic("tap", "0a:00:00:00:00:99", "eth1", 1400, inside))
    before = agent.last_interfaces
    assert before == ()
    await eventually(lambda: agent.last_interfaces and agent.last_stats is not None)
    assert {each.name for each in agent.last_interfaces} == {"lo", "eth0"}


async def test_reports(agent: Agent) -> None:
    stats = await agent.stats()
    assert stats.memory_total > stats.memory_used > 0 and stats.cpu_ns >= stats.cpu_user_ns > 0
    assert stats.processes > 0 and stats.uptime_ns > 0
    processes = await agent.processes()
    assert processes[0].pid == 1 and processes[0].resident > 0


async def test_identity_and_system(agent: Agent, tree: Path) -> None:
    await agent.identify(Identity(os.urandom(32), "renamed", "0" * 32))
    assert (await run(agent, "hostname"))[1] == b"renamed\n"
    assert (tree / "etc/machine-id").read_text() == "0" * 32 + "\n"
    await agent.set_sysctl("net.ipv4.ip_default_ttl", "77")
    assert (await run(agent, "cat", "/proc/sys/net/ipv4/ip_default_ttl"))[1] == b"77\n"
    with pytest.raises(NotFound):
        await agent.set_sysctl("net.ipv4.no_such", "1")
    await agent.mount(GuestMount("tmpfs", "/new/place", "tmpfs", options="size=1m"))
    assert b" /new/place tmpfs" in (await run(agent, "cat", "/proc/mounts"))[1]
    await agent.unmount("/new/place")
    assert b" /new/place tmpfs" not in (await run(agent, "cat", "/proc/mounts"))[1]
    await agent.sync()


# --- connections -------------------------------------------------------------------------------------------------


async def test_a_new_greeting_ends_what_the_earlier_connection_began(tree: Path) -> None:
    """A daemon that was killed in the middle of a frame is followed by another one."""
    async with native_stream() as stream:
        first = await Agent.connect(stream, LinuxClock())
        await first.prepare(bare_plan(tree))
        execution = await first.exec(ExecSpec(("sh", "-c", "echo on; exec sleep 99"), PATH))
        await until(execution.stdout, b"on")
        first._connection._tasks[0].cancel()  # as if it had been killed: nothing more is sent or read
        first._connection._tasks[1].cancel()
        await asyncio.sleep(0)
        await stream.write(b"\x10\0\0\0\x09")
        second = await Agent.connect(stream, LinuxClock())

        async def killed() -> bool:
            return not any("sleep" in each.command for each in await second.processes())

        await eventually(killed)


async def test_requests_that_no_agent_knows(agent: Agent) -> None:
    with pytest.raises(Exception, match="cannot do this"):
        await agent._connection.request(99)
    for body in (Writer(), Writer().text("x"), Writer().number("I", 2**32 - 1)):
        for method in (2, 3, 5, 8, 10, 12, 13):
            with pytest.raises(HostFailure):
                await agent._connection.request(method, body)
    await agent.ping()


@asynccontextmanager
async def consoled(run_spec: RunSpec, tree: Path) -> AsyncIterator[tuple[Agent, DescriptorStream]]:
    """Started, and the other end of its console."""
    ours, theirs = socket.socketpair()
    stream = DescriptorStream(ours.detach())
    try:
        async with native_agent(given=[theirs.fileno()]) as agent:
            console = Console(output=f"fd:{theirs.fileno()}")
            theirs.close()
            await started(agent, run_spec, User(), console, tree)
            yield agent, stream
    finally:
        stream.close()


async def test_the_console_of_a_program_is_a_terminal(tree: Path) -> None:
    script = "tty; stty size; read x; stty size; head -c 300000 /dev/zero; echo end; exit 6"
    async with consoled(spec(tree, script, terminal=True), tree) as (agent, stream):
        assert b"/dev/pts/" in await until(stream, b"25 80\r\n")
        await agent.resize(100, 40)
        await stream.write(b"\r")
        resized = await until(stream, b"40 100\r\n")  # maybe with the first of what follows
        assert (resized + await until(stream, b"end\r\n")).count(b"\0") == 300000
        async with asyncio.timeout(60):
            assert await agent.ended() == (6, "")


async def test_the_console_of_a_system_is_dev_console(tree: Path) -> None:
    script = (
        "echo said; while true; do read x </dev/console; echo typed $x $(stty size </dev/console) >/dev/console; done"
    )
    async with consoled(spec(tree, script, terminal=True, system=True), tree) as (agent, stream):
        await until(stream, b"said\r\n")
        await agent.resize(90, 30)
        await stream.write(b"one\r")
        await until(stream, b"typed one 30 90\r\n")
        await stream.write(b"two\r")
        await until(stream, b"typed two 30 90\r\n")


# --- system images -----------------------------------------------------------------------------------------------


async def test_the_init_of_a_system_is_process_1_and_the_agent_is_beside_it(tree: Path) -> None:
    out = empty(tree, "out")
    script = "exec >/tmp/out; echo $$ $PWD; trap 'echo stopped' RTMIN+4 TERM; while true; do sleep 0.02; done"
    async with native_agent() as agent:
        with pytest.raises(WrongState):
            await agent.exec(ExecSpec(("true",), PATH))
        await started(agent, spec(tree, script, system=True, terminal=False), User(), Console(), tree)
        await written(out, "1 /\n")
        assert await run(agent, "sh", "-c", "cat /etc/hosts; hostname") == (0, b"of the imageguest\n", b"")
        assert (await run(agent, "cat", "/proc/self/oom_score_adj"))[1] == b"0\n"
        execution = await agent.exec(ExecSpec(("tty",), PATH, terminal=True))
        assert b"/dev/pts/" in await everything(execution.stdout)
        await execution.close()
        async with agent.files() as root:
            assert (await root.stat("/etc/hosts")).size == len("of the image")
        first = (await agent.processes())[0]
        assert first.pid == 1 and first.command.startswith("/bin/sh")
        await agent.signal(signal.SIGTERM)
        await written(out, "stopped")


async def test_an_init_that_does_not_exist_is_an_error(tree: Path) -> None:
    wrong = RunSpec(id="x", hostname="x", root=Root(tree), command=("/no/init",), terminal=False, system=True)
    async with native_agent() as agent:
        with pytest.raises(HostFailure, match="No such file"):
            await started(agent, wrong, User(), Console(), tree)
