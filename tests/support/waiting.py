"""Waiting for conditions."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from daemon import TIMEOUT_FACTOR, Daemon


def booted(daemon: Daemon, name: str) -> None:
    """Wait until systemd reports ``running``; its bus is not available immediately."""
    until(lambda: daemon.exec(name, "systemctl", "is-system-running", "--wait")[1].strip() == "running", 240)


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    mask = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


def until(condition: Callable[[], object], seconds: float = 60, *, pause: float = 0.1) -> None:
    """At least a minute, because a busy machine is slow; what happens in time is not waited for."""
    end = time.monotonic() + max(seconds, 60) * TIMEOUT_FACTOR
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(pause)
