"""Connects to the daemon's socket."""

from __future__ import annotations

import os

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
    if len(os.fsencode(path)) <= 107:
        link.connect(path)
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        link.connect(f"/dev/fd/{fd}/{name}")
    finally:
        os.close(fd)
