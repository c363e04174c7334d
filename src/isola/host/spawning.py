"""posix_spawn(3), by which other threads run on while a program is started.

``subprocess`` holds the interpreter's lock until the child has reached its program, which takes milliseconds on a busy
host. Here only the calling thread waits.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from isola.host import kernel

_libc = ctypes.CDLL(None, use_errno=True)
_SET_DEFAULTS, _SET_SESSION = 0x04, 0x80
_ROOM = 512
"""Bytes; glibc's two structures take 80 and 336, musl's less."""
_RESTORED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""Python ignores the first two, and who is started in the background the others; programs expect the defaults."""
_FIRST_FREE = 3

Streams = tuple[int | None, int | None, int | None]
"""Descriptors of standard input, output and error; None is ``/dev/null``."""


def network() -> tuple[int, int]:
    """The network namespace of this thread, for ``spawn`` in another: the thread's number, and the namespace's."""
    return threading.get_native_id(), os.stat("/proc/thread-self/ns/net").st_ino


def spawn(
    program: str | Path,
    argv: Sequence[str],
    streams: Streams,
    *,
    network: tuple[int, int],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> int:
    """The child's process number; it leads a session of its own. Raises OSError as the child met it."""
    _keep_inherited()
    _join_network(*network)
    environment = [os.fsencode(f"{key}={value}") for key, value in (os.environ if env is None else env).items()]
    attributes, actions = (ctypes.create_string_buffer(_ROOM) for _ in range(2))
    _checked(_libc.posix_spawnattr_init(attributes))
    _checked(_libc.posix_spawn_file_actions_init(actions))
    try:
        _prepare(attributes)
        _lay_out(actions, streams, cwd, pass_fds)
        number = ctypes.c_int()
        _checked(
            _libc.posix_spawn(
                ctypes.byref(number), os.fsencode(program), actions, attributes,
                _texts([os.fsencode(part) for part in argv]), _texts(environment),
            )
        )  # fmt: skip
        return number.value
    finally:
        _libc.posix_spawn_file_actions_destroy(actions)
        _libc.posix_spawnattr_destroy(attributes)


@functools.lru_cache(maxsize=1)
def _keep_inherited() -> None:
    """Descriptors that our own parent left open are closed by exec from now on, like all that Python opens itself."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the list itself
            if int(name) >= _FIRST_FREE:
                os.set_inheritable(int(name), False)


def _join_network(thread: int, namespace: int) -> None:
    """A thread stays in the namespace in which it was made, and its maker may have left that since."""
    if os.stat("/proc/thread-self/ns/net").st_ino == namespace:
        return
    descriptor = os.open(f"/proc/self/task/{thread}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.join(descriptor, kernel.CLONE_NEWNET)
    finally:
        os.close(descriptor)


def _prepare(attributes: ctypes.Array[ctypes.c_char]) -> None:
    defaults = ctypes.create_string_buffer(_ROOM)
    _libc.sigemptyset(defaults)
    for number in _RESTORED:
        _libc.sigaddset(defaults, int(number))
    _checked(_libc.posix_spawnattr_setsigdefault(attributes, defaults))
    _checked(_libc.posix_spawnattr_setflags(attributes, ctypes.c_short(_SET_DEFAULTS | _SET_SESSION)))


def _lay_out(actions: ctypes.Array[ctypes.c_char], streams: Streams, cwd: Path | None, pass_fds: Sequence[int]) -> None:
    """What the child does with its copies of our descriptors, in this order."""
    for target, source in enumerate(streams):
        if source is None:
            _checked(_libc.posix_spawn_file_actions_addopen(actions, target, b"/dev/null", os.O_RDWR, 0))
        else:
            _checked(_libc.posix_spawn_file_actions_adddup2(actions, source, target))
    for descriptor in pass_fds:  # to itself: then it is no longer closed by exec
        _checked(_libc.posix_spawn_file_actions_adddup2(actions, descriptor, descriptor))
    # Those between are closed by exec.
    _checked(_libc.posix_spawn_file_actions_addclosefrom_np(actions, max(pass_fds, default=_FIRST_FREE - 1) + 1))
    if cwd is not None:
        _checked(_libc.posix_spawn_file_actions_addchdir_np(actions, os.fsencode(cwd)))


def _texts(texts: Sequence[bytes]) -> ctypes.Array[ctypes.c_char_p]:
    """A vector of C strings that ends with NULL. Raises ValueError for one with a NUL."""
    if any(b"\0" in text for text in texts):
        raise ValueError("embedded null byte")
    return (ctypes.c_char_p * (len(texts) + 1))(*texts, None)


def _checked(number: int) -> None:
    """These calls return the number of an error."""
    if number:
        raise OSError(number, os.strerror(number))
