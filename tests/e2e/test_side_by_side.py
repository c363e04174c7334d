"""Two daemons in different directories on one host and network: neither changes objects of the other."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from audit import settled
from daemon import Daemon

from isola.model.identity import HostNames
from isola.testing.images import tiny_image


def namesake(directory: Path) -> Path:
    """Another directory whose daemon would use the same names on the host."""
    wanted = HostNames.of_directory(str(directory))
    names = (f"{directory.parent}/isola-twin-{directory.name}-{number}" for number in itertools.count())
    return Path(next(name for name in names if HostNames.of_directory(name) == wanted))


@contextmanager
def two(scratch: Path, beside: Callable[[Path], Path | None]) -> Iterator[tuple[Daemon, ...]]:
    """Two daemons with the image ``tiny``; ``beside`` chooses the directory of the second."""
    image = Path(tiny_image(scratch))
    first = Daemon()
    try:
        second = Daemon(beside=first, directory=beside(first.directory))
        try:
            for daemon in (first, second):
                daemon.start()
                daemon.import_image(image, "tiny")
            yield first, second
        finally:
            second.close()
    finally:
        first.close()


@pytest.fixture
def namesakes(tmp_path: Path) -> Iterator[tuple[Daemon, ...]]:
    with two(tmp_path, namesake) as daemons:
        yield daemons


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Daemon, ...]]:
    with two(tmp_path, lambda directory: None) as daemons:
        yield daemons


def assert_one_goes_alone(first: Daemon, second: Daemon) -> None:
    """Delete the first daemon's instance; that of the second must keep running."""
    first.run("DELETE", "/1.0/instances/twin?force=1")
    assert second.exec("twin", "hostname")[:2] == (0, "twin\n")
    assert not settled(first)
    assert not settled(second)


def test_equal_names_in_both_are_different_objects(pair: tuple[Daemon, Daemon]) -> None:
    for daemon in pair:
        daemon.launch("twin")
    pids = [daemon.pid("twin") for daemon in pair]
    assert pids[0] != pids[1]
    owners = [Path(f"/proc/{pid}").stat().st_uid for pid in pids]
    assert abs(owners[0] - owners[1]) >= 65536
    subnets = [daemon.get("/1.0/networks/isolabr0")["config"]["ipv4.address"] for daemon in pair]
    assert subnets[0] != subnets[1]
    first, second = pair
    assert_one_goes_alone(first, second)


def test_daemons_with_the_same_tag_have_different_objects(namesakes: tuple[Daemon, Daemon]) -> None:
    first, second = namesakes
    assert first.names != second.names
    for daemon in namesakes:
        daemon.launch("twin")
    second.kill()
    second.start()
    assert_one_goes_alone(first, second)


def test_each_claims_its_ids_for_as_long_as_it_has_an_instance(pair: tuple[Daemon, Daemon]) -> None:
    first, second = pair
    for daemon in pair:
        daemon.run("POST", "/1.0/instances", {"name": "idle", "source": {"type": "image", "alias": "tiny"}})
        daemon.launch("busy")
    claims = {daemon: holdings(daemon) for daemon in pair}
    assert [len(each) for each in claims.values()] == [2, 2]
    assert not claims[first] & claims[second]
    first.kill()
    first.start()
    assert holdings(first) == claims[first]
    for name in ("idle", "busy"):
        first.run("DELETE", f"/1.0/instances/{name}?force=1")
    assert holdings(first) == set()
    assert holdings(second) == claims[second]


def holdings(daemon: Daemon) -> set[int]:
    return {base for base, holder in daemon.id_claims().items() if holder.startswith(f"{daemon.directory}/")}


def test_the_start_and_the_end_of_one_leaves_the_other_alone(pair: tuple[Daemon, Daemon]) -> None:
    first, second = pair
    for daemon in pair:
        daemon.launch("stays")
    pid = second.pid("stays")
    first.kill()
    first.start()
    assert second.pid("stays") == pid
    first.stop(instances=True)
    assert second.exec("stays", "true")[0] == 0
    assert not settled(second)
    first.start()
    assert first.status("stays") == "Running", "instances that ran before the shutdown are started again"
