"""A real application: Flask and PostgreSQL from Debian's and PyPI's packages, built, run, interrupted and kept."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from application_packages import application_packages
from command import Cli
from daemon import Daemon
from debian import debian_image
from waiting import until

_SHOP = Path(__file__).parents[1] / "support" / "shop"
_URL = "http://127.0.0.1:18080"
_BUILDS = 600.0
"""Seconds that the builds of both images may take on a busy machine."""


class Shop:
    """``isola compose`` in a copy of the application's directory."""

    def __init__(self, daemon: Daemon, place: Path) -> None:
        self.daemon, self.place, self._isola = daemon, place, Cli(daemon)
        shutil.copytree(_SHOP, place, dirs_exist_ok=True)
        for name in ("db", "web"):
            for kind in (application_packages() / name).iterdir():
                shutil.copytree(kind, place / name / kind.name)
        (place / "password").write_text("s3cret\n")

    def __call__(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return self._isola("compose", *arguments, cwd=self.place, timeout=timeout)

    def ask(self, path: str, *options: str) -> str:
        """The answer through the published port; empty without one."""
        return self.daemon.inside("curl", "-sf", "-m", "20", *options, f"{_URL}{path}", check=False).stdout

    def answers(self) -> bool:
        return self.ask("/health") == "well\n"

    def up(self) -> None:
        """Until it answers."""
        self("up", "-d", timeout=_BUILDS)
        until(self.answers, 60)

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A new version of the web service. Secrets are files of a root, which another version does not have."""
        given = ("--env", "DB_PASSWORD=s3cret", "--timeout", "60", *arguments)
        return self._isola("deploy", str(self.place / "web"), "shop-web-1", *given, check=False, timeout=_BUILDS)

    @contextlib.contextmanager
    def asked(self) -> Iterator[list[str]]:
        """The answers of one client that asks again and again, each time on a new connection; empty: none."""
        found: list[str] = []
        done = threading.Event()

        def ask() -> None:
            while not done.wait(0.02):
                found.append(self.ask("/version").strip())

        asker = threading.Thread(target=ask)
        asker.start()
        try:
            yield found
        finally:
            done.set()
            asker.join()

    def left(self) -> list[str]:
        """Instances, networks and volumes of the application."""
        found = ("/1.0/instances", "/1.0/networks", "/1.0/storage-pools/default/volumes/custom")
        return [path for kind in found for path in self.daemon.get(kind) if "/shop" in path]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """With both images built by the first test."""
    daemon = Daemon()
    try:
        daemon.start()
        daemon.import_split(*debian_image(), "docker.io/library/debian:12")
        yield Shop(daemon, tmp_path_factory.mktemp("shop"))
    finally:
        daemon.close()


@pytest.mark.timeout(900)
def test_an_application_with_a_database_outlives_its_daemon_and_keeps_its_data(shop: Shop) -> None:
    shop.up()
    assert shop.ask("/orders", "-d", "tea") == "ordered\n"
    before = {name: shop.daemon.pid(name) for name in ("shop-db-1", "shop-web-1")}
    shop.daemon.kill()
    assert shop.ask("/orders", "-d", "coffee") == "ordered\n", "both services work without the daemon"
    shop.daemon.start()
    assert {name: shop.daemon.pid(name) for name in before} == before
    assert shop.ask("/orders") == "tea\ncoffee\n"
    assert shop("exec", "db", "id", "-un").stdout == "postgres\n"
    shop("down")
    assert [path.rpartition("/")[2] for path in shop.left()] == ["shop_data"]
    shop.up()
    assert shop.ask("/orders") == "tea\ncoffee\n", "the volume was kept"
    shop("down", "-v")
    assert shop.left() == []


@pytest.mark.timeout(900)
def test_a_new_version_takes_over_under_constant_requests_and_a_broken_one_never(shop: Shop) -> None:
    shop.up()
    shop.ask("/orders", "-d", "tea")
    source = shop.place / "web" / "shop.py"
    working = source.read_text()
    with shop.asked() as answers:
        done = shop.deploy("--env", "VERSION=two")
        assert done.returncode == 0, done.stderr
        until(lambda: answers[-1] == "two")
        source.write_text(working.replace('return "well\\n"', 'raise RuntimeError("broken")'))
        broken = shop.deploy("--env", "VERSION=three", "--timeout", "10")
        assert broken.returncode != 0
    assert set(answers) == {"one", "two"} and answers[-1] == "two", "no request has failed, none was answered by three"
    assert shop.ask("/orders") == "tea\n"
    assert [line.split()[0] for line in shop("ps", "--names").stdout.splitlines()] == ["shop-db-1", "shop-web-1"]
    shop("down", "-v")
    assert shop.left() == []
