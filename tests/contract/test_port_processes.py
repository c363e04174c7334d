"""The contract of ``Processes``: run, spawn, and supervise processes by reference."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from descriptors import closed_since, descriptors
from netns import fresh_namespace

from isola.errors import CommandFailed, HostFailure, TimedOut, WrongState
from isola.host.process import Child, LinuxProcesses, Processes, ProcessRef
from isola.testing.processes import Call, FakeProcesses

# The programs of this suite, as shell for the real port and as coroutines for the fake.
SCRIPTS = {
    "say": "echo out; printf 'one\\ntwo\\rthree' >&2",
    "fail": "echo bad luck >&2; exit 3",
    "die": "kill -KILL $$",
    "flood": "head -c 17000000 /dev/zero",
    "chatter": "for i in $(seq 60000); do echo 'one line of much output'; done >&2; echo the end >&2; exit 1",
    "environment": 'echo "$WORD"',
    "place": "pwd",
    "deaf": "trap '' TERM; while :; do sleep 0.05; done",
}

_SPAWNER = """
import asyncio, os
from isola.host.process import LinuxProcesses

async def main():
    given, _ = os.pipe()
    script = "for fd in /proc/$$/fd/*; do case ${fd##*/} in [012]) ;; *) readlink $fd; esac; done"
    done = await LinuxProcesses().run(["sh", "-c", script], pass_fds=[given])
    print(done.stdout.decode())

