"""The daemon runs out of descriptors during a creation; when there are some again, it completes the rollback."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import differences, records
from daemon import Connection, Daemon
from tiny_daemon import tiny_daemon
from waiting import until

A_WHILE = 20.0
WANTED = {"name": "half", "source": {"type": "image", "alias": "tiny"}}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with tiny_daemon(tmp_path, faults=True) as own:
        own.launch("before")
        yield own


def create(daemon: Daemon, point: int) -> str:
    """The result of a creation if the daemon has no descriptors from that point on."""
    assert daemon.process is not None
    before = resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE)
    connection = Connection(daemon.socket, 60)
    try:
        orders = daemon.directory / "orders.json.new"
        orders.write_text(json.dumps({"operation": "Creating instance", "point": point, "action": "starve"}))
        orders.rename(daemon.directory / "orders.json")
        connection.request("POST", "/1.0/instances", json.dumps(WANTED))
        path = json.loads(connection.getresponse().read())["operation"]
        connection.request("GET", f"{path}/wait?timeout=30")
        ended = json.loads(connection.getresponse().read())["metadata"]
        return str(ended["err"] or ended["status"])
    finally:
        resource.prlimit(daemon.process.pid, resource.RLIMIT_NOFILE, before)
        connection.close()
        (daemon.directory / "orders.json").unlink()


def left(daemon: Daemon) -> list[str]:
    """Surplus objects, including id claims and intents."""
    ids = {record["id"] for record in records(daemon, "instances").values()}
    claims = [holder.rpartition("/")[2] for holder in daemon.id_claims().values() if str(daemon.directory) in holder]
    return [*differences(daemon), *(id for id in claims if id not in ids), *records(daemon, "intents")]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_creation_is_rolled_back_once_descriptors_are_free(restarted: bool, daemon: Daemon) -> None:
    result = ""
    for point in range(2 if restarted else 1, 100, 3):
        result = create(daemon, point)
        if result == "Success":
            break
        assert "Internal error" not in result, f"at point {point}: {result}"
        if restarted:
            daemon.kill()
            daemon.start()
            assert not left(daemon), f"at point {point}"
        else:
            until(lambda: not left(daemon), A_WHILE)
    assert result == "Success"
    assert "Could not undo" in daemon.log.read_text(), "everything was rolled back at once: the test shows nothing"
    assert daemon.status("before") == "Running"
