"""One real daemon with a Debian 12 image for all end-to-end tests."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Generator, Iterator

import pytest
from application_image import import_application
from attempts import FAILED, attempt, shared_daemons
from command import Cli
from daemon import Daemon
from debian import debian_image
from incus_client import Incus
from lxc_client import Lxc
from tiny_daemon import tiny_daemon
from waiting import catches, until

collect_ignore = [] if shutil.which("incus") else ["test_incus_files.py", "test_incus_snapshots.py"]
"""Debian 12 has no package of incus."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """For ``second_attempt``."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


@pytest.fixture(autouse=True)
def second_attempt(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that failed leaves nothing in the way of the next attempt, or of the next test."""
    with attempt(request.node, shared_daemons(request)):
        yield


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with the images ``tiny`` and ``debian/12``."""
    with tiny_daemon(tmp_path_factory.mktemp("image")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def app(daemon: Daemon) -> Iterator[str]:
    """Alias of an application image, in the shared daemon."""
    fingerprint = import_application(daemon, "app")
    yield "app"
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


@pytest.fixture(scope="session")
def debian(daemon: Daemon) -> Daemon:
    """The daemon with a Debian 12 image too."""
    daemon.import_split(*debian_image(), "debian/12")
    return daemon


@pytest.fixture
def isola(daemon: Daemon) -> Cli:
    """The ``isola`` command."""
    return Cli(daemon)


@pytest.fixture
def instance(daemon: Daemon) -> Iterator[str]:
    """A running tiny instance for one test."""
    name = f"t{time.monotonic_ns() % 10**9}"
    daemon.launch(name)
    until(lambda: catches(daemon.pid(name), signal.SIGPWR))  # a request to stop is lost before
    yield name
    if name in {path.rpartition("/")[2] for path in daemon.get("/1.0/instances")}:
        daemon.run("DELETE", f"/1.0/instances/{name}?force=1")


@pytest.fixture(scope="module")
def lxc(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Lxc:
    """Debian's ``lxc``, without configuration."""
    return Lxc(daemon, tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def incus(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Incus:
    """The same with ``incus``."""
    return Incus(daemon, tmp_path_factory.mktemp("home"))
