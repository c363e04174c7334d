"""Simulates a host that refuses system calls: ``refusing.py WHAT,... PROGRAM ...`` executes a program under a
filter.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

_LOAD, _EQUAL, _ANY, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X86 = os.uname().machine == "x86_64"
# System call number, bits or value of the first argument, kind of comparison, error.
_CALLS = {
    "namespaces": ((272 if _X86 else 97, 0x6E020000, _ANY, errno.EPERM),),
    "user-namespaces": ((56 if _X86 else 220, 0x10000000, _ANY, errno.EPERM),),
    "mount-copies": ((428, None, None, errno.ENOSYS), (442, None, None, errno.ENOSYS)),
    "filters": ((157 if _X86 else 167, 22, _EQUAL, errno.EINVAL),),
}


def refuse(names: list[str]) -> None:
    """Install a filter for this process and all its children."""
    lines: list[tuple[int, int, int, int]] = []
    for number, argument, compared, error in (call for name in names for call in _CALLS[name]):
        lines.append((_LOAD, 0, 0, 0))
        if argument is None:
            lines += [(_EQUAL, 0, 1, number)]
        else:
            assert compared is not None
            lines += [(_EQUAL, 0, 3, number), (_LOAD, 0, 0, 16), (compared, 0, 1, argument)]
        lines.append((_RETURN, 0, 0, _ERRNO | error))
    lines.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *line) for line in lines)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = Program(len(lines), code)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, ctypes.c_ulong(2), ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


if __name__ == "__main__":
    refuse([name for name in sys.argv[1].split(",") if name])
    os.execv(sys.argv[2], sys.argv[2:])
