"""Network namespaces for tests: one for the test itself, and guests."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from isola.host.proc import ProcessRef, identify
from isola.model.network import NetworkNamespace

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


async def start(*argv: str) -> asyncio.subprocess.Process:
    """Start in the test's namespace, with standard output and error in one pipe."""
    return await asyncio.create_subprocess_exec(
        *argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


async def check(*argv: str) -> None:
    """Run in the test's namespace; fails with the output if the command fails."""
    child = await start(*argv)
    output, _ = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 0, output.decode(errors="replace")


class Guest:
    """A network namespace kept alive by a sleeping process, in place of an instance or another machine."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        home = os.readlink("/proc/thread-self/ns/net")
        while os.readlink(f"/proc/{self.pid}/ns/net") == home:
            time.sleep(0.002)

    @property
    def pid(self) -> int:
        """PID of the sleeping process."""
        return self._process.pid

    @property
    def ref(self) -> ProcessRef:
        """The process, as an argument for ports of the host."""
        found = identify(self.pid)
        assert found is not None
        return found

    @property
    def endpoint(self) -> NetworkNamespace:
        """The namespace, as an argument for networks."""
        return NetworkNamespace(Path(f"/proc/{self.pid}/ns/net"))

    def command(self, *argv: str) -> list[str]:
        """argv that runs ``argv`` inside."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", *argv]

    async def start(self, *argv: str) -> asyncio.subprocess.Process:
        """Start inside, with standard output and error in one pipe."""
        return await start(*self.command(*argv))

    async def run(self, *argv: str) -> tuple[int, str]:
        """Run inside: exit status, and standard output and error together."""
        child = await self.start(*argv)
        output, _ = await asyncio.wait_for(child.communicate(), 60)
        return child.returncode or 0, output.decode(errors="replace")

    async def check(self, *argv: str) -> str:
        """Run inside; returns the output. Fails with it if the command fails."""
        status, output = await self.run(*argv)
        assert status == 0, f"{' '.join(argv)}: {status}\n{output}"
        return output

    def end(self) -> None:
        """End the namespace, with its links."""
        self._process.kill()
        self._process.wait()


class Netns:
    """The namespace of the test and of all processes that it starts."""

    def __init__(self) -> None:
        self.inode = os.stat("/proc/thread-self/ns/net").st_ino
        self._guests: list[Guest] = []

    def guest(self) -> Guest:
        """A further namespace, which ends with the test."""
        self._guests.append(Guest())
        return self._guests[-1]

    def processes(self) -> list[int]:
        """Other processes in this namespace."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if os.stat(entry / "ns/net").st_ino == self.inode:
                        found.append(int(entry.name))
        return found

    def links(self) -> set[str]:
        """Names of all links."""
        return set(os.listdir("/proc/thread-self/net/dev_snmp6")) - {"lo"}

    def end_guests(self) -> None:
        """End all remaining guests."""
        for guest in self._guests:
            guest.end()


@contextlib.contextmanager
def fresh_namespace() -> Iterator[Netns]:
    """Enter a new network namespace with ``lo`` up; at the end assert that no process is left in it."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    _check(_libc.unshare(_CLONE_NEWNET))
    namespace = Netns()
    try:
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        yield namespace
    finally:
        namespace.end_guests()
        _check(_libc.setns(before, _CLONE_NEWNET))
        os.close(before)
        left = namespace.processes()
        argv = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() for pid in left]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not argv, f"left running: {argv}"


@contextlib.contextmanager
def inside(name: str) -> Iterator[None]:
    """Enter a named namespace with this thread: sockets that are opened in the block stay there."""
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    target = os.open(f"/run/netns/{name}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(target, _CLONE_NEWNET))
        try:
            yield
        finally:
            _check(_libc.setns(before, _CLONE_NEWNET))
    finally:
        os.close(target)
        os.close(before)


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
