"""Instances in pools of every driver, and volumes by Debian's unmodified ``lxc``."""

from __future__ import annotations

import pytest
from loop_devices import loops
from lxc_client import Lxc

POOLS = {"btrfs": ("size=512MiB",), "dir": (), "overlay": ()}


@pytest.mark.parametrize("driver", POOLS)
def test_instances_run_on_pools_of_every_driver(lxc: Lxc, driver: str) -> None:
    lxc("storage", "create", "pool1", driver, *POOLS[driver])
    for name in ("one", "two"):
        lxc("launch", "tiny", name, "--storage", "pool1")
    assert lxc("exec", "one", "--", "stat", "-c", "%u:%g", "/").strip() == "0:0"
    lxc("exec", "one", "--", "sh", "-c", "echo kept > /file")
    lxc("restart", "--force", "one")
    assert lxc("exec", "one", "--", "cat", "/file") == "kept\n"
    lxc("exec", "two", "--", "cat", "/file", status=1)
    lxc("stop", "--force", "one")
    lxc("file", "pull", "one/file", "-")
    lxc("storage", "delete", "pool1", status=1)
    lxc.daemon.kill()
    lxc.daemon.start()
    assert lxc("exec", "two", "--", "echo", "lives") == "lives\n"
    lxc("delete", "--force", "one", "two")
    lxc("storage", "delete", "pool1")
    assert not loops(lxc.daemon.directory)


@pytest.mark.parametrize("driver", POOLS)
def test_volumes(lxc: Lxc, driver: str) -> None:
    lxc("storage", "create", "pool2", driver, *POOLS[driver])
    lxc("storage", "volume", "create", "pool2", "data", "user.a=b")
    assert "data" in lxc("storage", "volume", "list", "pool2")
    lxc("storage", "volume", "set", "pool2", "data", "snapshots.pattern=auto-%d")
    assert lxc("storage", "volume", "get", "pool2", "data", "snapshots.pattern") == "auto-%d\n"
    lxc("storage", "volume", "set", "pool2", "data", "size=32MiB", status=0 if driver == "btrfs" else 1)
    lxc("storage", "volume", "snapshot", "pool2", "data", "s1")
    lxc("storage", "volume", "snapshot", "pool2", "data")
    assert "auto-0" in lxc("storage", "volume", "info", "pool2", "data")
    lxc("storage", "volume", "rename", "pool2", "data/s1", "data/s2")
    lxc("storage", "volume", "restore", "pool2", "data", "s2")
    lxc("storage", "volume", "unset", "pool2", "data", "size")
    lxc("storage", "volume", "copy", "pool2/data", "default/copied")
    lxc("storage", "volume", "copy", "pool2/data/s2", "pool2/then")
    lxc("storage", "volume", "move", "pool2/data", "default/moved")
    lxc("storage", "volume", "rename", "default", "moved", "data2")
    assert "s2" in lxc("storage", "volume", "info", "default", "data2")
    lxc("storage", "volume", "delete", "default", "data2/s2")
    lxc("storage", "volume", "edit", "default", "data2", input=b"description: edited\nconfig: {}\n")
    assert "description: edited" in lxc("storage", "volume", "show", "default", "data2")
    lxc("storage", "volume", "delete", "default", "data2")
    lxc("storage", "volume", "delete", "default", "copied")
    lxc("storage", "delete", "pool2", status=1)
    lxc("storage", "volume", "delete", "pool2", "then")
    lxc("storage", "delete", "pool2")


def test_an_instance_cannot_fill_its_pool(lxc: Lxc) -> None:
    """By the default of the pool, which new ones have, and one key raises."""
    lxc("storage", "create", "pool3", "btrfs", "size=512MiB")
    assert lxc("storage", "get", "pool3", "volume.size") == "80%\n"
    lxc("storage", "set", "pool3", "volume.size=48MiB")
    lxc("launch", "tiny", "hungry", "--storage", "pool3")
    lxc("launch", "tiny", "beside", "--storage", "pool3")
    assert lxc("config", "get", "hungry", "volatile.root.size") == f"{48 << 20}\n"
    fill = ("sh", "-c", "dd if=/dev/urandom of=/file bs=1M count=96 conv=fsync")
    lxc("exec", "hungry", "--", *fill, status=1)
    assert lxc("exec", "beside", "--", "sh", "-c", "echo works > /file && cat /file") == "works\n"
    lxc("config", "device", "set", "hungry", "root", "size=256MiB")
    lxc("exec", "hungry", "--", *fill)
    lxc("config", "device", "unset", "hungry", "root", "size")
    assert lxc("config", "get", "hungry", "volatile.root.size") == f"{48 << 20}\n"
    lxc("copy", "beside", "copied")
    assert lxc("config", "get", "copied", "volatile.root.size") == f"{48 << 20}\n"
    lxc("copy", "beside", "elsewhere", "--storage", "default")
    assert lxc("config", "get", "elsewhere", "volatile.root.size") == "\n"
    lxc("delete", "--force", "hungry", "beside", "copied", "elsewhere")
    lxc("storage", "delete", "pool3")
