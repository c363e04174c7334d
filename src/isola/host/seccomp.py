"""A seccomp filter (an allow list) for processes that read untrusted data.

It allows files, memory, threads and time; no sockets, mounts, namespaces, signals to other processes, or tracing.
Other calls fail with EPERM, so that a library which only tries a call continues without it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator, Sequence
from functools import cache

_PR_SET_SECCOMP, _FILTER = 22, 2
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT, _SECOND_ARGUMENT = 0, 4, 16, 24
"""Offsets in ``struct seccomp_data``; of arguments, of their lower 32 bits: the kernel ignores the upper ones."""
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020080
"""The flags of ``clone`` that make namespaces."""
_THREAD = 0x10000

# Numbers on x86-64, and on the architectures that share one table (aarch64, riscv64). None: it does not exist there.
_WORKING: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "pread64": (17, 67), "pwrite64": (18, 68), "readv": (19, 65),
    "writev": (20, 66), "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436),
    "dup": (32, 23), "dup3": (292, 24), "fsync": (74, 82), "fdatasync": (75, 83), "fadvise64": (221, 223),
    "open": (2, None), "openat": (257, 56), "openat2": (437, 437), "access": (21, None), "faccessat": (269, 48),
    "stat": (4, None), "lstat": (6, None), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291),
    "fstatfs": (138, 44), "getdents64": (217, 61), "readlink": (89, None), "readlinkat": (267, 78),
    "umask": (95, 166), "mkdirat": (258, 34), "mknodat": (259, 33), "linkat": (265, 37), "symlinkat": (266, 36),
    "unlinkat": (263, 35), "fchown": (93, 55), "fchownat": (260, 54), "fchmod": (91, 52), "fchmodat": (268, 53),
    "utimensat": (280, 88), "ftruncate": (77, 46), "fallocate": (285, 47), "fsetxattr": (190, 7),
    "fgetxattr": (193, 10), "flistxattr": (196, 13),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "futex": (202, 98), "set_robust_list": (273, 99), "rseq": (334, 293),
    "membarrier": (324, 283), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "getpid": (39, 172), "gettid": (186, 178),
    "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "exit": (60, 93), "exit_group": (231, 94), "uname": (63, 160), "sysinfo": (99, 179), "getrlimit": (97, 163),
    "getrandom": (318, 278), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169), "time": (201, None),
    "poll": (7, None), "ppoll": (271, 73),
    # On existing sockets: creating one is not allowed.
    "sendmsg": (46, 211), "sendto": (44, 206), "recvmsg": (47, 212), "recvfrom": (45, 207),
}  # fmt: skip
_STARTING: dict[str, tuple[int | None, int | None]] = {
    "execve": (59, 221), "arch_prctl": (158, None), "set_tid_address": (218, 96), "dup2": (33, None),
    "eventfd2": (290, 19), "signalfd4": (289, 74), "preadv": (295, 69), "pwritev": (296, 70),
}  # fmt: skip
"""Additional calls that a program needs to start."""
_TGKILL, _PRLIMIT, _FCNTL = (234, 131), (302, 261), (72, 25)
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 6, 36, 37, 1030)
"""Duplicates, flags and locks; not ``F_SETOWN``, which sends signals."""
_CLONE, _CLONE3, _IOCTL = (56, 220), (435, 435), (16, 29)
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1), "riscv64": (0xC00000F3, 1)}


_Instruction = tuple[int, int, int, int]
"""A BPF instruction: opcode, jump offsets if true and if false, and a value."""


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(*, programs: bool = False) -> None:
    """Install the filter, irrevocably; with ``programs`` execve is allowed. Raises OSError (ENOSYS: unknown machine).

    Call it before threads are started, after setting no_new_privs (``confine.keep_only``).
    """
    known = _ARCHITECTURES.get(platform.machine()) if struct.calcsize("P") == 8 else None
    if known is None:
        raise OSError(errno.ENOSYS, f"no list of system calls for {platform.machine()}")
    code = program(*known, pid=os.getpid(), programs=programs)
    libc = ctypes.CDLL(None, use_errno=True)
    wanted = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(wanted), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "seccomp")


def prepare() -> None:
    """Assemble the filter in advance, for the processes that this one forks into PID namespaces of their own."""
    if (known := _ARCHITECTURES.get(platform.machine())) is not None:
        program(*known, pid=1)


@cache
def program(architecture: int, column: int, *, pid: int, programs: bool = False) -> bytes:
    """The filter as an array of ``struct sock_filter``, for a process whose own PID is ``pid``."""
    return b"".join(struct.pack("=HBBI", *line) for line in _lines(architecture, column, pid, programs))


def _lines(architecture: int, column: int, pid: int, programs: bool) -> Iterator[_Instruction]:
    refuse = _ERRNO | errno.EPERM
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    if column == 0:
        yield _AT_LEAST, 0, 1, _X32
        yield _RETURN, 0, 0, refuse
    for table in (_WORKING, _STARTING) if programs else (_WORKING,):
        for numbers in table.values():
            if (number := numbers[column]) is not None:
                yield _EQUAL, 0, 1, number
                yield _RETURN, 0, 0, _ALLOW
    # Without a PID namespace, other processes of the same user could be addressed: only this PID is allowed.
    yield from _only(_TGKILL[column], _FIRST_ARGUMENT, (pid,))
    yield from _only(_PRLIMIT[column], _FIRST_ARGUMENT, (0, pid))
    yield from _only(_FCNTL[column], _SECOND_ARGUMENT, _FCNTL_COMMANDS)
    # The flags of clone3 are in memory, which a filter cannot read. After ENOSYS the C library uses clone.
    yield _EQUAL, 0, 1, _CLONE3[column]
    yield _RETURN, 0, 0, _ERRNO | errno.ENOSYS
    yield _EQUAL, 0, 1, _IOCTL[column]
    yield _RETURN, 0, 0, _ERRNO | errno.ENOTTY
    yield _EQUAL, 1, 0, _CLONE[column]
    yield _RETURN, 0, 0, refuse
    yield _LOAD, 0, 0, _FIRST_ARGUMENT  # threads of this process, and nothing else
    yield _AND, 0, 0, _NEW_NAMESPACES | _THREAD
    yield _EQUAL, 0, 1, _THREAD
    yield _RETURN, 0, 0, _ALLOW
    yield _RETURN, 0, 0, refuse


def _only(number: int, argument: int, values: Sequence[int]) -> Iterator[_Instruction]:
    """Allow a call with these values of an argument only."""
    yield _EQUAL, 0, len(values) + 3, number
    yield _LOAD, 0, 0, argument
    for left, value in zip(range(len(values), 0, -1), values, strict=True):
        yield _EQUAL, left, 0, value
    yield _RETURN, 0, 0, _ERRNO | errno.EPERM
    yield _RETURN, 0, 0, _ALLOW
