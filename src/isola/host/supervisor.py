"""Restarts the daemon when it dies, and survives a full disk, closed descriptors and a failing fork."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import time
import traceback
from collections.abc import Callable
from typing import NoReturn

_HEALTHY_SECONDS = 30.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 30.0
_TRIES = 3
"""How often the daemon may fail before it was ever ready: the process that started it waits for the result."""
_STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGPWR})
_WATCHED = _STOP_SIGNALS | {signal.SIGCHLD, signal.SIGHUP}


def supervise(run: Callable[[Callable[[], None]], int], ready: Callable[[], None]) -> int:
    """Call ``run`` in a child process, with a function that calls ``ready``; restart it when it is killed or fails.

    Return the exit status after success (0), a usage error (2), a signal to stop, or repeated failures before the
    daemon was ever ready.
    """
    # Signals are blocked and received by sigwait only, so that none is lost or interrupts other code.
    signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    was_ready = mmap.mmap(-1, 1)  # shared with every child

    def child_is_ready() -> None:
        was_ready[0] = 1
        ready()

    pause, failures = _FIRST_PAUSE, 0
    while True:
        began = time.monotonic()
        status, stop_requested = _run_once(lambda: run(child_is_ready))
        if stop_requested or status in (0, 2):
            return max(status, 0)
        failures += 1
        if not was_ready[0] and failures >= _TRIES:
            _log(f"isolad ended ({status}) {failures} times before it was ready; giving up")
            return 1
        pause = _FIRST_PAUSE if time.monotonic() - began > _HEALTHY_SECONDS else min(pause * 2, _LONGEST_PAUSE)
        _log(f"isolad ended ({status}); starting it again in {pause:g} s")
        if _stopped_within(pause):
            return 0


def _run_once(run: Callable[[], int]) -> tuple[int, bool]:
    """Exit status (or negative signal number) of a child, and whether a signal to stop was received."""
    try:
        child = os.fork()
    except OSError as error:
        _log(f"isolad cannot be started: {error}")
        return 1, False
    if child == 0:
        _run_in_child(run)
    stop_requested = False
    while True:
        number = signal.sigwait(_WATCHED)
        if number != signal.SIGCHLD:
            stop_requested = stop_requested or number in _STOP_SIGNALS
            os.kill(child, number)  # it has not been reaped, so its PID cannot be reused
        elif (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1]), stop_requested


def _run_in_child(run: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        status = run()
    except BaseException:
        _log(traceback.format_exc())
    finally:
        os._exit(status)


def _stopped_within(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        received = signal.sigtimedwait(_WATCHED, left)
        if received is not None and received.si_signo in _STOP_SIGNALS:
            return True
    return False


def _log(text: str) -> None:
    """Write to standard error, and ignore errors."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))
