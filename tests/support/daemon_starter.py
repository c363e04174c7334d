"""Starts daemons as forks of a process that has imported the program: that takes half of the time of a start.

Its requests come through a socket as JSON: ``{"module": ..., "arguments": [...], "environment": {...}, "netns": path}``
with a descriptor for all output, or ``{"ended": PID}`` after the end of a daemon. The answer is a number: the PID, or
the return code as in ``subprocess``. A real ``isolad`` is started by the tests of the daemon's process, and by those
that install it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NoReturn

from isola.host import kernel

MODULES = ("isola.daemon.main", "isola.testing.daemon")
FOUND_LATE = (
    *(f"isola.{kind}.drivers" for kind in ("builds", "devices", "images", "network", "runtimes", "state", "storage")),
    *(f"isola.doors.{door}.routes" for door in ("docker", "registry", "rest")),
)
"""Packages whose modules a daemon imports by their names when it starts."""
_LARGE = 1 << 20
"""Of a request: environments may be large."""


class Started:
    """A running daemon, like ``subprocess.Popen``."""

    def __init__(self, starter: Starter, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._starter = starter
        self._descriptor = os.pidfd_open(pid)

    def poll(self) -> int | None:
        """Its return code, if it has ended."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0)
        return code

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            readable, _, _ = select.select([self._descriptor], [], [], timeout)
            if readable:
                self.returncode = self._starter.ask({"ended": self.pid})
                os.close(self._descriptor)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Starter:
    """The process that forks; it ends with the one that has started it."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGE)
        with theirs:
            argv = [sys.executable, "-m", "daemon_starter", str(theirs.fileno())]
            path = os.path.dirname(os.path.abspath(__file__))
            self._process = subprocess.Popen(
                argv,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path},
            )
        self._lock = threading.Lock()

    def start(
        self, module: str, arguments: Sequence[str], environment: Mapping[str, str], netns: str | None, output: int
    ) -> Started:
        request = {"module": module, "arguments": arguments, "environment": dict(environment), "netns": netns}
        return Started(self, self.ask(request, output))

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> int:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(64)
        assert answer, "the process that starts daemons has ended"
        return int(answer)


@cache
def starter() -> Starter:
    """That of this process."""
    return Starter()


def main() -> None:
    """Serve until EOF."""
    control = socket.socket(fileno=int(sys.argv[1]))
    for module in (*MODULES, "isola.daemon.serve", "sqlite3", *_modules(FOUND_LATE)):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _LARGE, 1)
        if not data:
            return
        request = json.loads(data)
        if "ended" in request:
            _, status = os.waitpid(request["ended"], 0)
            control.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        pid = os.fork()
        if pid == 0:
            _become(request, descriptors[0])
        os.close(descriptors[0])
        control.send(str(pid).encode())


def _modules(packages: Iterable[str]) -> Iterator[str]:
    for package in packages:
        for found in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            yield found.name


def _become(request: Mapping[str, Any], output: int) -> NoReturn:
    """The daemon, in a session of its own."""
    code = 1
    try:
        os.setsid()
        for number in (1, 2):
            os.dup2(output, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        if request["netns"]:
            namespace = os.open(request["netns"], os.O_RDONLY | os.O_CLOEXEC)
            kernel.join(namespace, kernel.CLONE_NEWNET)
            os.close(namespace)
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.argv[:] = [request["module"], *request["arguments"]]
        code = sys.modules[request["module"]].main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
