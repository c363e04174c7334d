"""What sandboxes and microVMs have in memory is kept by stops and snapshots, by Debian's client and by ours."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from application_daemon import application_daemon
from command import Cli
from daemon import Daemon
from lxc_client import Lxc
from waiting import until

COUNTS = "i=0; while :; do i=$((i+1)); echo $i >> /srv/count; sleep 0.05; done"
SECONDS = 120


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with application_daemon(tmp_path_factory.mktemp("memory")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def lxc(own: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    return Lxc(own, tmp_path_factory.mktemp("home"))


def counted(own: Daemon, name: str) -> int:
    return last(own.exec(name, "cat", "/srv/count")[1])


def last(text: str) -> int:
    return int(([each for each in text.splitlines(keepends=True) if each.endswith("\n")] or ["0"])[-1])


@pytest.mark.parametrize("isolation", ["sandbox", "microvm"])
def test_a_counter_goes_on(own: Daemon, lxc: Lxc, isolation: str) -> None:
    name, isola = f"counts-{isolation}", Cli(own)
    program = {"entrypoint": [""], "arguments": ["/bin/sh", "-c", COUNTS]}
    body = {"name": name, "source": {"type": "image", "alias": "app"}, "isolation": isolation, "program": program}
    more = {"start": True, "terminal": False, "config": {"limits.memory": "256MiB"}}
    own.run("POST", "/1.0/instances", body | more)
    until(lambda: counted(own, name) > 3, SECONDS)
    lxc("snapshot", name, "then", "--stateful")
    then = counted(own, name)
    until(lambda: counted(own, name) > then + 2, SECONDS)
    assert own.get(f"/1.0/instances/{name}/snapshots/then")["stateful"]
    assert own.status(name) == "Running"

    lxc("stop", name, "--stateful")
    found = own.get(f"/1.0/instances/{name}")
    assert (found["status"], found["stateful"]) == ("Stopped", True)
    kept = last(isola("file", "pull", f"{name}/srv/count", "-").stdout)
    own.kill()
    own.start()
    assert own.get(f"/1.0/instances/{name}")["stateful"]
    lxc("start", name)
    until(lambda: counted(own, name) > kept, SECONDS)
    seen = [int(each) for each in own.exec(name, "cat", "/srv/count")[1].split()]
    assert seen == list(range(1, len(seen) + 1)), "each number once"
    assert not own.get(f"/1.0/instances/{name}")["stateful"]

    until(lambda: counted(own, name) > kept + 4, SECONDS)
    lxc("restore", name, "then", "--stateful")
    again = counted(own, name)
    assert 3 < again <= kept + 4
    until(lambda: counted(own, name) > again, SECONDS)
    assert "yes" in isola("snapshot", "list", name).stdout
    isola("snapshot", "delete", name, "then")
    assert not list((own.directory / "snapshot-states").iterdir())
    assert not list((own.directory / "states").iterdir())
