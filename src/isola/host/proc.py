"""Properties of a process from ``/proc``, by a reference that is not confused by a reused PID."""

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
    """The process that has this number now, or None (a zombie counts as gone). Raises HostFailure: cannot look."""
    return _running(pid, _stat(f"/proc/{pid}/stat"))


@contextlib.contextmanager
def hold(ref: ProcessRef) -> Iterator[int]:
    """``/proc/PID`` of that very process, as a descriptor of the directory. Raises WrongState when it has ended.

    A directory of ``/proc`` belongs to the process it was opened for: whatever is opened relative to it is that
    process's own, or fails, even when the number has been given to another one meanwhile.
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
    """Open ``/proc/PID/<name>`` of that very process. Raises WrongState when it has ended, HostFailure."""
    with hold(ref) as directory:
        try:
            return os.open(name, flags | os.O_CLOEXEC, dir_fd=directory)
        except (FileNotFoundError, ProcessLookupError):
            raise _gone(ref) from None
        except OSError as error:
            raise HostFailure(f"Cannot open {name} of process {ref.pid}", evidence=str(error)) from error


def unseen(what: str, error: OSError) -> HostFailure:
    """Not to be able to look, for want of descriptors or memory, says nothing of whether something is there."""
    remedy = "raise the limit of open files" if error.errno in (errno.EMFILE, errno.ENFILE) else ""
    return HostFailure(f"Cannot look at {what}", evidence=str(error), remedy=remedy)


def start_time(pid: int) -> int:
    """Start time of a process or zombie, in clock ticks since boot; 0 when there is none."""
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[19]) if fields else 0


def open_inotify(directory: Path, *, owner: int) -> int:
    """Inotify instances that the processes of a user have open; one that several share counts for each of them."""
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
    """Number of the parent; 0 when there is none, or none that is seen from here."""
    fields = _stat(f"/proc/{pid}/stat")
    return int(fields[1]) if fields else 0


def group_lives(group: int) -> bool:
    """Whether a process of this process group still runs; looks through all processes. Zombies do not count."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = _stat(f"/proc/{name}/stat")
            if fields and int(fields[2]) == group and fields[0] not in b"ZX":
                return True
    return False


def _gone(ref: ProcessRef) -> WrongState:
    return WrongState(f"Process {ref.pid} has ended")


def _running(pid: int, fields: list[bytes]) -> ProcessRef | None:
    # A process whose first thread has ended looks like a zombie while its other threads keep running.
    if not fields or (fields[0] in b"ZX" and int(fields[17]) <= 1):
        return None
    return ProcessRef(pid, int(fields[19]))


def _stat(path: str, directory: int | None = None) -> list[bytes]:
    """``/proc/PID/stat`` from its third field, the state, on."""
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
