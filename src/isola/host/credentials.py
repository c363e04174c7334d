"""Acting temporarily as another user of the host, in one thread, with all capabilities."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

_libc = ctypes.CDLL(None, use_errno=True)
_CAPABILITY_VERSION_3 = 0x20080522
# The C library changes the user of every thread, the system call that of the calling thread only.
_SETRESUID = {"x86_64": 117, "i386": 208, "i686": 208, "armv7l": 208, "ppc64le": 164, "s390x": 208}
_GENERIC_SETRESUID = 147  # arm64, riscv64, loongarch64
_AS_IT_IS = ctypes.c_uint(-1)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


@contextlib.contextmanager
def effective_user(uid: int) -> Iterator[None]:
    """In this context the thread's user is ``uid``, for kernel objects that are counted per user. Raises OSError.

    Do not await inside. Real and saved user stay root, so processes of ``uid`` cannot signal or trace the daemon.
    """
    _set_effective(uid)
    try:
        # Changing the user clears the effective set, which can be restored from the permitted one.
        header, sets = _Header(_CAPABILITY_VERSION_3, 0), (_Sets * 2)()
        _checked(_libc.capget(ctypes.byref(header), sets))
        for part in sets:
            part.effective = part.permitted
        _checked(_libc.capset(ctypes.byref(header), sets))
        yield
    finally:
        _set_effective(0)


@contextlib.contextmanager
def owner_of_files(id: int) -> Iterator[None]:
    """In this context the thread creates files as user and group ``id``; the rest is done as root. Raises OSError.

    A file system mounted in a user namespace refuses new files of ids that the namespace does not map.
    """
    before = _libc.setfsgid(ctypes.c_uint(id))
    try:
        with effective_user(id):
            yield
    finally:
        _libc.setfsgid(ctypes.c_uint(before))


def _set_effective(uid: int) -> None:
    number = _SETRESUID.get(os.uname().machine, _GENERIC_SETRESUID)
    _checked(_libc.syscall(ctypes.c_long(number), _AS_IT_IS, ctypes.c_uint(uid), _AS_IT_IS))


def _checked(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
