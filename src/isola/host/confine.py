"""A process shuts itself in before it touches what strangers made."""

from __future__ import annotations

import ctypes
import os
import resource
import struct
from collections.abc import Collection
from pathlib import Path

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID = 0, 1, 2, 3, 4
CAP_SYS_ADMIN, CAP_MKNOD, CAP_SETFCAP = 21, 27, 31
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 8, 38, 47
_SIGKILL = 9
_NOBODY = 65534
_MEMORY = 2 << 30
_SECONDS = 3600
_libc = ctypes.CDLL(None, use_errno=True)


def limit(*, file_size: int) -> None:
    """Bounds on memory, processor time and the size of files."""
    for kind, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _SECONDS),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def enter(directory: Path) -> None:
    """Make a directory the root of everything this process can name."""
    os.chroot(directory)
    os.chdir("/")


def keep_only(capabilities: Collection[int]) -> None:
    """Give up every other capability for good. Call it before threads are started."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _set_capabilities(capabilities)


def become_reader() -> None:
    """Turn into nobody who may read everything and write nothing, across ``exec`` too."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(_NOBODY, _NOBODY, _NOBODY)
    os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    _set_capabilities((CAP_DAC_READ_SEARCH,), inheritable=True)
    _prctl(_PR_CAP_AMBIENT, 2, CAP_DAC_READ_SEARCH)


def _set_capabilities(capabilities: Collection[int], *, inheritable: bool = False) -> None:
    """Last of all, because a change of ids or capabilities would undo the wish to die with the parent."""
    bits = sum(1 << number for number in capabilities)
    words = [word for part in (bits & 0xFFFFFFFF, bits >> 32) for word in (part, part, part if inheritable else 0)]
    header = struct.pack("=Ii", 0x20080522, 0)
    _check(_libc.capset(header, struct.pack("=6I", *words)), "capset")
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *arguments), "prctl")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
