"""An observer that injects a failure, a cancellation or a kill at a point chosen by a test."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import orjson

from isola.errors import HostFailure
from isola.operations import Operation


class FaultObserver:
    """Reads its orders from a file at every point, so that a test can control a running daemon.

    The file holds ``{"operation": DESCRIPTION, "point": N, "action": "fail" | "cancel" | "kill" | "starve"}``; the
    action is executed once, at the N-th point (from 0) that operations with that description (null: all) reach after
    the orders were written. Every point is appended to ``points`` as a line ``DESCRIPTION<tab>POINT``.
    """

    def __init__(self, orders: Path, points: Path) -> None:
        self._orders = orders
        self._points = points
        self._stamp = 0
        self._seen = 0
        self._done = False
        self._starves = False

    async def reached(self, operation: Operation, point: str) -> None:
        """Record the point, and execute the order for it."""
        try:
            stamp = self._orders.stat().st_mtime_ns
        except FileNotFoundError:
            stamp = 0
        if self._starves and stamp == self._stamp:
            return  # without descriptors it cannot record the point either
        self._starves = False
        with self._points.open("a") as file:
            file.write(f"{operation.description}\t{point}\n")
        if not stamp:
            return
        if stamp != self._stamp:
            self._stamp, self._seen, self._done = stamp, 0, False
        try:
            orders = orjson.loads(self._orders.read_bytes())
        except FileNotFoundError:  # withdrawn since it was looked at
            return
        if self._done or orders["operation"] not in (None, operation.description):
            return
        self._seen += 1
        if self._seen - 1 == orders["point"]:
            self._done = True
            self._act(orders["action"], operation, point)

    def _act(self, action: str, operation: Operation, point: str) -> None:
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "cancel":
            if operation.may_cancel:
                operation.cancel()
        elif action == "starve":  # exhausts file descriptors; the test closes some of them later
            self._starves = True
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        else:
            raise HostFailure(f"Injected failure at {point}")


_CHANGES = frozenset({"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"})
_FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class ChangeFaults:
    """Kills the daemon right before a change of a file, so that verbs without an operation are walked as well.

    While the file ``orders`` exists, with the number of a change (from 0, counted since it was written; -1: none),
    every change is appended to ``changes`` as a line. Changes are what Python announces by audit events: files opened
    for writing, renamed, removed; not those by child processes.
    """

    def __init__(self, orders: Path, changes: Path) -> None:
        self._orders = str(orders)
        self._log = os.open(changes, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._daemon = os.getpid()
        self._stamp = 0
        self._number = self._seen = -1

    def install(self, add: Callable[[Callable[[str, tuple[object, ...]], None]], None] = sys.addaudithook) -> None:
        """Begin, until the end of the process."""
        add(self._happens)

    def _happens(self, event: str, arguments: tuple[object, ...]) -> None:
        if event == "open":
            if not (isinstance(arguments[2], int) and arguments[2] & _FOR_WRITING):
                return
        elif event not in _CHANGES:
            return
        try:
            stamp = os.stat(self._orders).st_mtime_ns
        except OSError:
            return
        if os.getpid() != self._daemon:
            return  # a forked child
        if stamp != self._stamp:
            self._stamp, self._seen = stamp, -1
            with open(self._orders) as file:
                self._number = int(file.read())
        self._seen += 1
        os.write(self._log, f"{event} {arguments[0]!r}\n".encode())
        if self._seen == self._number:
            os.kill(self._daemon, signal.SIGKILL)
