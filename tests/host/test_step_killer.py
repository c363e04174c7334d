"""Every step of every multi-step verb is failed, cancelled and killed; host and records must agree afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from audit import records, settled
from daemon import ApiError, Daemon

from isola.testing.images import tiny_image

RUNTIMES = ("runc", "crun")
ACTIONS = ("fail", "cancel", "kill")
WHOLE = bool(os.environ.get("ISOLA_TEST_WHOLE"))
SEED = int(os.environ.get("ISOLA_TEST_SEED") or time.time_ns() % 1_000_000)


@dataclass(frozen=True)
class Verb:
    """One verb: what must be so before, how it is asked for, which operation does it."""

    name: str
    operation: str
    prepare: Callable[[Daemon, str], None]
    act: Callable[[Daemon, str], object]
    acknowledged: Callable[[Daemon], bool]
    """Whether the records say that it was done."""
    always: Callable[[Daemon], bool] = lambda daemon: True
    """What holds also after it was cancelled."""


def absent(daemon: Daemon, runtime: str) -> None:
    if "victim" in records(daemon, "instances"):
        daemon.run("DELETE", "/1.0/instances/victim?force=1")


def absent_and_packed(daemon: Daemon, runtime: str) -> None:
    """Neither the instance nor the unpacked layer it will stand on."""
    absent(daemon, runtime)
    no_image(daemon, runtime)
    daemon.import_image(daemon.directory / "tiny.tar", "tiny")


def stopped(daemon: Daemon, runtime: str) -> None:
    if "victim" not in records(daemon, "instances"):
        create(daemon, runtime)
    if daemon.status("victim") == "Running":
        daemon.change("victim", "stop", force=True)


def running(daemon: Daemon, runtime: str) -> None:
    if "victim" not in records(daemon, "instances"):
        create(daemon, runtime)
    if daemon.status("victim") != "Running":
        daemon.change("victim", "start")


def create(daemon: Daemon, runtime: str) -> None:
    source = {"type": "image", "alias": "tiny"}
    daemon.run("POST", "/1.0/instances", {"name": "victim", "source": source, "runtime": runtime})


def no_image(daemon: Daemon, runtime: str) -> None:
    for fingerprint in records(daemon, "images"):
        daemon.run("DELETE", f"/1.0/images/{fingerprint}")


def import_image(daemon: Daemon, runtime: str) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-LXD-filename": "tiny.tar"}
    daemon.run("POST", "/1.0/images", (daemon.directory / "tiny.tar").read_bytes(), headers=headers)


def has_victim(daemon: Daemon) -> bool:
    record = records(daemon, "instances").get("victim")
    return record is not None and not record["deleting"]


def runs(daemon: Daemon) -> bool:
    return has_victim(daemon) and records(daemon, "instances")["victim"]["desired"] == "running"


def without_snapshots(daemon: Daemon, runtime: str) -> None:
    running(daemon, runtime)
    for path in daemon.get("/1.0/instances/victim/snapshots"):
        daemon.run("DELETE", path)


def snapshotted(daemon: Daemon, runtime: str) -> None:
    """One snapshot, after which the instance is marked and stopped."""
    without_snapshots(daemon, runtime)
    daemon.run("PATCH", "/1.0/instances/victim", {"description": ""})
    take(daemon, runtime)
    daemon.run("PATCH", "/1.0/instances/victim", {"description": "changed"})
    stopped(daemon, runtime)


def snapshotted_running(daemon: Daemon, runtime: str) -> None:
    snapshotted(daemon, runtime)
    running(daemon, runtime)


def take(daemon: Daemon, runtime: str) -> None:
    daemon.run("POST", "/1.0/instances/victim/snapshots", {"name": "before"})


def restore(daemon: Daemon, runtime: str) -> None:
    daemon.run("PUT", "/1.0/instances/victim", {"restore": "before"})


def has_snapshot(daemon: Daemon) -> bool:
    return any(each["ready"] for each in records(daemon, "instance-snapshots").values())


def restored(daemon: Daemon) -> bool:
    return has_victim(daemon) and not records(daemon, "instances")["victim"]["description"]


VERBS = (
    Verb("create", "Creating instance", absent_and_packed, create, has_victim),
    Verb("start", "Starting instance", stopped, lambda d, r: d.change("victim", "start"), runs),
    Verb("stop", "Stopping instance", running, lambda d, r: d.change("victim", "stop"), lambda d: not runs(d)),
    Verb(
        "snapshot",
        "Snapshotting instance",
        without_snapshots,
        take,
        has_snapshot,
    ),
    Verb("restore", "Restoring snapshot", snapshotted, restore, restored),
    Verb(
        "restore-running",
        "Restoring snapshot",
        snapshotted_running,
        restore,
        lambda d: restored(d) and runs(d),
        always=runs,
    ),
    Verb(
        "delete",
        "Deleting instance",
        stopped,
        lambda d, r: d.run("DELETE", "/1.0/instances/victim"),
        lambda d: not has_victim(d),
    ),
)
DEVICES = {
    "here": {"type": "disk", "source": "/srv", "path": "/here", "readonly": "true"},
    "scratch": {"type": "disk", "source": "tmpfs:", "path": "/scratch"},
    "data": {"type": "disk", "pool": "default", "source": "data", "path": "/data"},
    "fuse": {"type": "unix-char", "source": "/dev/fuse", "path": "/dev/host-fuse"},
    "web": {"type": "proxy", "listen": "tcp:127.0.0.1:7080", "connect": "tcp:127.0.0.1:80"},
    "nat": {"type": "proxy", "listen": "tcp:192.0.2.1:81", "connect": "tcp:192.0.2.9:81", "nat": "true"},
    "eth5": {"type": "nic", "nictype": "macvlan", "parent": "lan0", "name": "eth5"},
}


def change_devices(daemon: Daemon, devices: Mapping[str, Mapping[str, str]]) -> None:
    body = {"devices": devices, "profiles": ["default"], "description": "plugged" if devices else ""}
    daemon.run("PUT", "/1.0/instances/victim", body)


def unplugged(daemon: Daemon, runtime: str) -> None:
    running(daemon, runtime)
    change_devices(daemon, {})


def plugged(daemon: Daemon, runtime: str) -> None:
    running(daemon, runtime)
    change_devices(daemon, DEVICES)


def has_devices(daemon: Daemon) -> bool:
    return has_victim(daemon) and records(daemon, "instances")["victim"]["description"] == "plugged"


PLUGGING = (
    Verb("plug", "Updating instance", unplugged, lambda d, r: change_devices(d, DEVICES), has_devices),
    Verb("unplug", "Updating instance", plugged, lambda d, r: change_devices(d, {}), lambda d: not has_devices(d)),
)
IMPORT = Verb("import", "Importing image", no_image, import_image, lambda d: bool(records(d, "images")))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    sockets = set(Path("/tmp").glob("conmon-term.*"))
    daemon = Daemon(faults=True)
    try:
        image = tiny_image(tmp_path_factory.mktemp("image"))
        (daemon.directory / "tiny.tar").write_bytes(Path(image).read_bytes())
        daemon.start()
        yield daemon
    finally:
        daemon.close()
    assert set(Path("/tmp").glob("conmon-term.*")) <= sockets


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_step_of(verb: Verb, runtime: str, action: str, daemon: Daemon) -> None:
    if not records(daemon, "images"):
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    absent(daemon, runtime)
    walk(daemon, verb, runtime, action)
    absent(daemon, runtime)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_step_of_image_import(action: str, daemon: Daemon) -> None:
    absent(daemon, "runc")
    walk(daemon, IMPORT, "runc", action)
    no_image(daemon, "runc")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("verb", PLUGGING, ids=lambda verb: verb.name)
def test_every_step_of_plugging(verb: Verb, action: str, daemon: Daemon) -> None:
    if not records(daemon, "images"):
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    volumes = "/1.0/storage-pools/default/volumes/custom"
    daemon.inside("ip", "link", "add", "lan0", "up", "type", "bridge")
    try:
        daemon.run("POST", volumes, {"name": "data", "type": "custom"})
        absent(daemon, "crun")
        walk(daemon, verb, "crun", action, one_in=4 if action == "kill" else 2)
        absent(daemon, "crun")
        daemon.run("DELETE", f"{volumes}/data")
    finally:
        daemon.inside("ip", "link", "del", "lan0")


def walk(daemon: Daemon, verb: Verb, runtime: str, action: str, *, one_in: int = 1) -> None:
    """Learn the points of a clean run, then hit each of them in turn."""
    points = learn(daemon, verb, runtime)
    assert len(points) >= 4, points
    for number in chosen(len(points), max(one_in, 2) if action == "kill" else one_in):
        point = points[number]
        daemon.idle()
        verb.prepare(daemon, runtime)
        told = hit(daemon, verb, runtime, number, action)
        found = settled(daemon)
        assert not found, f"{action} at {point} ({told}): {found}"
        if action == "cancel":
            assert verb.always(daemon), f"{action} at {point} ({told}): it is not as it was"
        if told == "success":
            assert verb.acknowledged(daemon), f"{action} at {point}: acknowledged and lost"
    forget_orders(daemon)
    daemon.idle()
    verb.prepare(daemon, runtime)
    verb.act(daemon, runtime)
    assert verb.acknowledged(daemon)


def chosen(points: int, one_in: int) -> list[int]:
    """All, or some by chance: each kill takes a new daemon."""
    if one_in == 1 or WHOLE:
        return list(range(points))
    print(f"ISOLA_TEST_SEED={SEED}")
    return sorted(random.Random(SEED).sample(range(points), -(-points // one_in)))


def learn(daemon: Daemon, verb: Verb, runtime: str) -> list[str]:
    forget_orders(daemon)
    verb.prepare(daemon, runtime)
    log = daemon.directory / "points.log"
    log.write_text("")
    verb.act(daemon, runtime)
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    return [point for description, point in lines if description == verb.operation]


def hit(daemon: Daemon, verb: Verb, runtime: str, number: int, action: str) -> str:
    """Returns what the client was told: ``success``, the error's code, or ``killed``."""
    orders = daemon.directory / "orders.json.new"
    orders.write_text(json.dumps({"operation": verb.operation, "point": number, "action": action}))
    os.replace(orders, daemon.directory / "orders.json")
    told = "killed"
    with contextlib.suppress(OSError, http.client.HTTPException):
        try:
            verb.act(daemon, runtime)
            told = "success"
        except (AssertionError, ApiError) as error:
            told = str(error)
    forget_orders(daemon)
    if action == "kill":
        assert daemon.process is not None
        daemon.process.wait(30)
        daemon.start()
    return told


def forget_orders(daemon: Daemon) -> None:
    (daemon.directory / "orders.json").unlink(missing_ok=True)
