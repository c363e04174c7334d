"""Starts the daemon again when it dies, and outlives a full disk, closed descriptors and a lack of processes."""

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
"""How often a daemon may fail before it was ready for the first time: its caller waits for the answer."""
_TOLD = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGPWR})
_WATCHED = _TOLD | {signal.SIGCHLD}


def supervise(run: Callable[[Callable[[], None]], int], ready: Callable[[], None]) -> int:
    """Run in a child, which calls ``ready`` through what it is given; start it again when it is killed or fails.

    A clean end (0), a wrong call (2) and a signal to stop are the end; so is failing often before it was ever ready.
    """
    # Signals are taken one by one where they are waited for: none comes between two steps, or is slept through.
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
            _say(f"isolad ended ({status}) {failures} times before it was ready; giving up")
            return 1
        pause = _FIRST_PAUSE if time.monotonic() - began > _HEALTHY_SECONDS else min(pause * 2, _LONGEST_PAUSE)
        _say(f"isolad ended ({status}); starting it again in {pause:g} s")
        if _told_within(pause):
            return 0


def _run_once(run: Callable[[], int]) -> tuple[int, bool]:
    """Exit status (or negative signal number) of a child, and whether it was told to stop."""
    try:
        child = os.fork()
    except OSError as error:
        _say(f"isolad cannot be started: {error}")
        return 1, False
    if child == 0:
        _become(run)
    stop_requested = False
    while True:
        number = signal.sigwait(_WATCHED)
        if number in _TOLD:
            stop_requested = True
            os.kill(child, number)  # it has not been waited for: the number is its own
        elif (ended := os.waitpid(child, os.WNOHANG))[0]:
            return os.waitstatus_to_exitcode(ended[1]), stop_requested


def _become(run: Callable[[], int]) -> NoReturn:
    status = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
        status = run()
    except BaseException:
        _say(traceback.format_exc())
    finally:
        os._exit(status)


def _told_within(seconds: float) -> bool:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        received = signal.sigtimedwait(_WATCHED, left)
        if received is not None and received.si_signo in _TOLD:
            return True
    return False


def _say(text: str) -> None:
    """Write to the log, and ignore errors."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode(errors="replace"))
