"""Shows the screen of an instance in a viewer of this machine, which connects to a socket of its user's alone."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

from isola.cli.terminal import Wakes
from isola.client.displays import Screen
from isola.client.interpreter import signal
from isola.client.websocket import WebSocket

_BLOCK = 65536
_VIEWERS = {"remote-viewer": ("remote-viewer", "{}"), "spicy": ("spicy", "--uri={}")}
"""Programs that show a screen, in order of preference, with their arguments."""
_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def view(screen: Screen, say: Callable[[str], None], write: Callable[[str], None]) -> int:
    """Until the viewer or the instance has ended, or Ctrl-C; returns the viewer's exit status.

    Without a viewer, or without a desktop, the address for one is printed instead.
    """
    with tempfile.TemporaryDirectory(prefix="isola-screen-") as directory, contextlib.closing(screen):
        path = os.path.join(directory, "spice.sock")
        with socket.socket(socket.AF_UNIX) as listening, Wakes(*_ENDS, signal.SIGCHLD) as wakes:
            listening.bind(path)
            listening.listen()
            program = viewer()
            if program is None:
                say("The screen can be looked at until Ctrl-C; remote-viewer (package virt-viewer) opens this address:")
                write(f"spice+unix://{path}")
                sys.stdout.flush()
                return _Relay(screen, listening, wakes, None).run()
            with _started([part.format(f"spice+unix://{path}") for part in program]) as process:
                return _Relay(screen, listening, wakes, process).run()


def viewer() -> tuple[str, ...] | None:
    """The program with its arguments; None if there is none, or no desktop to show it on."""
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return None
    return next((argv for name, argv in _VIEWERS.items() if shutil.which(name)), None)


@contextlib.contextmanager
def _started(argv: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()


class _Pair:
    """A connection of the viewer, and the one to the screen that belongs to it."""

    def __init__(self, local: socket.socket, remote: WebSocket) -> None:
        self.local, self.remote = local, remote
        self._pending = bytearray()
        self._ended = False
        local.setblocking(False)
        self._take()

    def masks(self) -> dict[int, int]:
        """Descriptors with the events to wait for: neither side is read while the other one is slow."""
        local = (0 if self.remote.congested else select.POLLIN) | (select.POLLOUT if self._pending else 0)
        remote = (0 if self._pending else select.POLLIN) | (select.POLLOUT if self.remote.congested else 0)
        return {self.local.fileno(): local, self.remote.fileno(): remote}

    def work(self) -> bool:
        """Copy what can be copied without waiting; whether it goes on."""
        self.remote.flush()
        if not self._pending and not self.remote.closed:
            self.remote.read()
            self._take()
        self._push()
        if not self.remote.congested:
            self._pull()
        return not self._ended and (bool(self._pending) or not self.remote.closed)

    def close(self) -> None:
        self.local.close()
        self.remote.close()

    def _take(self) -> None:
        for message in self.remote.take():
            self._pending += message.encode() if isinstance(message, str) else message

    def _push(self) -> None:
        try:
            while self._pending:
                del self._pending[: self.local.send(self._pending)]
        except BlockingIOError:
            pass
        except OSError:
            self._ended = True

    def _pull(self) -> None:
        try:
            data = self.local.recv(_BLOCK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.remote.queue(data)
            self.remote.flush()
        else:
            self._ended = True


class _Relay:
    """The loop of ``view``."""

    def __init__(
        self, screen: Screen, listening: socket.socket, wakes: Wakes, process: subprocess.Popen[bytes] | None
    ) -> None:
        self._screen, self._listening, self._wakes, self._process = screen, listening, wakes, process
        self._pairs: list[_Pair] = []

    def run(self) -> int:
        try:
            while not self._screen.control.closed:
                self._wait()
                if any(number in _ENDS for number in self._wakes.take()):
                    return 0
                if self._process is not None and (status := self._process.poll()) is not None:
                    return status
                self._work()
            return 0
        finally:
            for pair in self._pairs:
                pair.close()

    def _wait(self) -> None:
        poll = select.poll()
        for fd in (self._listening.fileno(), self._wakes.fd, self._screen.control.fileno()):
            poll.register(fd, select.POLLIN)
        for pair in self._pairs:
            for fd, mask in pair.masks().items():
                poll.register(fd, mask)
        self._ready = {fd for fd, _ in poll.poll()}

    def _work(self) -> None:
        if self._screen.control.fileno() in self._ready:
            self._screen.control.read()
        if self._listening.fileno() in self._ready:
            self._pairs.append(_Pair(self._listening.accept()[0], self._screen.connect()))
        for pair in list(self._pairs):
            if self._ready.intersection(pair.masks()) and not pair.work():
                pair.close()
                self._pairs.remove(pair)
