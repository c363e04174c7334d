"""Starts, waits for and signals processes: the only place that does so."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from isola.errors import CommandFailed, HostFailure, TimedOut, WrongState
from isola.host.cancellation import finish
from isola.host.capture import Head, Lines, Output, Tail
from isola.host.child import LinuxChild, start
from isola.host.places import HERE, Place
from isola.host.proc import ProcessRef, group_lives, identify, open_of, unseen

__all__ = ["HERE", "Child", "Completed", "LinuxProcesses", "Place", "ProcessRef", "Processes"]

_STDOUT_LIMIT = 16 << 20
_STDERR_KEPT = 1 << 20


@dataclass(frozen=True, slots=True)
class Completed:
    """Result of a program that has ended."""

    argv: tuple[str, ...]
    status: int
    """Exit status, or the negative number of the signal that killed it."""
    stdout: bytes
    stderr: bytes


class Child(Protocol):
    """A process that was started; the caller must call ``wait``."""

    @property
    def ref(self) -> ProcessRef: ...

    async def wait(self) -> int:
        """Exit status, or the negative signal number. Several tasks may wait."""
        ...

    def signal(self, signum: int) -> None:
        """Send a signal; no effect if the process has ended."""
        ...


class Processes(Protocol):
    """Start programs, and supervise processes that keep running when the daemon ends."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float | None = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run until it exits. ``on_line`` is called with each line of standard error.

        ``env`` replaces the daemon's environment. Background processes of the program are not waited for. At most
        16 MiB of standard output are accepted (more is a HostFailure), and the last MiB of standard error is kept.

        Raises CommandFailed (status other than 0 with ``check``; program not found is status 127) or TimedOut.
        When cancelled or timed out, it first kills the whole process group and waits for it.
        """
        ...

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
    ) -> Child:
        """Start and return at once, in a session of its own. A stream given as None is ``/dev/null``.

        ``argv[0]`` and ``cwd`` are paths in ``place``; a name without a slash is searched in the daemon's PATH.

        Raises CommandFailed (127 not found, 126 not executable).
        """
        ...

    def identify(self, pid: int) -> ProcessRef | None:
        """The process that has this PID now, or None (also for a zombie)."""
        ...

    def alive(self, ref: ProcessRef) -> bool:
        """Whether the process still runs. Raises HostFailure if that cannot be determined."""
        ...

    def signal(self, ref: ProcessRef, signum: int) -> bool:
        """Signal the process, never another one with a reused PID; False if it has ended."""
        ...

    async def gone(self, ref: ProcessRef) -> None:
        """Return once the process has ended, even if it is not a child of the daemon. Without polling (pidfd)."""
        ...

    def command_line(self, ref: ProcessRef) -> tuple[str, ...]:
        """The arguments of the process; empty if it has ended.

        Also empty for a moment during ``execve``.
        """
        ...

    def give_streams(self, ref: ProcessRef, uid: int, gid: int) -> None:
        """Make this user the owner of pipes among its standard streams, so that it can open ``/dev/stdout``.

        Raises WrongState when it has ended, HostFailure.
        """
        ...


class LinuxProcesses:
    """Starts processes by posix_spawn in a thread, and waits by pidfd."""

    async def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float | None = 60,
        check: bool = True,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        kept, stderr_tail = Head(_STDOUT_LIMIT, lambda: _too_much_output(argv)), Tail(_STDERR_KEPT)
        lines = Lines(on_line or _ignore)
        try:
            with contextlib.ExitStack() as stack:
                output = stack.enter_context(Output(kept.take, failed))
                errors = stack.enter_context(
                    Output(_both(stderr_tail.take, lines.take) if on_line else stderr_tail.take, failed)
                )
                source = stack.enter_context(_memory_file(stdin)) if stdin else None
                child = await start(
                    argv,
                    stdin=source,
                    stdout=output.remote,
                    stderr=errors.remote,
                    env=env,
                    cwd=cwd,
                    pass_fds=pass_fds,
                    place=place,
                )
                output.close_remote()
                errors.close_remote()
                status = await _end(argv[0], child, failed, timeout)
                output.drain()
                errors.drain()
                lines.end()
                if failed.done():
                    failed.result()
        finally:
            _discard(failed)
        if check and status != 0:
            raise CommandFailed(argv, status, stderr_tail.content().decode(errors="replace"))
        return Completed(tuple(argv), status, kept.content(), stderr_tail.content())

    async def spawn(
        self,
        argv: Sequence[str],
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        place: Place = HERE,
    ) -> Child:
        return await start(
            argv, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, pass_fds=pass_fds, place=place
        )

    def identify(self, pid: int) -> ProcessRef | None:
        return identify(pid)

    def alive(self, ref: ProcessRef) -> bool:
        return self.identify(ref.pid) == ref

    def signal(self, ref: ProcessRef, signum: int) -> bool:
        pidfd = self._open(ref)
        if pidfd is None:
            return False
        try:
            signals.pidfd_send_signal(pidfd, signum)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    async def gone(self, ref: ProcessRef) -> None:
        pidfd = self._open(ref)
        if pidfd is None:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(pidfd, ended.cancel)
        try:
            await asyncio.wait({ended})
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)

    def give_streams(self, ref: ProcessRef, uid: int, gid: int) -> None:
        """By ``/proc/PID/fd``."""
        for number in range(3):
            pipe = open_of(ref, f"fd/{number}", os.O_PATH)
            try:
                if stat.S_ISFIFO(os.fstat(pipe).st_mode):
                    os.chown(f"/proc/self/fd/{pipe}", uid, gid)
            except OSError as error:
                raise HostFailure("Cannot give the streams of a process to its user", evidence=str(error)) from error
            finally:
                os.close(pipe)

    def command_line(self, ref: ProcessRef) -> tuple[str, ...]:
        try:
            descriptor = open_of(ref, "cmdline")
        except (WrongState, HostFailure):
            return ()
        try:
            raw = b"".join(iter(partial(os.read, descriptor, 65536), b""))
        except OSError:
            return ()
        finally:
            os.close(descriptor)
        return tuple(part.decode(errors="replace") for part in raw.split(b"\0")[:-1])

    def _open(self, ref: ProcessRef) -> int | None:
        try:
            pidfd = os.pidfd_open(ref.pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            raise unseen(f"process {ref.pid}", error) from error
        # The PID is checked after the pidfd was opened, so it cannot have been reused.
        try:
            alive = self.alive(ref)
        except HostFailure:
            os.close(pidfd)
            raise
        if not alive:
            os.close(pidfd)
            return None
        return pidfd


async def _end(name: str, child: LinuxChild, failed: asyncio.Future[None], timeout: float | None) -> int:
    try:
        either: set[asyncio.Future[Any]] = {child.ended, failed}
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()
        if not child.ended.done():
            raise TimedOut(f"{name} did not end within {timeout:g} s")
        return child.ended.result()
    except BaseException:
        await finish(_kill(child))
        raise


async def _kill(child: LinuxChild) -> None:
    child.kill_group()
    await child.wait()
    # Killed descendants may still be exiting; their resources must be released before this returns.
    for _ in range(200):
        if not _group_exists(child.ref.pid) or not await asyncio.to_thread(group_lives, child.ref.pid):
            return
        await asyncio.sleep(0.005)


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def _memory_file(content: bytes) -> Iterator[int]:
    """A memfd with the input, so that no task has to write to a pipe."""
    fd = os.memfd_create("stdin")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
        yield fd
    finally:
        os.close(fd)


def _both(first: Callable[[bytes], None], second: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def take(data: bytes) -> None:
        first(data)
        second(data)

    return take


def _too_much_output(argv: Sequence[str]) -> HostFailure:
    return HostFailure(f"{argv[0]} wrote more than {_STDOUT_LIMIT >> 20} MiB to its standard output")


def _ignore(_: str) -> None:
    """Used without ``on_line``."""


def _discard(failed: asyncio.Future[None]) -> None:
    if not failed.cancel() and not failed.cancelled():
        failed.exception()  # retrieved, or asyncio would log it
