"""Instances copied and moved between pools and projects by unmodified clients."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon
from incus_client import Incus
from lxc_client import Lxc

POOLS = {"btrfs": ("size=512MiB",), "dir": (), "overlay": ()}
_MARK = "echo now > /file; mkdir /mine; chown 33:44 /mine; ln /file /twin"


@pytest.fixture(scope="module")
def lxc(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lxc]:
    """``lxc`` and a pool of each driver; afterwards all must be empty."""
    client = Lxc(daemon, tmp_path_factory.mktemp("home"))
    for driver, options in POOLS.items():
        client("storage", "create", f"p-{driver}", driver, *options)
    yield client
    for driver in POOLS:
        client("storage", "delete", f"p-{driver}")


@pytest.fixture(autouse=True)
def _afterwards(lxc: Lxc) -> Iterator[None]:
    yield
    for found in json.loads(lxc("query", "/1.0/instances?recursion=1&all-projects=true")):
        lxc("delete", "--force", "--project", found["project"], found["name"])


def shown(lxc: Lxc, name: str, project: str = "default") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lxc("query", f"/1.0/instances/{name}?recursion=1&project={project}"))
    return found


def pool_of(lxc: Lxc, name: str) -> str:
    return str(shown(lxc, name)["expanded_devices"]["root"]["pool"])


@pytest.mark.parametrize(("source", "target"), [("overlay", "btrfs"), ("btrfs", "dir"), ("dir", "overlay")])
def test_lxc_copies_and_moves(lxc: Lxc, source: str, target: str) -> None:
    lxc("launch", "tiny", "mv-one", "--storage", f"p-{source}")
    lxc("exec", "mv-one", "--", "sh", "-c", "echo then > /file")
    lxc("snapshot", "mv-one")
    lxc("exec", "mv-one", "--", "sh", "-c", _MARK)
    lxc("copy", "mv-one", "mv-two", "--storage", f"p-{target}")
    lxc("copy", "mv-one", "mv-three", "--storage", f"p-{target}", "--instance-only")
    lxc("copy", "mv-one/snap0", "mv-four", "--storage", f"p-{target}")
    assert [pool_of(lxc, name) for name in ("mv-two", "mv-three", "mv-four")] == [f"p-{target}"] * 3
    lxc("start", "mv-two", "mv-three", "mv-four")
    for name, text in (("mv-two", "now"), ("mv-three", "now"), ("mv-four", "then")):
        assert lxc("exec", name, "--", "cat", "/file") == f"{text}\n"
    assert lxc("exec", "mv-two", "--", "stat", "-c", "%u:%g", "/mine") == "33:44\n"
    assert lxc("exec", "mv-two", "--", "stat", "-c", "%h", "/file") == "2\n"
    assert not shown(lxc, "mv-three")["snapshots"]
    lxc("restore", "mv-two", "snap0")
    assert lxc("exec", "mv-two", "--", "cat", "/file") == "then\n"

    lxc("move", "mv-one", "--storage", f"p-{target}", status=1)  # it runs
    lxc("stop", "--force", "mv-one")
    before = shown(lxc, "mv-one")
    lxc("move", "mv-one", "--storage", f"p-{target}")
    after = shown(lxc, "mv-one")
    assert pool_of(lxc, "mv-one") == f"p-{target}"
    assert after["config"]["volatile.eth0.hwaddr"] == before["config"]["volatile.eth0.hwaddr"]
    assert [each["name"] for each in after["snapshots"]] == ["snap0"]
    lxc("start", "mv-one")
    assert lxc("exec", "mv-one", "--", "cat", "/twin") == "now\n"
    lxc("restore", "mv-one", "snap0")
    assert lxc("exec", "mv-one", "--", "cat", "/file") == "then\n"
    lxc("stop", "--force", "mv-one")
    lxc("move", "mv-one", "mv-five", "--storage", f"p-{source}", "--instance-only")
    assert (pool_of(lxc, "mv-five"), shown(lxc, "mv-five")["snapshots"]) == (f"p-{source}", [])


def test_lxc_moves_to_another_project(lxc: Lxc) -> None:
    lxc("project", "create", "blue", "-c", "features.profiles=false", "-c", "features.images=false")
    lxc("init", "tiny", "mv-one", "--storage", "p-dir")
    lxc("snapshot", "mv-one")
    lxc("move", "mv-one", "--target-project", "blue")
    lxc("info", "mv-one", status=1)
    assert [each["name"] for each in shown(lxc, "mv-one", "blue")["snapshots"]] == ["snap0"]
    lxc("start", "mv-one", "--project", "blue")
    lxc("restore", "mv-one", "snap0", "--project", "blue")
    lxc("delete", "--force", "mv-one", "--project", "blue")
    lxc("project", "delete", "blue")


def test_incus_copies_and_moves(lxc: Lxc, tmp_path_factory: pytest.TempPathFactory) -> None:
    incus = Incus(lxc.daemon, tmp_path_factory.mktemp("incus"))
    lxc("launch", "tiny", "mv-one", "--storage", "p-overlay")
    incus("snapshot", "create", "mv-one")
    incus("copy", "mv-one", "mv-two", "--storage", "p-btrfs")
    assert (pool_of(lxc, "mv-two"), len(shown(lxc, "mv-two")["snapshots"])) == ("p-btrfs", 1)
    incus("stop", "--force", "mv-one")
    incus("move", "mv-one", "--storage", "p-dir")
    incus("move", "mv-one", "mv-three", "--storage", "p-btrfs", "--instance-only", "--config", "user.mark=moved")
    assert (pool_of(lxc, "mv-three"), shown(lxc, "mv-three")["snapshots"]) == ("p-btrfs", [])
    assert shown(lxc, "mv-three")["config"]["user.mark"] == "moved"


@pytest.mark.parametrize("client", ["lxc", "incus"])
def test_a_root_from_a_profile_does_not_hinder_a_refresh(lxc: Lxc, client: str, tmp_path: Path) -> None:
    """The client finally writes the origin's configuration, whose root is in another pool."""
    run = lxc if client == "lxc" else Incus(lxc.daemon, tmp_path)
    lxc("init", "tiny", "mv-one")
    lxc("copy", "mv-one", "mv-two", "--storage", "p-dir")
    lxc("config", "set", "mv-one", "user.mark=new")
    run("copy", "mv-one", "mv-two", "--refresh")
    assert (pool_of(lxc, "mv-two"), shown(lxc, "mv-two")["config"]["user.mark"]) == ("p-dir", "new")
    lxc("start", "mv-two")
    lxc("config", "device", "remove", "mv-two", "root", status=1)  # the same change by a user is refused


def test_lxc_refreshes_copies(lxc: Lxc) -> None:
    lxc("launch", "tiny", "mv-one", "--storage", "p-overlay")
    lxc("snapshot", "mv-one", "first")
    for name, pool in (("mv-two", "p-overlay"), ("mv-three", "p-btrfs")):
        lxc("copy", "mv-one", name, "--storage", pool, "--refresh")  # there is no copy: like without the option
    lxc("exec", "mv-one", "--", "sh", "-c", _MARK)
    lxc("delete", "mv-one/first")
    lxc("snapshot", "mv-one", "second")
    for name, pool in (("mv-two", "p-overlay"), ("mv-three", "p-btrfs")):
        lxc("copy", "mv-one", name, "--storage", pool, "--refresh")
        assert [each["name"] for each in shown(lxc, name)["snapshots"]] == ["second"]
        lxc("start", name)
        assert lxc("exec", name, "--", "cat", "/twin") == "now\n"
        assert lxc("exec", name, "--", "hostname") == f"{name}\n"
        lxc("copy", "mv-one", name, "--refresh", status=1)  # it runs
    assert pool_of(lxc, "mv-three") == "p-btrfs"
