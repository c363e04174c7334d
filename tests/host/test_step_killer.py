"""A failure, cancellation and kill at every step of every verb; host and records must agree afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from audit import records
from command import Cli
from daemon import Daemon
from sampling import SEED, WHOLE
from step_walk import ACTIONS, Verb, absent, create, has_victim, no_image, running, runs, stopped, walk, walked_daemon
from waiting import until

RUNTIMES = ("runc", "crun")


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with walked_daemon(tmp_path_factory.mktemp("image")) as daemon:
        yield daemon


def absent_and_packed(daemon: Daemon, runtime: str) -> None:
    """Neither the instance nor the unpacked layer that its root will use."""
    absent(daemon, runtime)
    no_image(daemon, runtime)
    daemon.import_image(daemon.directory / "tiny.tar", "tiny")


def import_image(daemon: Daemon, runtime: str) -> None:
    headers = {"Content-Type": "application/octet-stream", "X-LXD-filename": "tiny.tar"}
    daemon.run("POST", "/1.0/images", (daemon.directory / "tiny.tar").read_bytes(), headers=headers)


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


def ends(daemon: Daemon, runtime: str) -> None:
    """Its first process is killed; the daemon cleans up by itself, also after failures."""
    os.kill(daemon.pid("victim"), signal.SIGKILL)
    until(lambda: daemon.status("victim") == "Stopped", 20)


def passing(daemon: Daemon, runtime: str) -> None:
    """It runs, and is gone with its run."""
    absent(daemon, runtime)
    source = {"type": "image", "alias": "tiny"}
    asked = {"name": "victim", "source": source, "runtime": runtime, "ephemeral": True, "start": True}
    daemon.run("POST", "/1.0/instances", asked)


def passes(daemon: Daemon, runtime: str) -> None:
    """Its files go after its record."""
    os.kill(daemon.pid("victim"), signal.SIGKILL)
    until(lambda: daemon.get("/1.0/instances") == [] and not _has_roots(daemon), 20)
    daemon.idle()


def _has_roots(daemon: Daemon) -> bool:
    return any((daemon.directory / "pools/default/volumes").iterdir())


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
    Verb("end", "Cleaning up after instance", running, ends, lambda d: not runs(d)),
    Verb("pass", "Cleaning up after instance", passing, passes, lambda d: not has_victim(d)),
    Verb("files", "Removing files of an instance", passing, passes, lambda d: not has_victim(d)),
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


def uncommitted(daemon: Daemon, runtime: str) -> None:
    """A running instance, and no image that was made of it."""
    running(daemon, runtime)
    for fingerprint, image in records(daemon, "images").items():
        if image["source"].get("instance"):
            daemon.run("DELETE", f"/1.0/images/{image.get('fingerprint', fingerprint)}")


def commit(daemon: Daemon, runtime: str) -> None:
    body = {"source": {"type": "instance", "name": "victim"}, "aliases": [{"name": "committed"}]}
    daemon.run("POST", "/1.0/images", body, headers={"Content-Type": "application/json"})


def has_committed(daemon: Daemon) -> bool:
    return any(image["source"].get("instance") == "victim" for image in records(daemon, "images").values())


def load(daemon: Daemon, runtime: str) -> None:
    data = (daemon.directory / "saved.tar").read_bytes()
    daemon.run("POST", "/1.0/images", data, headers={"Content-Type": "application/octet-stream"})


WALKS = [
    (verb, action, runtime)
    for number, verb in enumerate(VERBS)
    for runtime in (RUNTIMES if WHOLE else [RUNTIMES[(number + SEED) % len(RUNTIMES)]])
    for action in ACTIONS
]
"""Each run walks the steps of a verb with one of the runtimes, unless all are asked for."""
COMMIT = Verb("commit", "Creating image from instance", uncommitted, commit, has_committed, always=runs)
LOAD = Verb("load", "Loading images", no_image, load, lambda d: bool(records(d, "images")))
IMPORT = Verb("import", "Importing image", no_image, import_image, lambda d: bool(records(d, "images")))


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("verb", "action", "runtime"), WALKS, ids=lambda part: getattr(part, "name", part))
def test_every_step_of(verb: Verb, action: str, runtime: str, daemon: Daemon) -> None:
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
def test_every_step_of_commit(action: str, daemon: Daemon) -> None:
    if not records(daemon, "images"):
        daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    absent(daemon, "runc")
    walk(daemon, COMMIT, "runc", action)
    absent(daemon, "runc")
    no_image(daemon, "runc")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("action", ACTIONS)
def test_every_step_of_loading_images(action: str, daemon: Daemon) -> None:
    absent(daemon, "runc")
    no_image(daemon, "runc")
    daemon.import_image(daemon.directory / "tiny.tar", "tiny")
    Cli(daemon)("image", "export", "tiny", str(daemon.directory / "saved.tar"), "--oci")
    walk(daemon, LOAD, "runc", action)
    no_image(daemon, "runc")
