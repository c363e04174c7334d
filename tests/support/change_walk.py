"""Kills a daemon before changes of files in the course of a verb; host and records must agree afterwards."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
from collections.abc import Callable

from audit import settled
from daemon import ApiError, Daemon
from sampling import chosen
from step_walk import Verb

MOST = 2
"""Changes of each walk before which a run kills the daemon, unless it covers all."""
_MOVING = re.compile(r"(\d{3,}|[0-9a-f]{16,})")


def walk_changes(daemon: Daemon, verb: Verb, *, tidy: Callable[[Daemon], None] = lambda daemon: None) -> None:
    """Count the changes of a clean run, then kill the daemon before some of them.

    ``tidy`` removes what may stay after a kill until it is asked for, such as results of builds.
    """
    changes = changes_of(daemon, verb)
    assert len(changes) >= 4, changes
    for number in chosen(len(changes), (0, 1), MOST):
        daemon.idle()
        verb.prepare(daemon, "")
        result = _hit(daemon, verb, number)
        tidy(daemon)
        found = settled(daemon)
        assert not found, f"kill before {changes[number]} ({result}): {found}"
        if result == "success":
            assert verb.acknowledged(daemon), f"kill before {changes[number]}: acknowledged and lost"
    verb.prepare(daemon, "")
    verb.act(daemon, "")
    assert verb.acknowledged(daemon)


def changes_of(daemon: Daemon, verb: Verb) -> list[str]:
    """All changes of a clean run, without numbers and random names."""
    verb.prepare(daemon, "")
    log = daemon.directory / "changes.log"
    with contextlib.suppress(FileNotFoundError):
        os.truncate(log, 0)
    _order(daemon, -1)
    verb.act(daemon, "")
    _forget(daemon)
    return [_MOVING.sub("*", line) for line in log.read_text().splitlines()]


def _hit(daemon: Daemon, verb: Verb, number: int) -> str:
    """``success`` or ``broken``; the daemon runs again afterwards."""
    assert daemon.process is not None
    _order(daemon, number)
    result = "broken"
    with contextlib.suppress(OSError, http.client.HTTPException, AssertionError, ApiError):
        verb.act(daemon, "")
        result = "success"
    _forget(daemon)
    with contextlib.suppress(OSError, http.client.HTTPException):
        daemon.get("/1.0")
        if result == "success":
            return result  # it had fewer changes this time
    daemon.process.wait(60)
    daemon.start()
    return result


def _order(daemon: Daemon, number: int) -> None:
    place = daemon.directory / "changes.order"
    place.with_suffix(".new").write_text(str(number))
    os.replace(place.with_suffix(".new"), place)


def _forget(daemon: Daemon) -> None:
    (daemon.directory / "changes.order").unlink(missing_ok=True)
