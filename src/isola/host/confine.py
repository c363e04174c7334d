"""Confinement that a process applies to itself before it reads untrusted data."""

from __future__ import annotations

import ctypes
import os
import resource
import struct

TYPE_CHECKING = False  # some of these processes take memory all the time, and import little
if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP = 0, 1, 2, 3, 4, 31
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_KEEPCAPS = 1, 4, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_SIGKILL = 9
_THREADS = 256
_libc = ctypes.CDLL(None, use_errno=True)


def limit(*, file_size: int, seconds: int, memory: int) -> None:
    """Bounds on memory, processor time, threads and the size of files."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_NPROC, _THREADS),
    ):
        hard = resource.getrlimit(kind)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (bound, bound))


def enter(directory: Path) -> None:
    """Change the root directory of this process."""
    os.chroot(directory)
    os.chdir("/")


def die_with_parent() -> None:
    """Have this process killed when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL)


def become(owner: int, capabilities: Collection[int], *, group: int | None = None, with_parent: bool = True) -> None:
    """Change user and group, keep these capabilities, and drop all others permanently, across ``exec`` too.

    ``group`` defaults to ``owner``. With ``with_parent`` the process is killed when its parent ends. Call it before
    threads are started.
    """
    group = owner if group is None else group
    for number in range(_last_capability() + 1):
        if number not in capabilities:
            _prctl(_PR_CAPBSET_DROP, number)
    _prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(owner, owner, owner)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    bits = sum(1 << number for number in capabilities)
    masks = [mask for part in (bits & 0xFFFFFFFF, bits >> 32) for mask in (part, part, 0)]
    _check(_libc.capset(struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", *masks)), "capset")
    _prctl(_PR_SET_DUMPABLE, 0)
    if with_parent:
        die_with_parent()  # last, because a change of ids or capabilities clears this setting


def _last_capability() -> int:
    """The highest capability of this kernel, determined without ``/proc``, which may not be mounted."""
    number = CAP_SETFCAP
    while _libc.prctl(_PR_CAPBSET_READ, ctypes.c_ulong(number + 1), *[ctypes.c_ulong(0)] * 3) >= 0:
        number += 1
    return number


def _prctl(option: int, *values: int) -> None:
    arguments = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *arguments), "prctl")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
