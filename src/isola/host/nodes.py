"""Device nodes: which device a file of the host refers to, and nodes created for instances."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.host.node_watching import NodeWatching
from isola.host.superblocks import HEAD, kind_of
from isola.host.threads import in_thread

_DEVICES = Path("/dev")
_OWN = frozenset(
    {"console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"}
)  # fmt: skip
"""What engines create in the /dev of every instance."""
_MOST = 4096
ANY_ACCESS = "rwm"
"""Reading, writing and creating nodes, in rules of control groups."""


@dataclass(frozen=True, slots=True)
class DeviceNumber:
    """A device of the kernel."""

    character: bool
    """Otherwise it is a block device."""
    major: int
    minor: int

    @property
    def rule(self) -> str:
        """For a control group: ``c 1:3``."""
        return f"{'c' if self.character else 'b'} {self.major}:{self.minor}"

    @classmethod
    def of_rule(cls, rule: str) -> DeviceNumber:
        """The reverse."""
        kind, _, numbers = rule.partition(" ")
        major, _, minor = numbers.partition(":")
        return cls(kind == "c", int(major), int(minor))


@dataclass(frozen=True, slots=True)
class HostNode:
    """A device node of the host."""

    path: Path
    number: DeviceNumber
    mode: int
    """Permission bits."""
    uid: int
    gid: int


class Nodes(Protocol):
    """Inspect and create device nodes."""

    async def everything(self) -> Sequence[HostNode]:
        """All nodes in /dev, by path, except those that each instance has of its own: terminals, ``console``."""
        ...

    async def find(self, path: Path) -> DeviceNumber:
        """The device of the node ``path``; links are followed. Raises NotFound, InvalidInput (not a device)."""
        ...

    async def file_system(self, path: Path) -> str:
        """The kind of file system on a block device; empty if it has none that may be mounted. Raises HostFailure."""
        ...

    def follow(self, path: Path, on_change: Callable[[], object]) -> Callable[[], None]:
        """Call ``on_change`` when a node below /dev, or a link to one, may have come or gone, until the returned
        function is called. Raises HostFailure.
        """
        ...

    async def make(self, path: Path, number: DeviceNumber, *, uid: int, gid: int, mode: int) -> None:
        """Create a node at ``path``, replacing an existing file; check that it can be opened. Raises HostFailure."""
        ...


class LinuxNodes:
    """By ``mknod``."""

    def __init__(self) -> None:
        self._watching = NodeWatching()

    async def file_system(self, path: Path) -> str:
        return kind_of(await in_thread(_head, path))

    def follow(self, path: Path, on_change: Callable[[], object]) -> Callable[[], None]:
        return self._watching.follow(path, on_change)

    async def everything(self) -> Sequence[HostNode]:
        return await in_thread(_everything)

    async def find(self, path: Path) -> DeviceNumber:
        return await in_thread(_find, path)

    async def make(self, path: Path, number: DeviceNumber, *, uid: int, gid: int, mode: int) -> None:
        await in_thread(_make, path, number, uid, gid, mode)


def _everything() -> list[HostNode]:
    found: list[HostNode] = []
    for directory, names, files in os.walk(_DEVICES):
        if directory == str(_DEVICES):
            names[:] = [name for name in names if name not in _OWN]
        names.sort()
        for name in sorted(files):
            path = Path(directory) / name
            with contextlib.suppress(OSError):
                status = os.lstat(path)
                if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    number = DeviceNumber(
                        stat.S_ISCHR(status.st_mode), os.major(status.st_rdev), os.minor(status.st_rdev)
                    )
                    mode = stat.S_IMODE(status.st_mode)
                    found.append(HostNode(path, number, mode, status.st_uid, status.st_gid))
    return [node for node in found if str(node.path.relative_to(_DEVICES)) not in _OWN][:_MOST]


def _find(path: Path) -> DeviceNumber:
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"{path} does not exist on the host") from error
    except OSError as error:
        raise HostFailure(f"Cannot examine {path}", evidence=str(error)) from error
    if not stat.S_ISCHR(found.st_mode) and not stat.S_ISBLK(found.st_mode):
        raise InvalidInput(f"{path} is not a device", remedy="name a device node such as /dev/kvm")
    return DeviceNumber(stat.S_ISCHR(found.st_mode), os.major(found.st_rdev), os.minor(found.st_rdev))


def _head(path: Path) -> bytes:
    try:
        device = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return os.pread(device, HEAD, 0) if stat.S_ISBLK(os.fstat(device).st_mode) else b""
        finally:
            os.close(device)
    except OSError as error:
        raise HostFailure(f"Cannot read {path}", evidence=str(error)) from error


def _make(path: Path, number: DeviceNumber, uid: int, gid: int, mode: int) -> None:
    try:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        if os.statvfs(path.parent).f_flag & os.ST_NODEV:
            raise HostFailure(
                f"Device nodes cannot be used in {path.parent}",
                evidence="its file system is mounted with nodev",
                remedy="mount it without, or put the daemon's directory on another file system",
            )
        kind = stat.S_IFCHR if number.character else stat.S_IFBLK
        os.mknod(path, kind | 0o600, os.makedev(number.major, number.minor))
        os.chown(path, uid, gid)
        os.chmod(path, mode)
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise HostFailure(f"Cannot make the device node {path}", evidence=str(error)) from error
