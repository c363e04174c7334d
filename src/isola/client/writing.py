"""Writing to descriptors that may not take everything at once."""

from __future__ import annotations

import os


def until_writable(fd: int, timeout: float | None = None) -> None:
    """Wait until a descriptor takes bytes. Raises TimeoutError."""
    import select

    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    if not poll.poll(None if timeout is None else timeout * 1000):
        raise TimeoutError("the other side does not read")


def write_all(fd: int, data: bytes) -> None:
    """Write all of it to a descriptor, also where another process has made it non-blocking."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            until_writable(fd)
