"""Without free descriptors, failures to inspect an object do not mean that it is missing."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from isola.errors import HostFailure
from isola.host.cgroups import LinuxCgroups
from isola.host.id_ranges import LinuxIdRanges
from isola.host.proc import hold
from isola.host.process import LinuxProcesses


@contextmanager
def no_descriptors() -> Iterator[None]:
    """All descriptors that this process may have are in use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 5, hard))
    taken = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            while True:
                taken.append(os.open("/dev/null", os.O_RDONLY))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process.pid
        process.kill()


async def test_a_process_that_cannot_be_inspected_is_not_considered_ended(sleeper: int) -> None:
    processes = LinuxProcesses()
    ref = processes.identify(sleeper)
    assert ref is not None
    with no_descriptors():
        for look in (
            lambda: processes.identify(sleeper),
            lambda: processes.alive(ref),
            lambda: processes.signal(ref, 0),
        ):
            with pytest.raises(HostFailure) as caught:
                look()
            assert "Too many open files" in caught.value.evidence and caught.value.remedy
        with pytest.raises(HostFailure):
            await asyncio.wait_for(processes.gone(ref), 60)
        with pytest.raises(HostFailure), hold(ref):
            pass
    assert processes.alive(ref)


@pytest.mark.parametrize("nested", [False, True])
async def test_a_group_that_cannot_be_read_is_not_considered_empty(tmp_path: Path, nested: bool) -> None:
    group = tmp_path / "isola/one"
    for directory in (tmp_path, group, group / "below" if nested else group):
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.controllers").touch()
        (directory / "cgroup.procs").write_text("77\n")
    cgroups = LinuxCgroups(tmp_path)
    assert cgroups.processes("/isola/one") == [77]
    with no_descriptors(), pytest.raises(HostFailure):
        cgroups.processes("/isola/one")


async def test_a_range_is_not_free_if_processes_cannot_be_listed(tmp_path: Path) -> None:
    base = 60_000 << 16  # beyond the ranges of instances that may be running on this machine
    ranges = LinuxIdRanges(LinuxProcesses(), claims=tmp_path / "claims")
    with no_descriptors():
        with pytest.raises(HostFailure):
            await ranges.claim([base], "another")
        with pytest.raises(HostFailure):
            await ranges.claims()
    assert not await ranges.claims()
    assert await ranges.claim([base], "another") == base
