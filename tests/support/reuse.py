"""PID reuse, run in a separate PID namespace: a process ends, and another one gets its PID.

Prints for each port the code of the error, or the result that it returns for the first process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from isola.errors import IsolaError
from isola.host.cgroups import LinuxCgroups
from isola.host.files import LinuxFiles
from isola.host.namespaces import LinuxNamespaces
from isola.host.process import LinuxProcesses, ProcessRef

PROCESSES = LinuxProcesses()


async def secret(first: ProcessRef) -> object:
    async with LinuxFiles().root(process=first) as root:
        return b"".join([block async for block in await root.read(sys.argv[1])]).decode()


async def interfaces(first: ProcessRef) -> object:
    return [link.name for link in LinuxNamespaces().interfaces(first)]


async def mounts(first: ProcessRef) -> object:
    return str(LinuxNamespaces().hold_mounts(first))


async def group(first: ProcessRef) -> object:
    cgroups = LinuxCgroups()
    await cgroups.create(sys.argv[2])
    try:
        await cgroups.enter(sys.argv[2], first)
        return list(cgroups.processes(sys.argv[2]))
    finally:
        await cgroups.kill(sys.argv[2])
        await cgroups.remove(sys.argv[2])


async def killed(first: ProcessRef) -> object:
    return PROCESSES.signal(first, signal.SIGKILL)


async def command_line(first: ProcessRef) -> object:
    return PROCESSES.command_line(first)


def give_again(pid: int) -> None:
    """Make the next process get this PID."""
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))


async def main() -> None:
    first = await PROCESSES.spawn(["sleep", "600"])
    first.signal(signal.SIGKILL)
    await first.wait()
    await asyncio.sleep(0.05)  # start times have a resolution of 10 ms
    give_again(first.ref.pid)
    second = await PROCESSES.spawn(["sleep", "600"])
    assert second.ref.pid == first.ref.pid != os.getpid()
    answers = {}
    ports: list[Callable[[ProcessRef], Awaitable[object]]] = [
        secret, interfaces, mounts, group, killed, command_line,
    ]  # fmt: skip
    for port in ports:
        try:
            answers[port.__name__] = await port(first.ref)
        except IsolaError as error:
            answers[port.__name__] = error.code
    answers["second lives"] = PROCESSES.alive(second.ref)
    second.signal(signal.SIGKILL)
    await second.wait()
    print(json.dumps(answers))


asyncio.run(main())
