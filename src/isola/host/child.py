"""Starting a program, and watching it until it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal as signals
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from isola.errors import CommandFailed, HostFailure
from isola.host import spawning
from isola.host.places import HERE, Place, going_to
from isola.host.proc import ProcessRef, start_time
from isola.host.programs import find_program, remedy_for
from isola.host.threads import Work, in_long_thread


class LinuxChild:
    """A child watched through a pidfd: no thread, no SIGCHLD, no confusion by reused PIDs."""

    def __init__(self, pid: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        try:
            self._pidfd = os.pidfd_open(pid)
        except OSError as error:
            os.kill(pid, signals.SIGKILL)
            os.waitpid(pid, 0)
            raise HostFailure(f"{name} cannot be watched", evidence=str(error)) from error
        # A child that has not been waited for keeps its PID and its entry in /proc, even after it has ended.
        self._ref = ProcessRef(pid, start_time(pid))
        self._loop.add_reader(self._pidfd, self._reap)

    @property
    def ref(self) -> ProcessRef:
        return self._ref

    @property
    def ended(self) -> asyncio.Future[int]:
        """Done once the child has been reaped; await it through ``asyncio.shield``, it is shared."""
        return self._ended

    async def wait(self) -> int:
        """Exit status, or the negative signal number."""
        return await asyncio.shield(self._ended)

    def signal(self, signum: int) -> None:
        """Send a signal to the child itself."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                signals.pidfd_send_signal(self._pidfd, signum)

    def kill_group(self) -> None:
        """Kill the child and its process group, while the group's id cannot have been reused."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._ref.pid, signals.SIGKILL)

    def _reap(self) -> None:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            if result is None:
                return
            status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        except ChildProcessError:
            status = 255
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set_result(status)


async def start(
    argv: Sequence[str],
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    stderr: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    place: Place = HERE,
) -> LinuxChild:
    """Start a program in a new session; None is ``/dev/null``. A thread waits until it has been executed."""
    program = argv[0] if "/" in argv[0] else find_program(argv[0])
    if program is None:
        raise _missing(argv)
    try:
        spawn = partial(
            spawning.spawn,
            program,
            argv,
            (stdin, stdout, stderr),
            network=spawning.network(),
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
        )
        pid = await in_long_thread(Work.START, going_to, place, spawn)
    except OSError as error:
        raise _not_started(argv, cwd, error) from error
    return LinuxChild(pid, argv[0])


def _not_started(argv: Sequence[str], cwd: Path | None, error: OSError) -> HostFailure:
    if cwd is not None and not cwd.is_dir():
        return HostFailure(f"{argv[0]} cannot be started in {cwd}", evidence="no such directory")
    if isinstance(error, FileNotFoundError) and not Path(argv[0]).exists():
        return _missing(argv)
    if isinstance(error, FileNotFoundError):
        return CommandFailed(
            argv,
            127,
            "the interpreter named in its first line is missing",
            remedy=f"install it, or change the first line of {argv[0]}",
        )
    if isinstance(error, PermissionError):
        return CommandFailed(argv, 126, error.strerror or "not permitted", remedy=f"make {argv[0]} executable")
    return HostFailure(f"{argv[0]} cannot be started", evidence=str(error))


def _missing(argv: Sequence[str]) -> CommandFailed:
    return CommandFailed(argv, 127, "no such program", remedy=remedy_for(argv[0]))
