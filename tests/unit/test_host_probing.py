"""Probes of drivers: there is always a result, even if they raise or hang."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path

import pytest

from isola.errors import HostFailure
from isola.host.probing import probed
from isola.images.sources import Sources
from isola.model.probe import Probe
from isola.testing.archives import FakeArchives
from isola.testing.host import fake_host


async def _fine() -> Probe:
    return Probe(True, "1")


async def _refused() -> Probe:
    raise HostFailure("It is refused", evidence="EPERM", remedy="allow it")


async def _broken() -> Probe:
    raise BufferError("cannot close")


async def _hung() -> Probe:
    await asyncio.sleep(60)
    raise AssertionError


async def test_a_result_is_returned() -> None:
    assert await probed("x", _fine()) == Probe(True, "1")


async def test_errors_and_exceptions_become_reasons(caplog: pytest.LogCaptureFixture) -> None:
    refused = await probed("x", _refused())
    assert not refused.available
    assert "EPERM" in refused.reason
    assert refused.remedy == "allow it"
    broken = await probed("x", _broken())
    assert not broken.available
    assert "cannot close" in broken.reason
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


async def test_a_hanging_probe_is_given_up() -> None:
    hung = await probed("x", _hung(), timeout=0.01)
    assert not hung.available
    assert "did not end" in hung.reason


async def test_a_driver_that_says_what_fails_is_tried_although_its_probe_hangs() -> None:
    hung = await probed("x", _hung(), timeout=0.01, try_anyway=True)
    assert hung.available and "did not end" in hung.warnings[0]
    assert not (await probed("x", _refused(), try_anyway=True)).available


class SlowArchives(FakeArchives):
    """Of a busy host."""

    async def lacks(self) -> tuple[str, ...]:
        await asyncio.sleep(60)
        raise AssertionError


async def test_image_files_are_imported_on_a_host_that_is_slow_to_probe(tmp_path: Path) -> None:
    host = fake_host()
    sources = Sources(dataclasses.replace(host, archives=SlowArchives(host.files)), tmp_path, tmp_path)
    await sources.probe(timeout=0.01)
    assert sources.get("file").offers() == {}
    assert "did not end" in sources.probes["file"].warnings[0]
