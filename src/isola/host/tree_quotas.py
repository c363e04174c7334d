"""Limits on the size of directory trees, by the project ids of ext4 and XFS.

Each tree has a project of its own. What is created in it belongs to the same project; a file of another project can be
neither renamed nor linked into it (EXDEV), so a tree gets its project while it is empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from isola.errors import HostFailure, NotFound, Unsupported
from isola.host import kernel
from isola.host.directories import opened
from isola.host.threads import in_thread

T = TypeVar("T")
_GET_ATTRIBUTES, _SET_ATTRIBUTES = 0x801C581F, 0x401C5820
_ATTRIBUTES = struct.Struct("=IIIII8s")
"""``struct fsxattr``: flags, two sizes of extents, the project, another size."""
_INHERIT = 0x200
_PROJECTS = 2
_GET_QUOTA, _SET_QUOTA, _GET_STATE = 0x800007, 0x800008, 0x5805
_QUOTA = struct.Struct("=8QI4x")
"""``struct if_dqblk``: limits in blocks of 1 KiB, used bytes, limits and number of inodes, times; what is valid."""
_STATE = struct.Struct("=b1xH124x")
"""The beginning of ``struct fs_quota_stat``: version, flags."""
_ENFORCED = 1 << 5
_BLOCK_LIMITS = 1
_BLOCK = 1 << 10
_LEAST, _MOST = 1 << 20, 1 << 31
"""Projects of administrators have small numbers."""
_ATTEMPTS = 16


class TreeQuotas(Protocol):
    """Projects of directory trees. Paths are absolute."""

    async def enforced(self, path: Path) -> bool:
        """Whether the file system of ``path`` enforces limits of projects. Raises NotFound."""
        ...

    async def begin(self, *paths: Path) -> None:
        """Give empty directories a new project, which they share. Raises NotFound, HostFailure."""
        ...

    async def join(self, path: Path, other: Path) -> None:
        """Give an empty directory the project of another one, or none if that has none.

        Raises NotFound, HostFailure.
        """
        ...

    async def limit(self, path: Path, size: int | None) -> None:
        """Limit the project of a directory to ``size`` bytes.

        Raises Unsupported if it has none, NotFound, HostFailure.
        """
        ...

    async def usage(self, path: Path) -> int | None:
        """Bytes that the project of a directory uses; None if it has none. Raises NotFound, HostFailure."""
        ...


class LinuxTreeQuotas:
    """By ioctl and ``quotactl_fd``."""

    async def enforced(self, path: Path) -> bool:
        return await in_thread(_reported, path, lambda: _enforced(path))

    async def begin(self, *paths: Path) -> None:
        await in_thread(_reported, paths[0], lambda: _begin(paths))

    async def join(self, path: Path, other: Path) -> None:
        await in_thread(_reported, path, lambda: _assign((path,), _project(other)))

    async def limit(self, path: Path, size: int | None) -> None:
        await in_thread(_reported, path, lambda: _limit(path, size))

    async def usage(self, path: Path) -> int | None:
        return await in_thread(_reported, path, lambda: _usage(path))


def _reported(path: Path, work: Callable[[], T]) -> T:
    try:
        return work()
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist", evidence=str(error)) from error
    except OSError as error:
        raise HostFailure(f"The file system refused a quota of {path}", evidence=str(error)) from error


def _enforced(path: Path) -> bool:
    state = bytearray(_STATE.size)
    with opened(path) as descriptor:
        try:
            kernel.quota_control(descriptor, _GET_STATE, _PROJECTS, 0, state)
        except FileNotFoundError:
            raise
        except OSError:  # ENOSYS, ESRCH, EINVAL, EOPNOTSUPP, depending on the file system: it has no quotas
            return False
    _, flags = _STATE.unpack(state)
    return bool(flags & _ENFORCED)


def _begin(paths: Sequence[Path]) -> None:
    with opened(paths[0]) as descriptor:
        for _ in range(_ATTEMPTS):
            project = _LEAST + secrets.randbelow(_MOST - _LEAST)
            if not any(_read(descriptor, project)[:7]):
                _assign(paths, project)
                return
    raise HostFailure("No project id is free", evidence=f"{_ATTEMPTS} ids taken at random are in use")


def _assign(paths: Sequence[Path], project: int) -> None:
    for path in paths:
        with opened(path) as descriptor:
            flags, extent, extents, _, copied, rest = _attributes(descriptor)
            flags = flags | _INHERIT if project else flags & ~_INHERIT
            fcntl.ioctl(descriptor, _SET_ATTRIBUTES, _ATTRIBUTES.pack(flags, extent, extents, project, copied, rest))


def _attributes(descriptor: int) -> tuple[int, int, int, int, int, bytes]:
    found: tuple[int, int, int, int, int, bytes] = _ATTRIBUTES.unpack(
        fcntl.ioctl(descriptor, _GET_ATTRIBUTES, bytes(_ATTRIBUTES.size))
    )
    return found


def _project(path: Path) -> int:
    with opened(path) as descriptor:
        return _attributes(descriptor)[3]


def _limit(path: Path, size: int | None) -> None:
    with opened(path) as descriptor:
        if not (project := _attributes(descriptor)[3]):
            raise Unsupported(
                "This volume cannot be limited",
                evidence=f"{path} was created when its file system had no project quotas",
                remedy="copy it: the copy can be limited",
            )
        blocks = 0 if size is None else -(-size // _BLOCK)
        wanted = bytearray(_QUOTA.pack(blocks, 0, 0, 0, 0, 0, 0, 0, _BLOCK_LIMITS))
        kernel.quota_control(descriptor, _SET_QUOTA, _PROJECTS, project, wanted)


def _usage(path: Path) -> int | None:
    with opened(path) as descriptor:
        project = _attributes(descriptor)[3]
        return _read(descriptor, project)[2] if project else None


def _read(descriptor: int, project: int) -> tuple[int, ...]:
    found = bytearray(_QUOTA.size)
    with contextlib.suppress(FileNotFoundError):  # XFS has no record of it
        kernel.quota_control(descriptor, _GET_QUOTA, _PROJECTS, project, found)
    return tuple(_QUOTA.unpack(found))
