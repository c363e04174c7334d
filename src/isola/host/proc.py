"""Properties of a process from ``/proc``, by a reference that stays valid when the PID is reused."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from isola.errors import HostFailure, WrongState


@dataclass(frozen=True, slots=True)
class ProcessRef:
    """A process, identified by PID and start time."""

    pid: int
    started: int
    """Start time in clock ticks since boot, field 22 of ``/proc/PID/stat``."""


def identify(pid: int) -> ProcessRef | None:
    """The process that has this PID now; None also for a zombie. Raises HostFailure if ``/proc`` cannot be read."""
    return _running(pid, _stat(f"/proc/{pid}/stat"))


@contextlib.contextmanager
def hold(ref: ProcessRef) -> Iterator[int]:
    """A descriptor of ``/proc/PID`` of exactly this process. Raises WrongState when it has ended.

    The descriptor stays tied to the process: opening files relative to it fails once the process has ended, even if
    its PID was reused meanwhile.
    """
    try:
        directory = os.open(f"/proc/{ref.pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _gone(ref) from None
    except OSError as error:
        raise unseen(f"process {ref.pid}", error) from error
    try:
        if _running(ref.pid, _stat("stat", directory)) != ref:
            raise _gone(ref)
        yield directory
    finally:
        os.close(directory)


def open_of(ref: ProcessRef, name: str, flags: int = os.O_RDONLY) -> int:
    """Open ``/proc/PID/<name>`` of exactly this process. Raises WrongState when it has ended, HostFailure."""
    with hold(ref) as directory:
        try:
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
        except (FileNotFoundError, ProcessLookupError):
            raise _gone(ref) from None
        except OSError as error:
            raise HostFailure(f"Cannot open {name} of process {ref.pid}", evidence=str(error)) from error


def unseen(what: str, error: OSError) -> HostFailure:
    """The error when existence cannot be determined, because descriptors or memory are exhausted."""
    remedy = "raise the limit of open files" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
    return HostFailure(f"Cannot examine {what}", evidence=str(error), remedy=remedy)


def start_time(pid: int) -> int:
    """Start time of a process or zombie, in clock ticks since boot; 0 when there is none."""
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[19]) if fields else 0


def open_inotify(directory: Path, *, owner: int) -> int:
    """Number of inotify instances open in the processes of a user; one shared by several processes counts for each."""
    count = 0
    for entry in _entries(directory):
        with contextlib.suppress(OSError):  # the process has ended meanwhile
            if entry.name.isdigit() and entry.stat().st_uid == owner:
                count += sum(_link(each.path) == "anon_inode:inotify" for each in _entries(f"{entry.path}/fd"))
    return count


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _entries(directory: str | Path) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return list(entries)


def parent(pid: int) -> int:
    """PID of the parent; 0 if the process has ended, or its parent is in another PID namespace."""
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[1]) if fields else 0


def group_lives(group: int) -> bool:
    """Whether a process of this process group still runs. Reads all of ``/proc``; zombies do not count."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(f"/proc/{name}/stat")
            if fields and int(fields[2]) == group and fields[0] not in b"ZX":
                return True
    return False


def _gone(ref: ProcessRef) -> WrongState:
    return WrongState(f"Process {ref.pid} has ended")


def _running(pid: int, fields: list[bytes]) -> ProcessRef | None:
    # A process whose main thread has ended is shown as a zombie while its other threads keep running.
    if not fields or (fields[0] in b"ZX" and int(fields[17]) <= 1):
        return None
    return ProcessRef(pid, int(fields[19]))


def _stat(path: str, directory: int | None = None) -> list[bytes]:
    """Fields of ``/proc/PID/stat`` from the third, the state; empty if the process has ended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except (FileNotFoundError, ProcessLookupError):
        return []
    except OSError as error:
        raise unseen(path, error) from error
    try:
        raw = os.read(descriptor, 4096)
    except ProcessLookupError:
        return []
    except OSError as error:
        raise unseen(path, error) from error
    finally:
        os.close(descriptor)
    # The name in parentheses may contain any characters, including parentheses and blanks.
    return raw[raw.rindex(b")") + 2 :].split()
