"""The directories of one cgroup hierarchy, v1 or v2. Everything here blocks; callers use a thread."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from isola.errors import HostFailure, InvalidInput
from isola.host.proc import unseen
from isola.model.disk_rates import by_kind
from isola.model.units import format_size

LEAF = ".isola"
"""Name of the group below that of an instance for processes that join it. Service managers ignore names with a dot."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Tree:
    """One mounted hierarchy."""

    def __init__(self, root: Path, controllers: frozenset[str]) -> None:
        self.root = root
        self.controllers = controllers

    def directory(self, path: str) -> str:
        """The directory of the group. Raises InvalidInput for the root itself and for paths with ``..``."""
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in {"", ".", ".."} for part in parts[1:]):
            raise InvalidInput(f"{path!r} is not the path of a control group")
        return f"{self.root}{path}"

    def exists(self, path: str) -> bool:
        """Whether the group exists."""
        return os.path.isdir(self.directory(path))

    def levels(self, path: str) -> Iterator[str]:
        """Directories of the group and its parents below the root, topmost first."""
        self.directory(path)
        directory = str(self.root)
        for part in path.split("/")[1:]:
            directory = f"{directory}/{part}"
            yield directory

    def make(self, path: str) -> None:
        """Create the group and its parents; those that exist are kept. Raises HostFailure."""
        with contextlib.suppress(OSError):  # the attempts below report it
            os.mkdir(self.directory(path), 0o755)  # its parents usually exist
            return
        for directory in self.levels(path):
            make(directory)

    def processes(self, path: str) -> set[int]:
        """PIDs of the processes in the group and below; those of other PID namespaces (0) are left out."""
        top = self.directory(path)
        if _has_no_subdirectories(top):
            return {int(pid) for pid in _must_read(f"{top}/cgroup.procs").split()} - {0}
        found: set[int] = set()
        for _, _, directory in self._walk(path):
            found.update(int(pid) for pid in _must_read("cgroup.procs", directory).split())
        return found - {0}

    def remove_once(self, path: str) -> bool:
        """Try to remove the group and those below; False while the kernel still uses them."""
        if _remove(self.directory(path), None, path):
            return True
        for place, names, directory in self._walk(path):
            for name in names:
                _remove(name, directory, f"{place}/{name}")
        return _remove(self.directory(path), None, path)

    def _walk(self, path: str) -> Iterator[tuple[str, list[str], int]]:
        """Place, names below, and descriptor of each directory, deepest first.

        By descriptor, because the owner of a delegated group can create paths that are too long to be opened.
        """
        try:
            for place, names, _, directory in os.fwalk(self.directory(path), topdown=False, onerror=_missed):
                yield place, names, directory
        except FileNotFoundError:
            return
        except OSError as error:
            raise unseen(f"the control group {path}", error) from error

    def enter(self, path: str, pid: int) -> None:
        """Move a process into the group. Raises HostFailure."""
        directory = self.directory(path)
        try:
            write(f"{directory}/cgroup.procs", str(pid))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise HostFailure(
                    f"Process {pid} cannot enter the control group {path}", evidence=str(error)
                ) from error
            # In cgroup v2 a group that enables controllers for its children must not contain processes itself.
            leaf = f"{directory}/{LEAF}"
            make(leaf)
            write(f"{leaf}/cgroup.procs", str(pid))


def make(directory: str) -> bool:
    """Create a group's directory; False if it exists."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise HostFailure(f"Cannot create the control group {directory}", evidence=str(error)) from error
    return True


def read(file: str, *, once: bool = False, directory: int | None = None) -> str:
    """A control file; empty if it (or its group) is missing or cannot be read. ``once``: a single read suffices."""
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError:
        return ""
    try:
        text = block = os.read(fd, 65536)
        while block and not once:
            block = os.read(fd, 65536)
            text += block
    except OSError:
        return ""
    finally:
        os.close(fd)
    return text.decode()


def _must_read(file: str, directory: int | None = None) -> str:
    """Like ``read``, but raises HostFailure if the file exists and cannot be read."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory))
    except OSError as error:
        _missed(error)
    return read(file, directory=directory)


