"""Writes to descriptors that may accept only a part at once."""

from __future__ import annotations

import posix


def until_writable(fd: int, timeout: float | None = None) -> None:
    """Wait until a descriptor is writable. Raises TimeoutError."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise TimeoutError("the peer does not read")


def write_all(fd: int, data: bytes) -> None:
    """Write all data, also to a descriptor that another process has made non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(fd, view) :]
        except BlockingIOError:
            until_writable(fd)
