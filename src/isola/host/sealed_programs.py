"""Programs run from copies in memory (memfd) that are sealed against writing.

A container sees the engine that prepares it as ``/proc/PID/exe``, and could overwrite it (CVE-2019-5736). Therefore an
engine copies itself and executes the copy in every call, unless its executable already has the four seals.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_MFD_EXEC = 0x10
"""Linux 6.3 and later: the file may be executed although ``vm.memfd_noexec`` is 1. Older kernels refuse the flag."""
_KEPT = 2
"""Copies of one program that stay open: the newest, and the one before, whose path a child may be about to execute."""


@dataclass(frozen=True, slots=True)
class _Copy:
    original: tuple[int, int, int, int]
    """Device, inode, size and ctime (ns) of the file that was copied."""
    descriptor: int

    @property
    def path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")


_copies: dict[Path, list[_Copy]] = {}
_making = threading.Lock()


def known(program: Path) -> Path | None:
    """The path of an existing copy of the current file, or None."""
    with contextlib.suppress(OSError):
        copies = _copies.get(program)
        if copies and copies[-1].original == _state(program):
            return copies[-1].path
    return None


def sealed(program: Path) -> Path:
    """The path of a copy of the program as it is on disk now; it is valid as long as this process lives.

    The program itself if it cannot be copied, or if copies must not be executed (``vm.memfd_noexec`` 2).
    """
    with _making:
        if made := known(program):
            return made
        try:
            copy = _Copy(_state(program), _sealed_copy(program))
        except OSError:
            return program
        copies = _copies[program] = [*_copies.get(program, []), copy]
        for old in copies[:-_KEPT]:
            os.close(old.descriptor)
        del copies[:-_KEPT]
        return copy.path


def _state(program: Path) -> tuple[int, int, int, int]:
    found = program.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def _sealed_copy(program: Path) -> int:
    """A descriptor. Raises OSError."""
    descriptor = _memory(program.name)
    try:
        with program.open("rb") as source, open(descriptor, "wb", closefd=False) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _memory(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    with contextlib.suppress(OSError):
        return os.memfd_create(name, flags | _MFD_EXEC)
    return os.memfd_create(name, flags)
