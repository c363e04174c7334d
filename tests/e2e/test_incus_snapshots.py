"""Snapshots, restores and copies of instances by the unmodified ``incus``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from daemon import Daemon
from incus_client import Incus

POOLS = {"btrfs": ("size=512MiB",), "overlay": ()}


@pytest.fixture(scope="module")
def incus(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Incus:
    return Incus(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, incus: Incus) -> Iterator[str]:
    """A pool of each driver; afterwards nothing may be left in it."""
    incus("storage", "create", "snaps", request.param, *POOLS[request.param])
    yield "snaps"
    for name in [each for each in incus("list", "--format", "csv", "-c", "n").split() if each.startswith("sn-")]:
        incus("delete", "--force", name)
    incus("storage", "delete", "snaps")


def test_incus(incus: Incus, pool: str) -> None:
    incus("launch", "tiny", "sn-one", "--storage", pool)
    incus("exec", "sn-one", "--", "sh", "-c", "echo then > /file")
    incus("snapshot", "create", "sn-one")
    incus("snapshot", "create", "sn-one", "second", "--no-expiry")
    assert "snap0" in incus("snapshot", "list", "sn-one")
    incus("snapshot", "show", "sn-one", "second")
    incus("exec", "sn-one", "--", "sh", "-c", "echo now > /file")
    incus("snapshot", "restore", "sn-one", "snap0")
    assert incus("exec", "sn-one", "--", "cat", "/file") == "then\n"
    incus("snapshot", "rename", "sn-one", "second", "third")
    incus("snapshot", "delete", "sn-one", "third")
    incus("copy", "sn-one/snap0", "sn-two")
    incus("copy", "sn-one", "sn-three")
    incus("start", "sn-two", "sn-three")
    assert incus("exec", "sn-two", "--", "cat", "/file") == "then\n"
