"""Library calls made one after another by a child that shares our memory, with no Python in between.

Some namespaces can be entered and left by a process with a single thread only, which a daemon is not; to fork it would
copy its page tables, and to start a program takes longer than the work. So the calls are laid out as contexts
(makecontext(3)) of which each leads to the next, and the last one ends the child.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Sequence

_libc = ctypes.CDLL(None, use_errno=True)
_libc.clone.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
_CLONE_VM, _CLONE_VFORK, _WALL = 0x100, 0x4000, 0x40000000
_CONTEXT, _STACK = 8192, 32768
"""Bytes for one ``ucontext_t`` (4560 on arm64, less elsewhere) and for the stack of one call."""

Call = tuple[str, *tuple[int | bytes, ...]]
"""The name of a function of the C library, and its arguments: numbers, addresses, or text."""


def run(calls: Sequence[Call]) -> None:
    """Make the calls in a child, and wait for its end. A call that fails does not keep the next from being made.

    This thread is held meanwhile (vfork), so the child may use its stack guard and ``errno``. The child has a copy of
    our descriptors: what it opens or closes is its own. It has no exit signal, so no handler of SIGCHLD hears of it.
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
            del room  # or the memory could not be given back


def _lay_out(place: int, following: int, name: str, arguments: Sequence[int]) -> None:
    """A context at ``place`` that calls a function and then goes on with the context at ``following``."""
    _libc.getcontext(ctypes.c_void_p(place))
    # uc_link, and uc_stack: address, flags, size. They follow uc_flags on every architecture of glibc.
    after_flags = struct.calcsize("=Q")
    ctypes.memmove(place + after_flags, struct.pack("=QQQQ", following, place + _CONTEXT, 0, _STACK), 32)
    function = ctypes.cast(getattr(_libc, name), ctypes.c_void_p)
    _libc.makecontext(ctypes.c_void_p(place), function, len(arguments), *map(ctypes.c_long, arguments))
