"""One daemon per directory: finding and stopping the process that has its lock.

The directory itself is locked, so removing a file cannot let a second daemon start. The supervisor, if there is
one, shares the lock with its daemon: it is free when both have ended. ``daemon.lock`` is locked by the daemon
only, for earlier versions, which check it. PIDs in files are informative: a process is found by the lock that it
has, and signalled through a pidfd.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from isola.errors import Conflict, HostFailure
from isola.host.proc import parent, start_time

_LOCK = "daemon.lock"
_TRIES, _PAUSE = 5, 0.1
_OURS = ("isolad", "isola.")


class Stopped(enum.Enum):
    """The result of stopping a daemon."""

    NOTHING = enum.auto()
    """Nothing ran."""
    SUPERVISOR = enum.auto()
    """Only a supervisor was running, which was about to restart the daemon."""
    DAEMON = enum.auto()


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a directory."""

    pid: int
    started: int
    command: tuple[str, ...]
    daemon: bool
    """It holds ``daemon.lock``, which a supervisor does not."""

    def __str__(self) -> str:
        return f"process {self.pid} ({' '.join(self.command)[:200]})"


def hold(directory: Path) -> int:
    """Lock a directory for as long as the descriptor, or one that a child inherits, is open. Raises Conflict."""
    descriptor = _open(directory)
    try:
        _lock(descriptor, directory)
        if not os.path.samestat(os.fstat(descriptor), os.stat(directory)):
            raise Conflict(f"{directory} was replaced", remedy="start it again")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def hold_daemon(directory: Path) -> int:
    """Lock ``daemon.lock`` as the only daemon of a directory that is locked already. Raises Conflict."""
    path = directory / _LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, directory)
    except BaseException:
        os.close(descriptor)
        raise
    with contextlib.suppress(OSError):  # a full disk must not prevent the start
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holders(directory: Path) -> tuple[Holder, ...]:
    """Processes that have the lock of a directory and are visible in this PID namespace."""
    places = {mark: path.name == _LOCK for path in (directory, directory / _LOCK) if (mark := _mark(path))}
    return tuple(holder for pid in _numbers() if (holder := _look(pid, places)) is not None)


def stop(directory: Path, *, signum: int, timeout: float) -> Stopped:
    """Signal the process that has the lock of a directory, and wait until it has ended.

    Raises TimeoutError if it does not end, HostFailure if it is not visible in this PID namespace, or is not isolad.
    """
    found = holders(directory)
    if not found:
        if _is_locked(directory) or _is_locked(directory / _LOCK):
            raise HostFailure(
                f"The daemon of {directory} runs, but cannot be seen from here",
                evidence="no process in this PID namespace has its lock",
                remedy="stop it where it was started: on the host, or in its container",
            )
        return Stopped.NOTHING
    if foreign := [holder for holder in found if not _is_ours(holder)]:
        raise HostFailure(
            f"{directory} is locked by a process that is not isolad",
            evidence=", ".join(map(str, foreign)),
            remedy="stop that process yourself if necessary",
        )
    with _opened(found) as descriptors:
        above = {holder.pid for holder in found}
        for holder, descriptor in descriptors.items():
            if parent(holder.pid) not in above:  # a supervisor forwards the signal, and does not restart the daemon
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, signum)
        _await(descriptors, timeout)
    return Stopped.DAEMON if any(holder.daemon for holder in found) else Stopped.SUPERVISOR


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _lock(descriptor: int, directory: Path) -> None:
    for attempt in range(_TRIES):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt < _TRIES - 1:  # another process may just be checking whether it is locked
                time.sleep(_PAUSE)
    others = ", ".join(str(holder) for holder in holders(directory) if holder.pid != os.getpid())
    raise Conflict(
        f"Another daemon runs in {directory}",
        evidence=others or "no process in this PID namespace has its lock",
        remedy="use it, or stop it first",
    )


def _is_locked(path: Path) -> bool:
    try:
        descriptor = _open(path)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _mark(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _numbers() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid())


def _look(pid: int, places: dict[tuple[int, int], bool]) -> Holder | None:
    started = start_time(pid)
    held = [places[mark] for mark in _locked_by(pid, {inode for _, inode in places}) if mark in places]
    if not held or not started:
        return None
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            argv = file.read(4096).split(b"\0")[:-1]
    except OSError:
        return None
    return Holder(pid, started, tuple(os.fsdecode(argument) for argument in argv), any(held))


def _locked_by(pid: int, inodes: set[int]) -> Iterator[tuple[int, int]]:
    """Device and inode of files among ``inodes`` on which a process has an exclusive lock."""
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return
    for number in numbers:
        # The file is accessed last, because its file system may hang.
        with contextlib.suppress(OSError, ValueError):
            with open(f"/proc/{pid}/fdinfo/{number}", "rb", buffering=0) as file:
                rows = [line.split() for line in file.read(4096).splitlines() if line.startswith(b"lock:")]
            if any(row[2] == b"FLOCK" and row[4] == b"WRITE" and int(row[6].split(b":")[2]) in inodes for row in rows):
                status = os.stat(f"/proc/{pid}/fd/{number}")
                yield status.st_dev, status.st_ino


def _is_ours(holder: Holder) -> bool:
    """Whether its command line says that it is isolad, or one of our modules (``python -m isola...``)."""
    return any(argument.rsplit("/", 1)[-1].startswith(_OURS) for argument in holder.command[:6])


@contextlib.contextmanager
def _opened(found: Sequence[Holder]) -> Iterator[dict[Holder, int]]:
    """Pidfds of the processes that still have the same start time."""
    with contextlib.ExitStack() as stack:
        descriptors: dict[Holder, int] = {}
        for holder in found:
            try:
                descriptor = os.pidfd_open(holder.pid)
            except ProcessLookupError:
                continue
            stack.callback(os.close, descriptor)
            if (
                start_time(holder.pid) == holder.started
            ):  # checked after the pidfd was opened, so the PID cannot have been reused
                descriptors[holder] = descriptor
        yield descriptors


def _await(descriptors: dict[Holder, int], timeout: float) -> None:
    end = time.monotonic() + timeout
    for holder, descriptor in descriptors.items():
        if not select.select([descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            raise TimeoutError(f"{holder} did not end within {timeout:g} seconds")
