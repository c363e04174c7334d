"""The selection of the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from isola.errors import DriverUnavailable, NotFound, Unsupported
from isola.host import Host
from isola.model.identity import HostNames
from isola.model.probe import Probe
from isola.runtimes import Runtime, Runtimes
from isola.testing.runtime import FakeRuntime

FINE = Probe(available=True)
RESERVED = Probe(available=True, warnings=("works less well",))
MISSING = Probe(available=False, reason="not installed", remedy="apt-get install it")


def with_result(probe: Probe) -> type[Runtime]:
    class WithResult(FakeRuntime):
        @classmethod
        async def probe(cls, host: Host) -> Probe:
            return probe

    return WithResult


async def runtimes(**probes: Probe) -> Runtimes:
    drivers = {name: with_result(probe) for name, probe in probes.items()}
    # The fake never asks the host for anything.
    found = Runtimes(cast(Host, None), Path("/nowhere"), HostNames("isola"), drivers=drivers)
    await found.probe()
    return found


async def test_the_faster_of_two_working_runtimes() -> None:
    assert (await runtimes(runc=FINE, crun=FINE)).choose("container") == "crun"


async def test_a_runtime_without_warnings_before_a_faster_one() -> None:
    assert (await runtimes(runc=FINE, crun=RESERVED)).choose("container") == "runc"
    assert (await runtimes(runc=MISSING, crun=RESERVED)).choose("container") == "crun"


async def test_the_requested_runtime_is_chosen() -> None:
    found = await runtimes(runc=FINE, crun=RESERVED)
    assert found.choose("container", "crun") == "crun"
    with pytest.raises(NotFound):
        (await runtimes(runc=FINE)).choose("container", "nonsense")


async def test_why_none_works() -> None:
    found = await runtimes(runc=MISSING)
    with pytest.raises(DriverUnavailable) as caught:
        found.choose("container")
    assert "not installed" in str(caught.value) and "apt-get install it" in str(caught.value)
    with pytest.raises(DriverUnavailable):
        found.choose("container", "runc")
    assert found.all() == ()


async def test_an_isolation_without_a_runtime() -> None:
    with pytest.raises(Unsupported):
        (await runtimes(runc=FINE)).choose("vm")
    with pytest.raises(Unsupported):
        (await runtimes(runc=FINE)).choose("vm", "runc")
