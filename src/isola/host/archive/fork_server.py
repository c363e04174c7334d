"""``python -m isola.host.archive.fork_server FD``: the process that reads and writes archives, loaded in advance.

It forks a process for each request, which does what ``archiver`` does when it is started as a program, and never
reads a byte of an archive itself. An archive that arrives is unpacked by a confined child of this process, without
another one between them: a fork takes as long as to unpack twenty small files. On the socket ``FD``:

- ``{"start": N, "request": {...}}`` with the descriptors of standard output and standard error begins request N; a
  third descriptor is passed on as ``descriptor`` of the request.
- ``{"kill": N}`` kills its process, and its process group.
- ``{"ended": N, "status": S, "confined": C}`` is the answer when all processes of a killed request, or that of any
  other, have ended; ``C`` says whether it was the confined process itself.

It ends when the other end of the socket is closed, and its processes with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import sys
import time
from dataclasses import dataclass
from typing import Any

import zstandard  # noqa: F401 - most archives need it, and there is no importing in a cell

from isola.errors import IsolaError
from isola.host import documents, seccomp
from isola.host.archive import archiver, arriving

LONGEST = 160 << 10
"""Bytes of a request."""
_MOST_DESCRIPTORS = 3
_WAITS, _PAUSE = 200, 0.005
"""How often, and how long, the end of a killed process group is waited for."""


@dataclass(slots=True)
class _Job:
    number: int
    pid: int
    confined: bool = False
    killed: bool = False


class _Server:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._selector = selectors.DefaultSelector()
        self._selector.register(control, selectors.EVENT_READ)
        self._jobs: dict[int, _Job] = {}
        """By pidfd."""

    def run(self) -> None:
        """Serve until the client closes its end."""
        while True:
            for key, _ in self._selector.select():
                if key.fd != self._control.fileno():
                    self._end(key.fd)
                elif not self._receive():
                    return

    def _receive(self) -> bool:
        data, descriptors, _, _ = socket.recv_fds(self._control, LONGEST, _MOST_DESCRIPTORS)
        if not data:
            return False
        message = json.loads(data)
        try:
            if "start" in message:
                self._start(message["start"], message["request"], descriptors)
            else:
                self._kill(message["kill"])
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, number: int, request: dict[str, Any], descriptors: list[int]) -> None:
        confined = request.get("verb") == arriving.VERB
        try:
            pid = archiver.start_unpacking(request, *descriptors) if confined else os.fork()
        except IsolaError as error:
            self._failed(number, 0, descriptors[0], archiver.reported(error))
            _require_home()
            return
        except OSError as error:
            self._failed(number, 1, descriptors[1], f"cannot fork: {error.strerror}\n".encode())
            return
        if pid == 0:
            _become(self._control, self._selector, request, descriptors)
        pidfd = os.pidfd_open(pid)
        self._jobs[pidfd] = _Job(number, pid, confined)
        self._selector.register(pidfd, selectors.EVENT_READ)

    def _failed(self, number: int, status: int, descriptor: int, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, text)
        self._tell(number, status)

    def _kill(self, number: int) -> None:
        for job in self._jobs.values():
            if job.number == number:
                job.killed = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job.pid, signal.SIGKILL)  # it may not lead a group yet
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGKILL)

    def _end(self, pidfd: int) -> None:
        job = self._jobs.pop(pidfd)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        status = os.waitstatus_to_exitcode(os.waitpid(job.pid, 0)[1])
        for _ in range(_WAITS if job.killed else 0):
            try:
                os.killpg(job.pid, 0)
            except OSError:
                break
            time.sleep(_PAUSE)
        self._tell(job.number, status, confined=job.confined)

    def _tell(self, number: int, status: int, *, confined: bool = False) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._control.send(json.dumps({"ended": number, "status": status, "confined": confined}).encode())


def _require_home() -> None:
    """Processes that are forked from now on must be in the PID namespace of this one; if not, it ends."""
    if os.readlink("/proc/self/ns/pid_for_children") != os.readlink("/proc/self/ns/pid"):
        os._exit(1)


def _become(
    control: socket.socket, selector: selectors.BaseSelector, request: dict[str, Any], descriptors: list[int]
) -> None:
    """In the child: carry out the request. Never returns."""
    try:
        os.setsid()
        gc.enable()
        control.close()
        selector.close()
        os.dup2(descriptors[0], 1)
        os.dup2(descriptors[1], 2)
        if len(descriptors) > 2:
            request["descriptor"] = descriptors[2]
        archiver.perform(request)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"{type(error).__name__}: {error}\n".encode(errors="replace"))
    finally:
        os._exit(1)


def main() -> None:
    """Load what requests need, then serve."""
    documents.prepare()
    seccomp.prepare()
    control = socket.socket(fileno=int(sys.argv[1]))
    gc.collect()
    gc.freeze()  # the collector would write to the memory that is shared with the children
    gc.disable()
    _Server(control).run()
    os._exit(0)


if __name__ == "__main__":
    main()
