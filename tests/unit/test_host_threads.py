"""Slow work in one thread pool does not delay others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.host.files import LinuxFiles
from isola.host.threads import Work, in_long_thread, in_thread


@pytest.fixture(params=list(Work), ids=lambda work: work.value)
async def busy(request: pytest.FixtureRequest) -> AsyncIterator[Work]:
    """More work of this kind than there are threads for it, that does not end."""
    gate = threading.Event()
    stuck = [asyncio.create_task(in_long_thread(request.param, gate.wait, 30)) for _ in range(20)]
    await asyncio.sleep(0)
    yield request.param
    gate.set()
    await asyncio.gather(*stuck)


async def test_other_work_goes_on(busy: Work) -> None:
    async with asyncio.timeout(10):
        for other in set(Work) - {busy}:
            await in_long_thread(other, bool)
        await in_thread(bool)


async def test_a_slow_look_at_the_space_does_not_hold_up_deletions(busy: Work, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    files = LinuxFiles()
    async with asyncio.timeout(10):
        if busy is not Work.REMOVE:
            await files.remove_tree(tmp_path / "tree")
        (tmp_path / "file").touch()
        await files.remove_tree(tmp_path / "file")
        await files.remove_tree(tmp_path / "nothing")
        assert not (tmp_path / "file").exists()
        if busy is not Work.MEASURE:
            await files.disk_usage(tmp_path)
        if busy is not Work.COPY:
            await files.sync(tmp_path)
