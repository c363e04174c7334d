"""The directories of whose files a process opens some: as the kernel reports them (fanotify) for one mount.

The kernel keeps a bounded queue, and this a bounded set; what is lost by either is reported. Nothing waits
for the reader.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
import time
from contextlib import ExitStack, suppress

from isola.host.proc import ProcessRef, open_of

MOST = 4096
"""Directories that are remembered."""
_CLOEXEC, _NONBLOCK, _ADD, _MOUNT, _OPEN, _OVERFLOW = 0x1, 0x2, 0x1, 0x10, 0x20, 0x4000
_EVENT = struct.Struct("<IBBHQii")
_AT_ONCE = 64
"""Events, each with a descriptor."""
_BATCHES, _REST = 16, 0.02
"""A program that opens files in a loop costs one pause of so many seconds for as many batches."""
_FILES = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOATIME | 0o100000  # O_LARGEFILE
_libc = ctypes.CDLL(None, use_errno=True)


class OpenedFiles:
    """Of the mounts that are added, until it is closed."""

    def __init__(self) -> None:
        """Raises OSError."""
        self.directories: set[str] = set()
        self.lost = False
        self._own = os.getpid()
        with ExitStack() as stack:
            self._events = _checked(_libc.fanotify_init(_CLOEXEC | _NONBLOCK, _FILES))
            stack.callback(os.close, self._events)
            self._end = os.eventfd(0, os.EFD_CLOEXEC)
            stack.callback(os.close, self._end)
            self._open = stack.pop_all()
        self._thread = threading.Thread(target=self._read, name="isola-opened-files", daemon=True)
        self._thread.start()

    def follow(self, process: ProcessRef) -> None:
        """Its root, as it has it now. Raises OSError, WrongState if it has ended."""
        root = open_of(process, "root", os.O_RDONLY | os.O_DIRECTORY)
        try:
            _checked(_libc.fanotify_mark(self._events, _ADD | _MOUNT, ctypes.c_uint64(_OPEN), root, None))
        finally:
            os.close(root)

    def close(self) -> None:
        """The reader ends within some milliseconds."""
        os.eventfd_write(self._end, 1)

    def _read(self) -> None:
        with self._open:
            self._work()

    def _work(self) -> None:
        poll = select.poll()
        poll.register(self._events, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while True:
            if any(number == self._end for number, _ in poll.poll()):
                return
            for _ in range(_BATCHES):
                if not self._batch():
                    break
            else:
                time.sleep(_REST)

    def _batch(self) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(self._events, _EVENT.size * _AT_ONCE)
        except BlockingIOError:
            return False
        except OSError:
            self.lost = True  # no descriptors are left
            time.sleep(_REST)
            return False
        for place in range(0, len(data), _EVENT.size):
            _, _, _, _, mask, opened, pid = _EVENT.unpack_from(data, place)
            if mask & _OVERFLOW:
                self.lost = True
            if opened >= 0:
                self._note(opened, pid)
        return True

    def _note(self, opened: int, pid: int) -> None:
        try:
            if pid != self._own:
                with suppress(OSError):
                    self._add(os.readlink(f"/proc/self/fd/{opened}").rpartition("/")[0] or "/")
        finally:
            os.close(opened)

    def _add(self, directory: str) -> None:
        if directory in self.directories or not directory.startswith("/"):
            return
        if len(self.directories) < MOST:
            self.directories.add(directory)
        else:
            self.lost = True


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "fanotify")
    return result
