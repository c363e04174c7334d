"""Calls of the C library made in sequence by a child that shares the daemon's memory, without Python in between.

Some namespaces can be entered only by a process with a single thread, which the daemon is not. Forking it would
copy its page tables, and starting a program takes longer than the calls. So the calls are prepared as contexts
(makecontext(3)), each of which continues with the next one, and the last one ends the child.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import mmap
import os
import socket
import struct
from collections.abc import Iterator, Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_CLONE_VM, _CLONE_VFORK, _WALL = 0x100, 0x4000, 0x40000000
_CONTEXT, _STACK = 8192, 32768
"""Bytes for one ``ucontext_t`` (4560 on arm64, less elsewhere) and for the stack of one call."""

Call = tuple[str, *tuple[int | bytes, ...]]
"""The name of a function of the C library, and its arguments: numbers, addresses, or text."""


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Message(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def run(calls: Sequence[Call]) -> None:
    """Make the calls in a child, and wait for its end. If a call fails, the next ones are made nevertheless.

    This thread is suspended meanwhile (vfork), so the child may use its stack guard and ``errno``. It has a copy
    of the daemon's descriptors. It has no exit signal, so no handler of SIGCHLD is called for it.
    """
    chain = [*calls, ("_exit", 0)]
    texts = [ctypes.create_string_buffer(part) for call in chain for part in call[1:] if isinstance(part, bytes)]
    addresses = iter([ctypes.addressof(text) for text in texts])
    size = _CONTEXT + _STACK
    with mmap.mmap(-1, size * (len(chain) + 1)) as memory:
        room = ctypes.c_char.from_buffer(memory)
        base = ctypes.addressof(room)
        try:
            for number, (name, *arguments) in enumerate(chain):
                numbers = [next(addresses) if isinstance(part, bytes) else part for part in arguments]
                _lay_out(base + number * size, base + (number + 1) * size, name, numbers)
            first, top = base, base + size * (len(chain) + 1)
            pid = _libc.clone(ctypes.cast(_libc.setcontext, ctypes.c_void_p), top, _CLONE_VM | _CLONE_VFORK, first)
            if pid < 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), "clone")
            os.waitpid(pid, _WALL)
        finally:
            del room  # otherwise the memory could not be freed


def descriptor_of(calls: Sequence[Call], opening: Call) -> int:
    """The descriptor that the last call, ``opening``, opens in the child. Raises OSError if it opens none.

    Failures of the calls before it are not reported: check what was opened.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        with _message_with(descriptor=0) as message:
            # Closed in the child only: the next descriptor that it opens gets this number.
            run([*calls, ("close", 0), opening, ("sendmsg", theirs.fileno(), message, 0)])
        ours.setblocking(False)
        try:
            _, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            raise OSError(errno.EPERM, f"{opening[0]} in a child opens nothing") from None
    return array.array("i", control[0][2][:4])[0]


def _lay_out(place: int, following: int, name: str, arguments: Sequence[int]) -> None:
    """A context at ``place`` that calls a function and then continues with the context at ``following``."""
    _libc.getcontext(ctypes.c_void_p(place))
    # uc_link, and uc_stack: address, flags, size. They follow uc_flags on every architecture of glibc.
    after_flags = struct.calcsize("=Q")
    ctypes.memmove(place + after_flags, struct.pack("=QQQQ", following, place + _CONTEXT, 0, _STACK), 32)
    function = ctypes.cast(getattr(_libc, name), ctypes.c_void_p)
    _libc.makecontext(ctypes.c_void_p(place), function, len(arguments), *map(ctypes.c_long, arguments))


@contextlib.contextmanager
def _message_with(descriptor: int) -> Iterator[int]:
    """The address of a ``struct msghdr`` that carries a descriptor."""
    content = ctypes.create_string_buffer(b"+", 1)
    vector = _Vector(ctypes.addressof(content), 1)
    rights = struct.pack("@Nii", socket.CMSG_LEN(4), socket.SOL_SOCKET, socket.SCM_RIGHTS)
    control = ctypes.create_string_buffer(rights + struct.pack("@i", descriptor), socket.CMSG_SPACE(4))
    message = _Message(None, 0, ctypes.addressof(vector), 1, ctypes.addressof(control), len(control), 0)
    yield ctypes.addressof(message)
