"""Descriptors of the process of the tests, in which threads of earlier tests may still close theirs."""

from __future__ import annotations

import asyncio
import contextlib
import os

_TIMEOUT = 30.0


def descriptors() -> set[tuple[str, str]]:
    """Number and what it refers to, without that which reads them."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


async def closed_since(before: set[tuple[str, str]]) -> None:
    """Fails if descriptors stay open that were not ``before``; others may close meanwhile."""
    end = asyncio.get_running_loop().time() + _TIMEOUT
    while left := descriptors() - before:
        assert asyncio.get_running_loop().time() < end, f"left open: {left}"
        await asyncio.sleep(0.02)
