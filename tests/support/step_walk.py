"""Injects a failure, cancellation or kill at each step of a verb; host and records must agree afterwards."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from audit import records, settled
from daemon import ApiError, Daemon
from sampling import Share, chosen

from isola.testing.images import tiny_image

ACTIONS = ("fail", "cancel", "kill")
MOST = 1
"""Points of each walk that a run covers, unless it covers all: so three of each verb, as there are three actions."""
_LEARNED: dict[tuple[str, str, str], list[str]] = {}
"""Directory of a daemon, verb and runtime -> points."""
ISOLATIONS = {"runsc": "sandbox", "qemu_microvm": "microvm"}
"""Of runtimes that do not run containers."""


@dataclass(frozen=True)
class Verb:
    """One verb: precondition, request, and description of its operation."""

    name: str
    operation: str | None
    """None: of all operations that it starts."""
    prepare: Callable[[Daemon, str], None]
    act: Callable[[Daemon, str], object]
    acknowledged: Callable[[Daemon], bool]
    """Whether the records show that it was done."""
    always: Callable[[Daemon], bool] = lambda daemon: True
    """A condition that is also true after a cancellation."""
    fewest: int = 4
    """Points that it has at least."""


@contextlib.contextmanager
def walked_daemon(scratch: Path) -> Iterator[Daemon]:
    """A daemon with fault injection and an image, which is created in ``scratch``."""
    sockets = scratch / "sockets"
    sockets.mkdir()
    daemon = Daemon(faults=True, environment={"TMPDIR": str(sockets)})
    try:
        (daemon.directory / "tiny.tar").write_bytes(tiny_image(scratch).read_bytes())
        daemon.start()
        yield daemon
    finally:
        daemon.close()
    assert os.listdir(sockets) == []


def absent(daemon: Daemon, runtime: str) -> None:
    if "victim" in records(daemon, "instances"):
        daemon.run("DELETE", "/1.0/instances/victim?force=1")


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
    wall = {"isolation": ISOLATIONS[runtime]} if runtime in ISOLATIONS else {}
    daemon.run("POST", "/1.0/instances", {"name": "victim", "source": source, "runtime": runtime} | wall)


def no_image(daemon: Daemon, runtime: str) -> None:
    for fingerprint in records(daemon, "images"):
        daemon.run("DELETE", f"/1.0/images/{fingerprint}")


def has_victim(daemon: Daemon) -> bool:
    record = records(daemon, "instances").get("victim")
    return record is not None and record["desired"] != "deleted"


def runs(daemon: Daemon) -> bool:
    return has_victim(daemon) and records(daemon, "instances")["victim"]["desired"] == "running"


def walk(
    daemon: Daemon,
    verb: Verb,
    runtime: str,
    action: str,
    share: Share | None = None,
    *,
    tidy: Callable[[Daemon], None] = lambda daemon: None,
) -> None:
    """Record the points of a clean run, once for all actions, then inject the fault at each of them.

    A point that is not walked whole has one of the actions, unless a share of the points is given.
    ``tidy`` removes what may stay until it is asked for, such as results of builds.
    """
    place = (str(daemon.directory), verb.name, runtime)
    points = _LEARNED[place] = _LEARNED.get(place) or learn(daemon, verb, runtime)
    assert len(points) >= verb.fewest, points
    for number in chosen(len(points), share or (ACTIONS.index(action), len(ACTIONS)), MOST):
        point = points[number]
        daemon.idle()
        verb.prepare(daemon, runtime)
        result = hit(daemon, verb, runtime, number, action)
        tidy(daemon)
        found = settled(daemon)
        assert not found, f"{action} at {point} ({result}): {found}"
        if action == "cancel":
            assert verb.always(daemon), f"{action} at {point} ({result}): the state differs from before"
        if result == "success":
            assert verb.acknowledged(daemon), f"{action} at {point}: acknowledged and lost"
    forget_orders(daemon)
    daemon.idle()
    verb.prepare(daemon, runtime)
    verb.act(daemon, runtime)
    assert verb.acknowledged(daemon)


def learn(daemon: Daemon, verb: Verb, runtime: str) -> list[str]:
    forget_orders(daemon)
    verb.prepare(daemon, runtime)
    log = daemon.directory / "points.log"
    log.write_text("")
    verb.act(daemon, runtime)
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    return [point for description, point in lines if verb.operation in (None, description)]


def hit(daemon: Daemon, verb: Verb, runtime: str, number: int, action: str) -> str:
    """Returns the result that the client received: ``success``, the error's code, or ``killed``."""
    orders = daemon.directory / "orders.json.new"
    orders.write_text(json.dumps({"operation": verb.operation, "point": number, "action": action}))
    os.replace(orders, daemon.directory / "orders.json")
    result = "killed"
    with contextlib.suppress(OSError, http.client.HTTPException):
        try:
            verb.act(daemon, runtime)
            result = "success"
        except (AssertionError, ApiError) as error:
            result = str(error)
    forget_orders(daemon)
    if action == "kill":
        assert daemon.process is not None
        daemon.process.wait(60)
        daemon.start()
    return result


def forget_orders(daemon: Daemon) -> None:
    (daemon.directory / "orders.json").unlink(missing_ok=True)
