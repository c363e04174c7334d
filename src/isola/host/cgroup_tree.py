"""The directories of one cgroup hierarchy, old or new. Everything here blocks; callers use a thread."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from isola.errors import HostFailure, InvalidInput
from isola.host.proc import unseen
from isola.model.units import format_size

_BLIND = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


class Tree:
    """One mounted hierarchy."""

    def __init__(self, root: Path, controllers: frozenset[str]) -> None:
        self.root = root
        self.controllers = controllers

    def directory(self, path: str) -> str:
        """Where the group is. Raises InvalidInput for the root itself and for paths that climb."""
        parts = path.split("/")
        if parts[0] or len(parts) < 2 or any(part in {"", ".", ".."} for part in parts[1:]):
            raise InvalidInput(f"{path!r} is not the path of a control group")
        return f"{self.root}{path}"

    def exists(self, path: str) -> bool:
        """Whether the group is there."""
        return os.path.isdir(self.directory(path))

    def levels(self, path: str) -> Iterator[str]:
        """Directories of the group and its parents below the root, topmost first."""
        self.directory(path)
        directory = str(self.root)
        for part in path.split("/")[1:]:
            directory = f"{directory}/{part}"
            yield directory

    def processes(self, path: str) -> set[int]:
        """Numbers of the processes in the group and below; processes of foreign namespaces (0) are left out."""
        top = self.directory(path)
        if _has_no_subdirectories(top):
            return {int(word) for word in _must_read(f"{top}/cgroup.procs").split()} - {0}
        found: set[int] = set()
        for _, _, directory in self._walk(path):
            found.update(int(word) for word in _must_read("cgroup.procs", directory).split())
        return found - {0}

    def remove_once(self, path: str) -> bool:
        """Try to remove the group and those below; False when the kernel is not done with them."""
        if _remove(self.directory(path), None, path):
            return True
        for place, names, directory in self._walk(path):
            for name in names:
                _remove(name, directory, f"{place}/{name}")
        return _remove(self.directory(path), None, path)

    def _walk(self, path: str) -> Iterator[tuple[str, list[str], int]]:
        """Place, names below, and descriptor of each directory, deepest first.

        By descriptors, because who owns a delegated group can make paths in it that are too long to be opened.
        """
        try:
            for place, names, _, directory in os.fwalk(self.directory(path), topdown=False, onerror=_missed):
                yield place, names, directory
        except FileNotFoundError:
            return
        except OSError as error:
            raise unseen(f"the control group {path}", error) from error

    def enter(self, path: str, pid: int) -> None:
        """Move a process into the group."""
        directory = self.directory(path)
        try:
            write(f"{directory}/cgroup.procs", str(pid))
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise HostFailure(
                    f"Process {pid} cannot enter the control group {path}", evidence=str(error)
                ) from error
            # A cgroup2 whose controllers are handed on to its children takes no processes itself.
            leaf = f"{directory}/.isola"
            make(leaf)
            write(f"{leaf}/cgroup.procs", str(pid))


def make(directory: str) -> bool:
    """Make a group's directory; False when it was there."""
    try:
        os.mkdir(directory, 0o755)
    except FileExistsError:
        return False
    except OSError as error:
        raise HostFailure(f"Cannot make the control group {directory}", evidence=str(error)) from error
    return True


def read(file: str, *, once: bool = False, directory: int | None = None) -> str:
    """A control file; empty when it (or its group) is not there or cannot be read. ``once`` does for a short one."""
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
    """The same for who concludes from an empty one that nothing is left. Raises HostFailure where it cannot look."""
    try:
        os.close(os.open(file, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory))
    except OSError as error:
        _missed(error)
    return read(file, directory=directory)


def _missed(error: OSError) -> None:
    """What is gone is gone; what could not be looked at is not."""
    if error.errno in _BLIND:
        raise unseen("a control group", error) from error


def read_number(file: str) -> int:
    """A control file that holds one number; 0 when it is not there or says ``max``."""
    text = read(file, once=True).strip()
    return int(text) if text.isdigit() else 0


def write(file: str, text: str) -> None:
    """Write a control file that is there."""
    fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def try_write(file: str, text: str) -> bool:
    """Write a control file where there is one and the kernel accepts it."""
    with contextlib.suppress(OSError):
        write(file, text)
        return True
    return False


def set_limit(limit: str, file: str, value: str, *, unlimited: bool) -> None:
    """Write one limit; having no controller for it matters only when something is to be limited."""
    try:
        write(file, value)
    except FileNotFoundError as error:
        if unlimited:
            return
        remedy = "Enable the controller on the kernel's command line, or leave the limit unset"
        raise HostFailure(f"This host cannot limit {limit}", evidence=f"no {file}", remedy=remedy) from error
    except OSError as error:
        raise HostFailure(f"Cannot limit {limit} to {value}", evidence=str(error)) from error


def memory_in_use(wanted: int, used: int) -> HostFailure:
    """The refusal of a limit below what cannot be reclaimed."""
    return HostFailure(
        f"Cannot limit memory to {format_size(wanted)}",
        evidence=f"{format_size(used)} are in use and cannot be reclaimed",
        remedy="Choose a higher limit, or stop something inside first",
    )


def format_cpus(cpus: Sequence[int]) -> str:
    """CPU numbers as the kernel takes them."""
    return ",".join(str(cpu) for cpu in sorted(set(cpus)))


def parse_cpus(text: str) -> frozenset[int]:
    """CPU numbers from ``0-2,5``."""
    cpus: set[int] = set()
    for part in text.strip().split(","):
        if part:
            first, _, last = part.partition("-")
            cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)


def check_cpus(wanted: Sequence[int] | None, there: frozenset[int]) -> None:
    """Raises HostFailure when CPUs are wanted that the parent group does not have."""
    if wanted is not None and there and not set(wanted) <= there:
        raise HostFailure(
            f"Cannot limit CPUs to {format_cpus(wanted)}",
            evidence=f"available are {format_cpus(sorted(there))}",
            remedy="Choose among those",
        )


def _remove(name: str, directory: int | None, path: str) -> bool:
    """Whether it is gone; it is not while something is in it."""
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
    """What a link count of two says; also when it is not there."""
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
