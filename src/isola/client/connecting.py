"""Connects to the daemon's socket."""

from __future__ import annotations

import posix

from isola.client.interpreter import AF_UNIX, SOCK_STREAM, socket


def connect(path: str, timeout: float | None) -> socket:
    """A connected socket; ``path`` may be longer than 107 bytes, the limit of a socket address."""
    link = socket(AF_UNIX, SOCK_STREAM)
    link.settimeout(timeout)
    try:
        _connect(link, path)
    except OSError as error:
        link.close()
        from isola.client.failures import unreachable

        raise unreachable(path, error) from error
    return link


def _connect(link: socket, path: str) -> None:
    if len(path.encode(errors="surrogateescape")) <= 107:
        link.connect(path)
        return
    slash = path.rfind("/") + 1
    fd = posix.open(path[:slash] or ".", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        link.connect(f"/dev/fd/{fd}/{path[slash:]}")
    finally:
        posix.close(fd)
