"""Fixtures of tests with effects on the host."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from bridge_bed import NAMES, Bed
from netns import Netns, fresh_namespace
from runtime_root import mounts_below

from isola.host.linux import linux_host
from isola.network.drivers.bridge import BridgeNetworks


@pytest.fixture
def netns() -> Iterator[Netns]:
    """A network namespace for the test and all its processes. Must be the first fixture."""
    with fresh_namespace() as namespace:
        yield namespace


@pytest.fixture
def walkable() -> Iterator[Path]:
    """A directory below a path that dnsmasq's user may search."""
    path = Path(tempfile.mkdtemp(prefix="isola-network-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    for mount in mounts_below(path):  # of networks that a failed test has left
        subprocess.run(["umount", "-l", mount.split()[4]], check=False)
    shutil.rmtree(path)


@pytest.fixture
async def bed(netns: Netns, walkable: Path) -> AsyncIterator[Bed]:
    """A bridge driver in its own network namespace."""
    host = linux_host()
    driver = BridgeNetworks(host, walkable, NAMES)
    yield Bed(host, walkable, driver, netns)
    await driver.close()
