"""Debian packages are installed from the repositories in this machine's apt configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.images.debian_mirror import lines, sources
from isola.testing.host import fake_host
from isola.testing.processes import Call
from isola.testing.system import FakeSystem

MAIN = "http://apt.example/debian/|bookworm|main|Debian"
UPDATES = "http://apt.example/debian/|bookworm-updates|main|Debian"
SECURITY = "http://apt.example/debian-security/|bookworm-security|main|Debian"
LISTED = "\n".join([MAIN, "http://apt.example/debian/|bookworm|contrib|Debian", UPDATES, SECURITY])


@pytest.mark.parametrize("suite", ["bullseye", "bookworm", "trixie"])
def test_every_release_comes_from_the_same_repositories(suite: str) -> None:
    assert lines(LISTED, suite) == (
        f"deb http://apt.example/debian/ {suite} main",
        f"deb http://apt.example/debian/ {suite}-updates main",
        f"deb http://apt.example/debian-security/ {suite}-security main",
    )


def test_sid_has_no_updates_beside_it() -> None:
    assert lines(LISTED, "sid") == ("deb http://apt.example/debian/ sid main",)


@pytest.mark.parametrize("release", ["stable", "oldstable", "oldoldstable", "testing", "unstable", "sid"])
def test_repositories_may_name_the_release_stable_or_testing(release: str) -> None:
    assert lines(f"http://apt.example/debian/|{release}|main|Debian", "bookworm") == (
        "deb http://apt.example/debian/ bookworm main",
    )


def test_the_first_of_several_mirrors_is_used() -> None:
    assert lines(f"{MAIN}\n{MAIN.replace('apt.', 'other.')}", "sid") == ("deb http://apt.example/debian/ sid main",)


def test_before_the_first_update_the_origin_is_unknown() -> None:
    assert lines(MAIN.removesuffix("Debian"), "sid") == ("deb http://apt.example/debian/ sid main",)


@pytest.mark.parametrize(
    "listed",
    [
        "",
        UPDATES,
        SECURITY,
        "nonsense",
        "|||",
        MAIN.replace("main", "contrib"),
        MAIN.replace("|Debian", "|Docker"),
        MAIN.replace("|bookworm|", "|noble|"),
        MAIN.replace("http://", "cdrom:"),
        MAIN.replace("http://", "file:///"),
        MAIN.replace("http://apt", "http://user:secret@apt"),
        MAIN.replace("example/", "example/ [trusted=yes] "),
        MAIN.replace("apt.example", ""),
    ],
)
def test_other_repositories_are_ignored(listed: str) -> None:
    assert lines(listed, "bookworm") == ()


async def test_apt_is_queried_if_installed() -> None:
    async def apt_get(call: Call) -> int:
        assert call.argv[1] == "indextargets"
        call.out(LISTED.encode())
        return 0

    host = fake_host(programs={"apt-get": apt_get}, system=FakeSystem(programs={"apt-get": Path("/usr/bin/apt-get")}))
    assert len(await sources(host, "bookworm")) == 3
    assert await sources(fake_host(), "bookworm") == ()


async def test_a_failing_apt_does_not_prevent_a_build() -> None:
    async def broken(call: Call) -> int:
        return 100

    program = {"apt-get": Path("/usr/bin/apt-get")}
    for programs in ({"apt-get": broken}, {}):
        assert await sources(fake_host(programs=programs, system=FakeSystem(programs=program)), "bookworm") == ()
