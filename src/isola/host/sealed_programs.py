"""Programs that are run from copies in memory, sealed so that nothing can ever write to them.

An engine's process is visible to the container it prepares, as ``/proc/PID/exe``. An engine that finds itself to be a
writable file copies or mounts itself and executes that, in every call (CVE-2019-5736). One that finds the
four seals is spared that second start.
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
"""Linux 6.3 and later: may be run although ``vm.memfd_noexec`` is 1. Older kernels refuse the flag."""
_KEPT = 2
"""Copies of one program that stay open: the newest, and one whose path may just have been given to a child."""


@dataclass(frozen=True, slots=True)
class _Copy:
    original: tuple[int, int, int, int]
    """Device, inode, size and time of change (ns) of the file it was made of."""
    descriptor: int

    @property
    def path(self) -> Path:
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")


_copies: dict[Path, list[_Copy]] = {}
_making = threading.Lock()


def known(program: Path) -> Path | None:
    """What ``sealed`` would return, if that takes no time."""
    with contextlib.suppress(OSError):
        copies = _copies.get(program)
        if copies and copies[-1].original == _state(program):
            return copies[-1].path
    return None


def sealed(program: Path) -> Path:
    """A file that runs the program as it is on disk now; it is there as long as this process lives.

    The program itself where a copy cannot be made or must not be run (``vm.memfd_noexec`` 2).
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
