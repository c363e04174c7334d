"""Processes that have an archive open."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


async def eventually(look: Callable[[], T]) -> T:
    async with asyncio.timeout(60):
        while not (found := look()):  # noqa: ASYNC110 - what is awaited is another process
            await asyncio.sleep(0.01)
    return found


def readers(source: Path) -> list[int]:
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if str(source) in {os.readlink(each) for each in Path(f"/proc/{name}/fd").iterdir()}:
                found.append(int(name))
    return found
