"""kill -9 of the daemon: instances neither notice nor are lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit import settled
from daemon import Daemon
from tiny_daemon import tiny_daemon
from waiting import until

COUNT = 20


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Daemon]:
    """A separate daemon, to be killed."""
    with tiny_daemon(tmp_path) as daemon:
        yield daemon


def test_twenty_instances_keep_their_processes(own: Daemon) -> None:
    names = [f"n{number}" for number in range(COUNT)]
    operations = [
        own.start_operation(
            "POST", "/1.0/instances", {"name": name, "source": {"type": "image", "alias": "tiny"}, "start": True}
        )
        for name in names
    ]
    assert {own.wait(operation)["status"] for operation in operations} == {"Success"}
    before = {name: own.pid(name) for name in names}
    own.run("PUT", f"/1.0/instances/{names[3]}/state", {"action": "freeze"})
    own.kill()
    assert all(Path(f"/proc/{pid}").exists() for pid in before.values())
    own.start()
    assert {name: own.pid(name) for name in names} == before
    assert own.status(names[3]) == "Frozen"
    own.run("PUT", f"/1.0/instances/{names[3]}/state", {"action": "unfreeze"})
    for name in names:
        assert own.exec(name, "hostname")[:2] == (0, f"{name}\n")
    assert not settled(own)


def test_what_rebooted_meanwhile_runs_again(own: Daemon) -> None:
    """Also where an ephemeral instance did, which goes when it is stopped."""
    own.launch("reboots")
    own.launch("passing", ephemeral=True)
    before = {name: own.pid(name) for name in ("reboots", "passing")}
    for name in before:
        assert own.exec(name, "sh", "-c", "setsid sh -c 'sleep 1; reboot -f' >/dev/null 2>&1 &")[0] == 0
    own.kill()
    assert all(Path(f"/proc/{pid}").exists() for pid in before.values())
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in before.values()))
    own.start()
    until(lambda: all(own.status(name) == "Running" for name in before))
    assert all(own.pid(name) not in (0, pid) for name, pid in before.items())
    assert own.exec("reboots", "hostname")[:2] == (0, "reboots\n")
    assert not settled(own)


def test_ended_instances_are_noticed_and_stopped_ones_stay_stopped(own: Daemon) -> None:
    for name in ("stays", "ends", "stopped"):
        own.launch(name)
    own.change("stopped", "stop", force=True)
    pid = own.pid("ends")
    own.kill()
    import os

    os.kill(pid, 9)
    own.start()
    assert [own.status(name) for name in ("stays", "ends", "stopped")] == ["Running", "Stopped", "Stopped"]
    assert not settled(own)
    own.change("ends", "start")
    assert own.exec("ends", "true")[0] == 0


def test_a_changed_profile_keeps_networks_working_at_the_next_start(own: Daemon, tmp_path: Path) -> None:
    from isola.testing.images import tiny_image

    own.import_image(Path(tiny_image(tmp_path, "asking", dhcp=True)), "asking")
    names = ("one", "two", "three")
    for name in names:
        own.launch(name, "asking")

    def address(name: str) -> str:
        return own.exec(name, "ip", "-4", "-o", "addr", "show", "eth0")[1]

    for name in names:
        until(lambda name=name: "10." in address(name))  # type: ignore[misc]
    before = {name: address(name) for name in names}
    profile = own.get("/1.0/profiles/default")
    own.request("PUT", "/1.0/profiles/default", profile | {"config": {"limits.memory": "256MiB"}})
    own.stop()
    own.start()
    own.idle()
    assert {name: address(name) for name in names} == before
    assert not settled(own)
