"""Warnings when the daemon is about to run out of descriptors."""

from __future__ import annotations

import asyncio
import logging

import pytest

from isola.server import pressure
from isola.testing.host import fake_host
from isola.testing.system import FakeSystem


def test_far_from_the_limit_there_is_no_warning() -> None:
    host = fake_host()
    assert isinstance(host.system, FakeSystem)
    assert pressure.descriptors(host) == ""
    host.system.descriptors = (900, 1024)
    assert "900 of 1024" in pressure.descriptors(host)
    assert "LimitNOFILE" in pressure.descriptors(host)


async def test_it_is_logged_once_each_time(caplog: pytest.LogCaptureFixture) -> None:
    host = fake_host()
    assert isinstance(host.system, FakeSystem)
    watching = asyncio.ensure_future(pressure.watch(host, seconds=0))
    for used, logged in ((20, 0), (900, 1), (901, 1), (20, 1), (1000, 2)):
        host.system.descriptors = (used, 1024)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == logged
    watching.cancel()
