"""Being a daemon: one per directory, detached from the terminal, started again when it dies."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from isola.errors import Conflict

_HEALTHY_SECONDS = 30.0
_LONGEST_PAUSE = 30.0


def lock(path: Path) -> int:
    """Take the lock of a directory's daemon, for as long as the process lives. Raises Conflict."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode().strip()
        os.close(descriptor)
        raise Conflict(
            f"Another daemon runs in {path.parent}", evidence=f"process {holder}", remedy="use it, or isolad --stop"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def holder(path: Path) -> int | None:
    """Number of the process that holds the lock, or None."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        text = os.read(descriptor, 32).decode().strip()
        return int(text) if text.isdigit() else None
    finally:
        os.close(descriptor)
    return None


def stop(path: Path, *, signum: int, timeout: float) -> bool:
    """Signal the holder of a lock and wait until the lock is free; False when nobody held it.

    Raises TimeoutError when it does not go.
    """
    pid = holder(path)
    if pid is None:
        return False
    os.kill(pid, signum)
    end = time.monotonic() + timeout
    while holder(path) == pid:
        if time.monotonic() > end:
            raise TimeoutError(f"process {pid} did not end within {timeout:g} seconds")
        time.sleep(0.05)
    return True


def detach(log: Path, run: Callable[[Callable[[], None]], int]) -> int:
    """Run in the background; return to the caller once ``run`` has called what it is given (it is ready), or ended.

    Gives 0 when it became ready, otherwise the status it ended with.
    """
    readable, writable = os.pipe()
    if os.fork() == 0:
        os.close(readable)
        os.setsid()
        _redirect(log)
        os._exit(_supervise(lambda: run(lambda: _tell(writable))))
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        return 0 if pipe.read(1) else 1


def _tell(writable: int) -> None:
    try:
        os.write(writable, b"1")
        os.close(writable)
    except OSError:
        return  # a daemon that was started again has nobody left to tell


def _redirect(log: Path) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    os.dup2(null, 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(null)
    os.close(file)


def _supervise(run: Callable[[], int]) -> int:
    """Run in a child; start it again when it is killed or fails, with growing pauses. A clean end is the end."""
    pause = 0.2
    child = 0
    told: list[int] = []

    def pass_on(signum: int, _: object) -> None:
        told.append(signum)
        if child:
            os.kill(child, signum)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPWR):
        signal.signal(number, pass_on)
    while True:
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            os._exit(run())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
        if told or status in (0, 2):
            return max(status, 0)
        pause = 0.2 if time.monotonic() - began > _HEALTHY_SECONDS else min(pause * 2, _LONGEST_PAUSE)
        print(f"isolad ended ({status}); starting it again", file=sys.stderr, flush=True)
        time.sleep(pause)


def allow_many_files() -> None:
    """As many open files as the host grants: every running instance and every connection takes one or two."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def notify(message: str) -> None:
    """Tell systemd, where it asked to be told (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
        connection.sendall(message.encode())