asyncio.run(main())
"""
"""The descriptors of a child that inherits a pipe, besides the standard ones."""


async def say(call: Call) -> int:
    call.out(b"out\n")
    call.err(b"one\ntwo\rthree")
    return 0


async def fail(call: Call) -> int:
    call.err(b"bad luck\n")
    return 3


async def die(call: Call) -> int:
    return -signal.SIGKILL


async def flood(call: Call) -> int:
    call.out(bytes(17_000_000))
    return 0


async def chatter(call: Call) -> int:
    for _ in range(60_000):
        call.err(b"one line of much output\n")
    call.err(b"the end\n")
    return 1


async def environment(call: Call) -> int:
    call.out(f"{(call.env or {}).get('WORD', '')}\n".encode())
    return 0


async def place(call: Call) -> int:
    call.out(f"{call.cwd}\n".encode())
    return 0


FAKES = {
    "say": say,
    "fail": fail,
    "die": die,
    "flood": flood,
    "chatter": chatter,
    "environment": environment,
    "place": place,
}


@pytest.fixture(params=["fake", "linux"])
async def processes(request: pytest.FixtureRequest) -> AsyncIterator[Processes]:
    if request.param == "fake":
        yield FakeProcesses(FAKES)
        return
    before = descriptors()
    yield LinuxProcesses()
    await closed_since(before)


def argv(processes: Processes, name: str) -> list[str]:
    return [name] if isinstance(processes, FakeProcesses) else ["sh", "-c", SCRIPTS[name]]


@pytest.fixture
async def sleeper(processes: Processes) -> AsyncIterator[Child]:
    child = await processes.spawn(["sleep", "600"])
    yield child
    child.signal(signal.SIGKILL)
    await child.wait()


async def test_run_returns_status_and_both_streams(processes: Processes) -> None:
    done = await processes.run(argv(processes, "say"))
    assert (done.status, done.stdout, done.stderr) == (0, b"out\n", b"one\ntwo\rthree")
    assert done.argv == tuple(argv(processes, "say"))


async def test_run_feeds_standard_input(processes: Processes) -> None:
    data = bytes(range(256)) * 2000
    assert (await processes.run(["cat"], stdin=data)).stdout == data


async def test_run_without_input_reads_eof(processes: Processes) -> None:
    assert (await processes.run(["cat"])).stdout == b""


async def test_run_reports_each_line_of_standard_error(processes: Processes) -> None:
    lines: list[str] = []
    await processes.run(argv(processes, "say"), on_line=lines.append)
    assert lines == ["one", "two", "three"]


async def test_run_raises_what_on_line_raises(processes: Processes) -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="one"):
        await processes.run(argv(processes, "say"), on_line=refuse)


async def test_failure_carries_status_and_stderr(processes: Processes) -> None:
    with pytest.raises(CommandFailed) as failure:
        await processes.run(argv(processes, "fail"))
    assert failure.value.status == 3
    assert failure.value.evidence == "bad luck"


async def test_unchecked_failure_is_a_result(processes: Processes) -> None:
    done = await processes.run(argv(processes, "fail"), check=False)
    assert (done.status, done.stderr) == (3, b"bad luck\n")


async def test_death_by_signal_is_a_negative_status(processes: Processes) -> None:
    done = await processes.run(argv(processes, "die"), check=False)
    assert done.status == -signal.SIGKILL


async def test_missing_program_is_status_127_with_a_remedy(processes: Processes) -> None:
    for start in (processes.run, processes.spawn):
        with pytest.raises(CommandFailed) as failure:
            await start(["no-such-program-here"])
        assert failure.value.status == 127
        assert "apt-get install" in failure.value.remedy


async def test_output_beyond_the_limit_is_refused(processes: Processes) -> None:
    with pytest.raises(HostFailure, match="more than 16 MiB"):
        await processes.run(argv(processes, "flood"))


async def test_the_end_of_long_stderr_is_kept(processes: Processes) -> None:
    with pytest.raises(CommandFailed) as failure:
        await processes.run(argv(processes, "chatter"))
    assert failure.value.evidence.endswith("the end")


async def test_the_environment_replaces_the_daemons(processes: Processes) -> None:
    done = await processes.run(argv(processes, "environment"), env={"WORD": "island"})
    assert done.stdout == b"island\n"


async def test_working_directory(processes: Processes, tmp_path: Path) -> None:
    done = await processes.run(argv(processes, "place"), cwd=tmp_path)
    assert done.stdout.decode() == f"{tmp_path}\n"


async def test_timeout_names_the_program(processes: Processes) -> None:
    with pytest.raises(TimedOut, match="sleep did not end within"):
        await processes.run(["sleep", "600"], timeout=0.05)


async def test_cancellation_is_raised(processes: Processes) -> None:
    task = asyncio.create_task(processes.run(["sleep", "600"]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_spawned_child_runs_until_signalled(processes: Processes, sleeper: Child) -> None:
    assert processes.alive(sleeper.ref)
    assert processes.identify(sleeper.ref.pid) == sleeper.ref
    sleeper.signal(signal.SIGTERM)
    assert list(await asyncio.gather(sleeper.wait(), sleeper.wait())) == [-signal.SIGTERM] * 2
    assert not processes.alive(sleeper.ref)
    sleeper.signal(signal.SIGTERM)


async def test_waiting_may_be_cancelled(sleeper: Child) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(sleeper.wait(), 0.01)
    sleeper.signal(signal.SIGKILL)
    assert await sleeper.wait() == -signal.SIGKILL


async def test_signal_and_gone_work_by_reference(processes: Processes, sleeper: Child) -> None:
    waiting = asyncio.create_task(processes.gone(sleeper.ref))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert processes.signal(sleeper.ref, signal.SIGKILL)
    await asyncio.wait_for(waiting, 60)
    await sleeper.wait()
    assert not processes.signal(sleeper.ref, signal.SIGKILL)
    await asyncio.wait_for(processes.gone(sleeper.ref), 60)


async def test_another_process_with_the_same_pid_is_distinguished(processes: Processes, sleeper: Child) -> None:
    other = ProcessRef(sleeper.ref.pid, sleeper.ref.started + 1)
    assert not processes.alive(other)
    assert not processes.signal(other, signal.SIGKILL)
    await asyncio.wait_for(processes.gone(other), 60)
    assert processes.command_line(other) == ()
    assert processes.alive(sleeper.ref)


async def test_unused_pids(processes: Processes) -> None:
    assert processes.identify(2**22 - 1) is None
    assert processes.command_line(ProcessRef(2**22 - 1, 1)) == ()


async def test_command_line(processes: Processes, sleeper: Child) -> None:
    await wait_until(lambda: processes.command_line(sleeper.ref) != ())
    assert processes.command_line(sleeper.ref) == ("sleep", "600")


# From here on: tests with real processes only.


async def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(6000):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it did not happen")


def written(note: Path) -> bool:
    return note.exists() and note.read_text().endswith("\n")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().split()[2]


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_whole_group_is_killed(tmp_path: Path, how: str) -> None:
    processes, note = LinuxProcesses(), tmp_path / "pid"
    script = f"sleep 600 & echo $! > {note}; wait"
    task = asyncio.create_task(processes.run(["sh", "-c", script], timeout=0.5 if how == "timeout" else None))
    await wait_until(lambda: written(note))
    if how == "cancel":
        task.cancel()
    with pytest.raises(asyncio.CancelledError if how == "cancel" else TimedOut):
        await task
    assert processes.identify(int(note.read_text())) is None


async def test_a_program_that_ignores_signals_is_killed() -> None:
    with pytest.raises(TimedOut):
        await LinuxProcesses().run(["sh", "-c", SCRIPTS["deaf"]], timeout=0.1)


async def test_background_processes_are_not_waited_for(tmp_path: Path) -> None:
    processes, note = LinuxProcesses(), tmp_path / "pid"
    begun = time.monotonic()
    done = await processes.run(["sh", "-c", f"sleep 600 & echo $! > {note}; echo output"])
    assert done.stdout == b"output\n"
    assert time.monotonic() - begun < 300
    left = processes.identify(int(note.read_text()))
    assert left is not None and processes.alive(left)
    assert processes.signal(left, signal.SIGKILL)
    await asyncio.wait_for(processes.gone(left), 60)


async def test_child_gets_the_descriptors_it_is_given_and_no_others() -> None:
    processes = LinuxProcesses()
    reader, writer = os.pipe()
    extra, other = os.pipe()
    try:
        pipes = [os.readlink(f"/proc/self/fd/{fd}") for fd in (writer, extra)]
        listed = 'for fd in /proc/self/fd/*; do echo "${fd##*/} $(readlink "/proc/$$/fd/${fd##*/}")"; done >&2'
        child = await processes.spawn(["sh", "-c", listed], stderr=writer, pass_fds=[extra])
        os.close(writer)
        assert await child.wait() == 0
        seen = [line.split() for line in os.read(reader, 4096).decode().splitlines()]
        # Both ends of a pipe have one name. What another test of this process has left open for children is not ours.
        assert {(int(line[0]), line[-1]) for line in seen if line[-1] in pipes} == {
            *((fd, pipes[0]) for fd in (1, 2)),
            (extra, pipes[1]),
        }
    finally:
        for fd in (reader, extra, other):
            os.close(fd)


async def test_child_gets_no_descriptor_that_the_daemon_was_started_with(tmp_path: Path) -> None:
    inherited = os.open(tmp_path, os.O_RDONLY)
    try:
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", _SPAWNER],
            pass_fds=[inherited],
            capture_output=True,
            check=True,
            text=True,
        )
    finally:
        os.close(inherited)
    assert done.stdout.count("pipe:") == 1
    assert str(tmp_path) not in done.stdout


async def test_child_is_in_the_network_namespace_of_its_starter_wherever_threads_were_made() -> None:
    processes = LinuxProcesses()
    look = ["readlink", "/proc/self/ns/net"]
    before = (await asyncio.gather(*(processes.run(look) for _ in range(8))))[0].stdout
    with fresh_namespace() as namespace:
        inside = {done.stdout for done in await asyncio.gather(*(processes.run(look) for _ in range(8)))}
        assert inside == {f"net:[{namespace.inode}]\n".encode()} != {before}
    assert {done.stdout for done in await asyncio.gather(*(processes.run(look) for _ in range(8)))} == {before}


async def test_child_gets_signals_that_are_ignored_as_they_are_by_default() -> None:
    """As Python ignores some, and those of a terminal are in a background job."""
    before = signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        done = await LinuxProcesses().run(["grep", "SigIgn", "/proc/self/status"])
    finally:
        signal.signal(signal.SIGQUIT, before)
    ignored = int(done.stdout.split()[1], 16)
    assert not [
        number for number in range(1, 32) if ignored >> (number - 1) & 1
    ]  # higher numbers are reserved by the C library


async def test_a_nul_in_an_argument_is_refused() -> None:
    with pytest.raises(ValueError, match="null"):
        await LinuxProcesses().spawn(["true", "a\0b"])


async def test_child_leads_a_session_of_its_own() -> None:
    done = await LinuxProcesses().run(["sh", "-c", "echo $$; cut -d' ' -f6 /proc/$$/stat"])
    own, session = done.stdout.split()
    assert own == session


async def test_program_that_may_not_be_executed_is_status_126(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/bin/sh\n")
    with pytest.raises(CommandFailed) as failure:
        await LinuxProcesses().run([str(tmp_path / "program")])
    assert failure.value.status == 126


async def test_missing_interpreter_and_directory_are_distinguished(tmp_path: Path) -> None:
    (tmp_path / "program").write_text("#!/no/such/interpreter\n")
    (tmp_path / "program").chmod(0o755)
    with pytest.raises(CommandFailed, match="interpreter"):
        await LinuxProcesses().run([str(tmp_path / "program")])
    with pytest.raises(HostFailure, match="no such directory"):
        await LinuxProcesses().run(["true"], cwd=tmp_path / "nowhere")


async def test_a_name_with_parentheses_does_not_confuse(tmp_path: Path) -> None:
    processes, program = LinuxProcesses(), tmp_path / "x) Z 1 ("
    program.symlink_to("/bin/sleep")
    child = await processes.spawn([str(program), "600"])
    assert processes.alive(child.ref)
    child.signal(signal.SIGKILL)
    await child.wait()


async def test_zombie_counts_as_gone(tmp_path: Path) -> None:
    processes, note = LinuxProcesses(), tmp_path / "pid"
    # The shell's child ends, and after exec its parent never waits for it.
    child = await processes.spawn(["sh", "-c", f"sleep 0.1 & echo $! > {note}; exec sleep 600"])
    await wait_until(lambda: written(note))
    zombie = int(note.read_text())
    await wait_until(lambda: state(zombie) == "Z")
    assert processes.identify(zombie) is None
    child.signal(signal.SIGKILL)
    await child.wait()


async def test_a_hundred_children_at_once() -> None:
    processes = LinuxProcesses()
    children = [await processes.spawn(["sh", "-c", f"exit {number}"]) for number in range(100)]
    assert await asyncio.gather(*(child.wait() for child in children)) == list(range(100))


async def test_streams_can_be_reopened_by_their_user() -> None:
    ours, theirs = os.pipe()
    try:
        child = await LinuxProcesses().spawn(["sleep", "600"], stdout=theirs)
        try:
            LinuxProcesses().give_streams(child.ref, 1_300_000, 1_300_001)
            assert (os.fstat(ours).st_uid, os.fstat(ours).st_gid) == (1_300_000, 1_300_001)
        finally:
            child.signal(signal.SIGKILL)
            await child.wait()
        with pytest.raises(WrongState):
            LinuxProcesses().give_streams(child.ref, 0, 0)
    finally:
        os.close(ours)
        os.close(theirs)
