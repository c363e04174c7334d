"""Notification by the kernel when a file changes."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

from isola.errors import HostFailure, NotFound
from isola.host.stream import DescriptorStream

_MODIFY, _MOVED_TO, _CREATE, _OVERFLOW, _IGNORED = 0x2, 0x80, 0x100, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_HEADER = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


async def changes(path: Path, *beside: str) -> AsyncGenerator[None, None]:
    """Yields once at the beginning, then whenever ``path`` may have changed, come or been replaced.

    Also watches files of the names ``beside`` in the same directory. Ends when that directory is removed.
    Raises NotFound if it does not exist.
    """
    stream, names = _watch(path.parent), {path.name, *beside}
    try:
        yield
        while events := await stream.read():
            found = list(_parse(events))
            if any(mask & _IGNORED for mask, _ in found):
                return
            if any(name in names or mask & _OVERFLOW for mask, name in found):
                yield
    finally:
        stream.close()


def _watch(directory: Path) -> DescriptorStream:
    fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _failure(f"Cannot watch {directory}", "Raise fs.inotify.max_user_instances")
    # The directory is watched instead of the file, which may be created later, or be replaced.
    if _libc.inotify_add_watch(fd, os.fsencode(directory), _MODIFY | _MOVED_TO | _CREATE | _ONLYDIR) < 0:
        missing = ctypes.get_errno() == 2
        failure = _failure(f"Cannot watch {directory}", "Raise fs.inotify.max_user_watches")
        os.close(fd)
        raise NotFound(f"There is no directory {directory}") if missing else failure
    return DescriptorStream(fd)


def _parse(events: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    while at < len(events):
        _, mask, _, size = _HEADER.unpack_from(events, at)
        at += _HEADER.size
        yield mask, os.fsdecode(events[at : at + size].rstrip(b"\0"))
        at += size


def _failure(message: str, remedy: str) -> HostFailure:
    return HostFailure(message, evidence=os.strerror(ctypes.get_errno()), remedy=remedy)
