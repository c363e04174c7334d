"""A failure, cancellation and kill at every step of attaching and detaching devices of every kind."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping

import pytest
from audit import records
from daemon import Daemon
from loop_devices import loop_device
from step_walk import ACTIONS, Verb, absent, has_victim, running, walk, walked_daemon

PARENT = "lan0"


def devices(daemon: Daemon) -> dict[str, dict[str, str]]:
    """One of each kind."""
    return {
        "here": {"type": "disk", "source": "/srv", "path": "/here", "readonly": "true"},
        "scratch": {"type": "disk", "source": "tmpfs:", "path": "/scratch"},
        "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
        "tools": {"type": "disk", "source": "image:tiny", "path": "/tools"},
        "fuse": {"type": "unix-char", "source": "/dev/fuse", "path": "/dev/host-fuse"},
        "loop": {"type": "unix-block", "source": str(daemon.directory / "block"), "path": "/dev/host-block"},
        "web": {"type": "proxy", "listen": "tcp:127.0.0.1:7080", "connect": "tcp:127.0.0.1:80"},
        "nat": {"type": "proxy", "listen": "tcp:192.0.2.1:81", "connect": "tcp:192.0.2.9:81", "nat": "true"},
        "eth5": {"type": "nic", "nictype": "macvlan", "parent": PARENT, "name": "eth5"},
        "eth6": {"type": "nic", "nictype": "p2p", "name": "eth6"},
        "eth7": {"type": "nic", "nictype": "routed", "name": "eth7", "ipv4.address": "192.0.2.7"},
        "eth8": {"type": "nic", "network": "isolabr0", "name": "eth8", "security.mac_filtering": "true"},
    }


def change_devices(daemon: Daemon, devices: Mapping[str, Mapping[str, str]]) -> None:
    body = {"devices": devices, "profiles": ["default"], "description": "plugged" if devices else ""}
    daemon.run("PUT", "/1.0/instances/victim", body)


def plug(daemon: Daemon, runtime: str) -> None:
    change_devices(daemon, devices(daemon))
    assert daemon.exec("victim", "sh", "-c", "exec 3</dev/host-block && exec 4<>/dev/host-fuse")[0] == 0


def unplug(daemon: Daemon, runtime: str) -> None:
    change_devices(daemon, {})


def unplugged(daemon: Daemon, runtime: str) -> None:
    running(daemon, runtime)
    unplug(daemon, runtime)


def plugged(daemon: Daemon, runtime: str) -> None:
    running(daemon, runtime)
    plug(daemon, runtime)


def has_devices(daemon: Daemon) -> bool:
    return has_victim(daemon) and records(daemon, "instances")["victim"]["description"] == "plugged"


PLUGGING = (
    Verb("plug", "Updating instance", unplugged, plug, has_devices),
    Verb("unplug", "Updating instance", plugged, unplug, lambda d: not has_devices(d)),
)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with resources for devices: a parent link for macvlans, and a block device."""
    scratch = tmp_path_factory.mktemp("image")
    (scratch / "disk").write_bytes(bytes(1 << 20))
    with walked_daemon(scratch) as daemon, loop_device(scratch / "disk") as loop:
        os.mknod(daemon.directory / "block", stat.S_IFBLK | 0o600, loop.stat().st_rdev)
        daemon.inside("ip", "link", "add", PARENT, "up", "type", "bridge")
        yield daemon
        daemon.inside("ip", "link", "del", PARENT)


@pytest.fixture
def volume(daemon: Daemon) -> Iterator[None]:
    volumes = "/1.0/storage-pools/default/volumes/custom"
    daemon.run("POST", volumes, {"name": "data", "type": "custom"})
    yield
    absent(daemon, "crun")
    daemon.run("DELETE", f"{volumes}/data")


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("volume")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("verb", PLUGGING, ids=lambda verb: verb.name)
def test_every_step_of(verb: Verb, action: str, daemon: Daemon) -> None:
    if not records(daemon, "images"):
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    absent(daemon, "crun")
    walk(daemon, verb, "crun", action)
