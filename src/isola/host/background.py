"""Daemonizing: detaching from the terminal, limits on descriptors, readiness for systemd."""

from __future__ import annotations

import os
import resource
import select
import socket
from collections.abc import Callable
from pathlib import Path

from isola.host.supervisor import supervise

_TIMEOUT = 300.0


def detach(log: Path, run: Callable[[Callable[[], None]], int], *, timeout: float = _TIMEOUT) -> int:
    """Run in the background; return once ``run`` has called its argument (it is ready), or has ended.

    Returns 0 if it became ready, otherwise 1. Raises TimeoutError if neither happens in time; it keeps running then.
    """
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.close(readable)
        os.setsid()
        _redirect(log)
        os._exit(supervise(run, lambda: _tell(writable)))
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        if not select.select([pipe], [], [], timeout)[0]:
            raise TimeoutError(f"it is not ready after {timeout:g} seconds, and is still starting")
        return 0 if pipe.read(1) else 1


def _tell(writable: int) -> None:
    try:
        os.write(writable, b"1")
        os.close(writable)
    except OSError:
        return  # the parent that waited for readiness is gone once the daemon has re-executed itself


def _redirect(log: Path) -> None:
    """Standard input is empty; output is appended to the log, or discarded if the log cannot be opened."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    except OSError:
        file = os.dup(null)
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    for descriptor in (null, file):
        if descriptor > 2:
            os.close(descriptor)


def allow_many_files() -> None:
    """Raise the limit of open files to the maximum: every running instance and every connection needs one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(message: str) -> None:
    """Notify systemd, if it has requested it (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
        connection.sendall(message.encode())
