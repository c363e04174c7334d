"""``lxc warning`` of Debian, unmodified, and ``isola warning``: of a storage pool whose disk is missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from command import Cli
from daemon import Daemon
from lxc_client import Lxc
from tiny_daemon import tiny_daemon


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A separate daemon, whose pool loses its disk."""
    with tiny_daemon(tmp_path_factory.mktemp("image")) as daemon:
        yield daemon


def listed(lxc: Lxc, *more: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(lxc("warning", "list", "--format", "json", *more))
    return found


def again(daemon: Daemon) -> None:
    daemon.stop()
    daemon.start()


def test_a_pool_without_its_disk_is_a_warning_until_it_is_back(
    daemon: Daemon, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lxc, isola = Lxc(daemon, tmp_path_factory.mktemp("home")), Cli(daemon)
    assert listed(lxc) == []
    lxc("storage", "create", "spare", "btrfs", "size=256MiB")
    disk = next(path for path in daemon.directory.glob("**/*.img") if "spare" in str(path))
    daemon.stop(instances=True)
    disk.rename(disk.with_suffix(".away"))
    daemon.start()
    (warning,) = listed(lxc)
    id = warning["uuid"]
    assert (warning["type"], warning["severity"], warning["status"]) == ("Storage pool unavailable", "high", "new")
    assert warning["entity_url"] == "/1.0/storage-pools/spare" and "missing" in warning["last_message"]
    assert "Storage pool unavailable" in isola("warning", "list").stdout
    assert f"uuid: {id}" in lxc("warning", "show", id) and id in isola("warning", "show", id[:8]).stdout
    lxc("warning", "ack", id)
    assert listed(lxc) == [] and [each["uuid"] for each in listed(lxc, "--all")] == [id]
    again(daemon)
    assert listed(lxc) == [] and listed(lxc, "--all")[0]["count"] == 2
    disk.with_suffix(".away").rename(disk)
    again(daemon)
    assert listed(lxc, "--all")[0]["status"] == "resolved"
    lxc("warning", "delete", id)
    assert listed(lxc, "--all") == []
    lxc("warning", "delete", id, status=1)
    lxc("storage", "delete", "spare")