def _missed(error: OSError) -> None:
    """Raise HostFailure if descriptors or memory are exhausted; other errors mean that the group does not exist."""
    if error.errno in _EXHAUSTED:
        raise unseen("a control group", error) from error


def read_number(file: str) -> int:
    """A control file that contains one number; 0 if it does not exist or contains ``max``."""
    text = read(file, once=True).strip()
    return int(text) if text.isdigit() else 0


def read_field(file: str, name: str) -> int:
    """The number after a name in a control file of ``NAME NUMBER`` lines; 0 if there is none."""
    for line in read(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name and value.isdigit():
            return int(value)
    return 0


def write(file: str, text: str) -> None:
    """Write an existing control file."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def try_write(file: str, text: str) -> bool:
    """Write a control file if it exists and the kernel accepts the value."""
    with contextlib.suppress(OSError):
        write(file, text)
        return True
    return False


def set_limit(limit: str, file: str, value: str, *, unlimited: bool) -> None:
    """Write one limit; a missing controller is an error only if there is a limit to set."""
    try:
        write(file, value)
    except FileNotFoundError as error:
        if unlimited:
            return
        remedy = "Enable the controller on the kernel's command line, or leave the limit unset"
        raise HostFailure(f"This host cannot limit {limit}", evidence=f"no {file}", remedy=remedy) from error
    except OSError as error:
        raise HostFailure(f"Cannot limit {limit} to {value}", evidence=str(error)) from error


def bring(limit: str, file: str, value: int | str | None, default: str) -> None:
    """Write one limit, or the default where there is none, if the file has another value."""
    wanted = default if value is None else str(value)
    if value is not None or read(file).strip() not in ("", wanted):
        set_limit(limit, file, wanted, unlimited=value is None)


def disk_rates_by_number(rates: Iterable[str]) -> dict[str, dict[str, int]]:
    """Kind -> ``major:minor`` -> rate. Raises InvalidInput for what is no block device of the host."""
    found: dict[str, dict[str, int]] = {}
    for kind, disks in by_kind(rates).items():
        for path, rate in disks.items():
            # The same answer for all others: users who are limited must not learn which files the host has.
            status = None
            with contextlib.suppress(OSError):
                status = os.stat(path)
            if status is None or not stat.S_ISBLK(status.st_mode):
                raise InvalidInput(f"stat {path}: no such file or directory, or not a block device")
            number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            found.setdefault(kind, {})[number] = rate
    return found


def memory_in_use(wanted: int, used: int) -> HostFailure:
    """The error for a limit below the memory that cannot be reclaimed."""
    return HostFailure(
        f"Cannot limit memory to {format_size(wanted)}",
        evidence=f"{format_size(used)} are in use and cannot be reclaimed",
        remedy="choose a higher limit, or stop something inside first",
    )


def format_cpus(cpus: Sequence[int]) -> str:
    """CPU numbers in the kernel's format."""
    return ",".join(str(cpu) for cpu in sorted(set(cpus)))


def parse_cpus(text: str) -> frozenset[int]:
    """CPU numbers from ``0-2,5``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def check_cpus(wanted: Sequence[int] | None, available: frozenset[int]) -> None:
    """Raises HostFailure if the parent group lacks some of the CPUs."""
    if wanted is not None and available and not set(wanted) <= available:
        raise HostFailure(
            f"Cannot limit CPUs to {format_cpus(wanted)}",
            evidence=f"available are {format_cpus(sorted(available))}",
            remedy="choose among those",
        )


def _remove(name: str, directory: int | None, path: str) -> bool:
    """Remove an empty group; False while something is in it."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in {errno.EBUSY, errno.ENOTEMPTY}:
            return False
        raise HostFailure(f"Cannot remove the control group {path}", evidence=str(error)) from error
    return True


def _has_no_subdirectories(directory: str) -> bool:
    """Whether the link count is two, or the directory does not exist."""
    try:
        return os.stat(directory).st_nlink == 2
    except FileNotFoundError:
        return True


def subdirectories(directory: str) -> tuple[str, ...]:
    """Names of the groups directly below a directory."""
    try:
        if _has_no_subdirectories(directory):
            return ()
        with os.scandir(directory) as entries:
            return tuple(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise unseen(directory, error) from error
