"""Snapshots, restores and copies of instances by the unmodified ``incus``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from incus_client import Incus
from snapshot_pools import POOLS, launch_then, snapshot_pool


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, incus: Incus) -> Iterator[str]:
    with snapshot_pool(incus, request.param) as name:
        yield name


def test_incus(incus: Incus, pool: str) -> None:
    launch_then(incus, pool)
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
