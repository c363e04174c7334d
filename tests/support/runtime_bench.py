"""A runtime driver on a host, and helpers for its contract tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from isola.events import Events
from isola.host import Host
from isola.model.identity import HostNames, IdRange
from isola.model.network import HostTap
from isola.operations import Operation, Operations
from isola.operations.operation import Observer
from isola.runtimes import (
    Capability,
    ExecSpec,
    Execution,
    Guest,
    Root,
    RunSpec,
    Runtime,
    TapNic,
)
from isola.testing.commands import FakeCommand
from isola.testing.runtime import FakeRuntime
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
    """A driver with its host, and methods to inspect its effects."""

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
        given |= {"idmap": IDMAP} | ({} if shared else {"network": HostTap(), "nics": (NIC,)})
        given["root"] = Root(self.root, self.kind.capabilities.root)
        return RunSpec(id=id, hostname=f"host-{id}", command=command, **given | more)  # type: ignore[arg-type]

    def has(self, capability: Capability) -> bool:
        return self.kind.capabilities.has(capability)

    async def guest(self, id: str = "one") -> Guest:
        """The running guest."""
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
        """The driver object of the next daemon."""
        runtime = self.kind(self.host, self.directory, self.names)
        if isinstance(runtime, FakeRuntime) and isinstance(self.runtime, FakeRuntime):
            runtime.programs = self.runtime.programs
        return runtime

    def end(self, id: str, status: int) -> None:
        """Let the first process exit with this status."""
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
        async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
        while wanted not in data:
            block = await stream.read()  # type: ignore[attr-defined]
            assert block, f"the end came before {wanted!r}: {data!r}"
            data += block
    return data


async def shown(bench: Bench, wanted: Callable[[bytes], bool], id: str = "one", *, seconds: float = 120) -> None:
    """Wait for the console's log."""
    async with asyncio.timeout(seconds):
        while not wanted(await bench.runtime.console_log(id)):  # noqa: ASYNC110 - a program elsewhere writes it
            await asyncio.sleep(0.01)


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
    if "exec sleep" in script:
        await command.stdout.write(b"ready\n")
        return await _sleep(command)
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


def booted_as_fake(bench: Bench) -> None:
    if isinstance(bench.runtime, FakeRuntime):
        bench.runtime.show("one", b"booted host-one\r\n")


async def booted(bench: Bench) -> None:
    booted_as_fake(bench)
    await shown(bench, lambda log: b"booted" in log)
