"""What a test that failed has left in a daemon that others use, too: its second attempt starts without it."""

from __future__ import annotations

import contextlib
import http.client
import json
import sqlite3
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from daemon import ApiError, Daemon

_ORDER = ("instances", "images", "aliases", "volumes", "networks", "profiles", "pools", "projects")
"""Those that use others come first."""
FAILED = pytest.StashKey[bool]()


def shared_daemons(request: pytest.FixtureRequest) -> list[Daemon]:
    """Of the fixtures that are there for more than this test."""
    found: list[Daemon] = []
    known: dict[str, Any] = request.node._fixtureinfo.name2fixturedefs
    for name in request.fixturenames:
        if name in known and known[name][-1].scope != "function":
            value = request.getfixturevalue(name)
            daemon = getattr(value, "daemon", value)
            if isinstance(daemon, Daemon) and daemon not in found:
                found.append(daemon)
    return found


@contextlib.contextmanager
def attempt(item: pytest.Item, daemons: list[Daemon]) -> Iterator[None]:
    """If it fails, what it has made is removed, and a daemon that it has stopped is started."""
    item.stash[FAILED] = False
    before = [(daemon, _addresses(daemon), set(daemon.links())) for daemon in daemons]
    yield
    if item.stash[FAILED]:
        for daemon, kept, links in before:
            _clean(daemon, kept, links)


def _clean(daemon: Daemon, kept: dict[str, str], links: set[str]) -> None:
    if daemon.process is None or daemon.process.poll() is not None:
        daemon.start()
    made = {key: address for key, address in _addresses(daemon).items() if key not in kept}
    for key in sorted(made, key=lambda key: _ORDER.index(key.split("/")[1])):
        with contextlib.suppress(ApiError, AssertionError, OSError, http.client.HTTPException):
            daemon.run("DELETE", made[key])
    for link in set(daemon.links()) - links:
        daemon.inside("ip", "link", "delete", link, check=False)


def _addresses(daemon: Daemon) -> dict[str, str]:
    """Key of a record -> the address at which it is deleted."""
    database = sqlite3.connect(f"file:{daemon.directory}/isola.db?mode=ro", uri=True)
    try:
        rows = database.execute("SELECT key, value FROM entries").fetchall()
    finally:
        database.close()
    return {key: _address(key, value) for key, value in rows if key.split("/")[1] in _ORDER}


def _address(key: str, value: bytes) -> str:
    _, noun, *rest = key.split("/")
    project, name = unquote(rest[-2]) if len(rest) > 1 else "default", quote(unquote(rest[-1]), safe="")
    within = f"?project={quote(project, safe='')}"
    match noun:
        case "instances":
            return f"/1.0/instances/{name}{within}&force=1"
        case "images":
            return f"/1.0/images/{json.loads(value)['fingerprint']}{within}"
        case "aliases":
            return f"/1.0/images/aliases/{name}{within}"
        case "volumes":
            return f"/1.0/storage-pools/{rest[0]}/volumes/{rest[1]}/{name}{within}"
        case "pools":
            return f"/1.0/storage-pools/{name}"
    return f"/1.0/{noun}/{name}{within}"
