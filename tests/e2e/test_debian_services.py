"""Services of a Debian system that need certain features of the kernel and of the instance."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from daemon import Daemon
from debian import debian_image
from sampling import WHOLE
from waiting import booted

RELEASES = ("12", "13", "11") if WHOLE else ("12",)
"""Each of the others takes minutes to build."""


@pytest.fixture(scope="module", params=[f"{release} {engine}" for release in RELEASES for engine in ("crun", "runc")])
def system(request: pytest.FixtureRequest, debian: Daemon) -> Iterator[str]:
    """A booted Debian system under each engine."""
    release, engine = request.param.split()
    alias, name = f"debian/{release}", f"services-{release}-{engine}"
    if f"/1.0/images/aliases/{alias}" not in debian.get("/1.0/images/aliases"):
        debian.import_split(*debian_image(alias), alias)
    debian.launch(name, alias, runtime=engine)
    booted(debian, name)
    yield name
    debian.run("DELETE", f"/1.0/instances/{name}?force=1")


def run(daemon: Daemon, name: str, script: str) -> str:
    status, text, errors = daemon.exec(name, "bash", "-ec", script)
    assert status == 0, f"{status}: {text}{errors}"
    return text.strip()


def test_it_boots_without_failed_units(debian: Daemon, system: str) -> None:
    assert run(debian, system, "systemctl is-system-running") == "running"
    assert run(debian, system, "systemctl --failed --no-legend --plain") == ""


def test_credentials_reach_a_service_and_no_other_user(debian: Daemon, system: str) -> None:
    service = "systemd-run --quiet --wait --pipe -p DynamicUser=yes"
    run(debian, system, "echo loaded > /root/secret && chmod 600 /root/secret")
    read = "sh -c 'cat $CREDENTIALS_DIRECTORY/word'"
    assert run(debian, system, f"{service} -p LoadCredential=word:/root/secret {read}") == "loaded"
    assert run(debian, system, f"{service} -p SetCredential=word:given {read}") == "given"


def test_mounts_of_the_instance_propagate_within_it_and_not_to_the_host(debian: Daemon, system: str) -> None:
    assert run(debian, system, "findmnt -n -o PROPAGATION /") == "shared"
    run(debian, system, "mkdir -p /srv/disk && mount -t tmpfs isola-propagation /srv/disk")
    assert run(debian, system, "systemd-run --quiet --wait --pipe -p PrivateTmp=yes findmnt -n -o SOURCE /srv/disk")
    with open("/proc/self/mountinfo") as table:
        assert "isola-propagation" not in table.read()
    run(debian, system, "umount /srv/disk")


def test_rare_sockets_and_keyrings_are_refused_and_common_ones_work(debian: Daemon, system: str) -> None:
    numbers = {"x86_64": (41, 250), "aarch64": (198, 219)}
    socket, keyctl = numbers[os.uname().machine]
    call = "my @a = map { $_ + 0 } @ARGV; my $r = syscall($a[0], $a[1], $a[2], $a[3]); print $r < 0 ? $!+0 : 0"
    for family, error in ((1, 0), (2, 0), (10, 0), (16, 0), (21, 97), (30, 97), (38, 97), (40, 97), (44, 97)):
        kind = 3 if family == 16 else 1
        assert run(debian, system, f"perl -e '{call}' {socket} {family} {kind} 0") == str(error), family
    hidden = (1 << 32) + 40
    assert run(debian, system, f"perl -e '{call}' {socket} {hidden} 5 0") == "97"
    assert run(debian, system, f"perl -e '{call}' {keyctl} 0 -3 0") == "38"
    assert run(debian, system, "systemctl is-system-running") == "running"
    assert run(debian, system, "systemd-run --quiet --wait --pipe -p KeyringMode=private echo fine") == "fine"


def test_logind_answers_once_its_pam_module_is_installed(debian: Daemon, system: str) -> None:
    ask = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager ListSessions"
    assert debian.exec(system, "sh", "-c", ask)[0] != 0
    # Like dpkg when it unpacks libpam-systemd; no mirror is available here.
    run(debian, system, "touch $(echo /usr/lib/*/security)/pam_systemd.so && dpkg --triggers-only -a")
    assert run(debian, system, ask).startswith("a(susso)")
    assert run(debian, system, "systemctl is-active systemd-logind") == "active"
