"""The real agent without a machine: a process in namespaces of its own, at the other end of a socket pair."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from isola.host.clock import LinuxClock
from isola.host.files import LinuxFiles, Root
from isola.host.namespaces import LinuxNamespaces
from isola.host.process import ProcessRef
from isola.host.stream import DescriptorStream
from isola.model.identity import IdRange
from isola.runtimes.agent.agent import Agent
from isola.runtimes.agent.body import Writer
from isola.runtimes.agent.methods import GuestMount, write_mount, write_program
from isola.runtimes.agent.plan import BIND

SOURCES = Path(__file__).parents[2] / "src/isola/agent"
CACHE = Path(__file__).parents[2] / ".cache"
SANITIZED = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
SCRATCH = "/mnt"
"""Where it mounts a file system for files of the run, in its own mount namespace."""
RECURSIVE = 16384


def built(extra: str = "") -> Path:
    """The agent, compiled once for the present sources."""
    names = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(extra.encode() + b"".join(path.read_bytes() for path in names)).hexdigest()[:16]
    binary = CACHE / f"agent-{digest}"
    if not binary.exists():
        CACHE.mkdir(exist_ok=True)
        fresh = binary.with_suffix(f".{os.getpid()}")
        flags = ["LDFLAGS=", f"EXTRA={extra}"] if extra else []
        subprocess.run(["make", "-s", "-B", "-C", SOURCES, f"OUT={fresh}", *flags], check=True)
        fresh.rename(binary)
    return binary


def bare_plan(root: Path, *, command: Sequence[str] = ("/bin/sh",)) -> Writer:
    """A root without any mount below it."""
    body = Writer()
    write_program(body, command, {}, "/", (0, 0, ()), terminal=False)
    body.number("BqI", 0, -1, 15).text("")
    write_mount(body, GuestMount(str(root), str(root), "none", BIND | RECURSIVE))
    for _ in range(5):
        body.number("I", 0)
    return body.text("").text("").text("")


@asynccontextmanager
async def native_agent(
    *, idmap: IdRange | None = None, binary: Path | None = None, given: Sequence[int] = ()
) -> AsyncIterator[Agent]:
    """Connected; it and all it has started end with the context. It inherits the descriptors ``given``."""
    async with native_stream(idmap=idmap, binary=binary, given=given) as stream:
        agent = await Agent.connect(stream, LinuxClock())
        try:
            yield agent
        finally:
            agent.close()


@asynccontextmanager
async def native_service() -> AsyncIterator[Agent]:
    """As a service of a system: beside a first process that has not been started by it."""
    later = 'until grep -q sleep /proc/1/comm; do sleep 0.01; done; exec "$@"'
    init = ["sh", "-c", f'trap "" TERM; ({later}) & exec sleep 1000', "sh"]
    async with native_stream(command=init, options=["--service"]) as stream:
        agent = await Agent.connect(stream, LinuxClock())
        try:
            yield agent
        finally:
            agent.close()


@asynccontextmanager
async def native_stream(
    *,
    idmap: IdRange | None = None,
    binary: Path | None = None,
    given: Sequence[int] = (),
    command: Sequence[str] = (),
    options: Sequence[str] = (),
) -> AsyncIterator[DescriptorStream]:
    """The host's end of its stream. ``command`` starts what follows it."""
    ours, theirs = socket.socketpair()
    program = os.open(binary or built(), os.O_RDONLY)  # its directory may be closed to the ids inside
    argv = [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--net", "--ipc",
        "--", *command, f"/proc/self/fd/{program}", *options, "--fd", str(theirs.fileno()), "--scratch", SCRATCH,
    ]  # fmt: skip
    async with AsyncExitStack() as stack:
        if idmap is not None:
            users = await stack.enter_async_context(LinuxNamespaces().user(idmap))
            argv = ["nsenter", f"--user={users}", "--", *argv]
        inherited = [theirs.fileno(), program, *given]
        process = await asyncio.create_subprocess_exec(
            *argv, pass_fds=inherited, stdin=subprocess.DEVNULL, env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        )
        theirs.close()
        os.close(program)
        # The namespace is entered when the agent answers, or does not.
        stream = DescriptorStream(ours.detach())
        try:
            yield stream
        finally:
            stream.close()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class AgentFiles(LinuxFiles):
    """Roots are opened through an agent in a user namespace of the ids: as a guest, it sees its own ids."""

    @asynccontextmanager
    async def root(
        self, place: Path | None = None, *, process: ProcessRef | None = None, idmap: IdRange | None = None
    ) -> AsyncIterator[Root]:
        """By a new agent each time."""
        if place is None:
            assert process is not None
            async with super().root(process=process, idmap=idmap) as found:
                yield found
            return
        async with super().root(place, idmap=idmap):  # raises the same errors if there is none
            pass
        if place.parent != Path("/tmp"):
            place.parent.chmod(0o711)  # the ids inside have to reach it
        async with native_agent(idmap=idmap) as agent:
            await agent.prepare(bare_plan(place))
            async with agent.files() as found:
                yield found
