"""An observer that injects a failure, a cancellation or a kill at a point chosen by a test."""

from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import orjson

from isola.errors import HostFailure
from isola.operations import Operation


class FaultObserver:
    """Reads its orders from a file at every point, so that a test can control a running daemon.

    The file holds ``{"operation": DESCRIPTION, "point": N, "action": "fail" | "cancel" | "kill" | "starve"}``; the
    action is executed once, at the N-th point (from 0) that operations with that description reach after the orders
    were written. Every point is appended to ``points`` as a line ``DESCRIPTION<tab>POINT``.
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
        if self._done or operation.description != orders["operation"]:
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
