"""``isola.hostname``: what a Debian system and a small one call themselves, where that is not their name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from command import Cli
from daemon import Daemon
from waiting import booted, until


@pytest.fixture
def system(debian: Daemon, isola: Cli) -> Iterator[str]:
    """A Debian system with a host name of its own."""
    isola("launch", "debian/12", "named", "-c", "isola.hostname=mail.example.org")
    booted(debian, "named")
    yield "named"
    isola("delete", "--force", "named", "renamed", check=False)


def said(daemon: Daemon, name: str) -> tuple[str, str]:
    """What the kernel and ``/etc/hostname`` say."""
    texts = [daemon.exec(name, "cat", path)[1].strip() for path in ("/proc/sys/kernel/hostname", "/etc/hostname")]
    return texts[0], texts[1]


def test_a_system_boots_with_it_and_gets_its_name_back(debian: Daemon, isola: Cli, system: str) -> None:
    assert said(debian, system) == ("mail.example.org", "mail.example.org")
    assert debian.exec(system, "hostname", "-f")[1].strip() == "mail.example.org"
    assert debian.exec(system, "hostnamectl", "--static")[1].strip() == "mail.example.org"
    isola("config", "set", system, "isola.hostname=other")
    assert said(debian, system)[0] == "mail.example.org"  # from its next start on
    debian.kill()
    debian.start()
    isola("restart", system)
    booted(debian, system)
    assert said(debian, system) == ("other", "other")
    isola("stop", system)
    isola("rename", system, "renamed")
    isola("start", "renamed")
    assert said(debian, "renamed") == ("other", "other")
    isola("config", "unset", "renamed", "isola.hostname")
    isola("restart", "--force", "renamed")
    booted(debian, "renamed")
    assert said(debian, "renamed") == ("renamed", "renamed")


def test_the_network_still_knows_it_by_its_name(debian: Daemon, system: str) -> None:
    gateway = debian.get("/1.0/networks/isolabr0")["config"]["ipv4.address"].partition("/")[0]
    address = debian.get(f"/1.0/instances/{system}")["config"]["volatile.eth0.ipv4"]

    def resolved() -> bool:
        found = debian.inside("busybox", "nslookup", f"{system}.isola", gateway, check=False).stdout
        return address in found

    until(resolved)


def test_impossible_ones_are_refused(isola: Cli, instance: str) -> None:
    for value in ("two words", "-mail", "a" * 65, "a..b", "../x", "mail\nroot"):
        refused = isola("config", "set", instance, f"isola.hostname={value}", check=False)
        assert refused.returncode != 0 and "host name" in refused.stderr, value
    isola("config", "set", instance, "isola.hostname=Mail-1.example.org")
    isola("restart", "--force", instance)
    assert isola("exec", instance, "--", "hostname").stdout == "Mail-1.example.org\n"
