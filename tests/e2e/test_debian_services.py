"""What services of a Debian system ask of the kernel and of the instance around them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from daemon import Daemon
from waiting import booted


@pytest.fixture(scope="module", params=["crun", "runc"])
def system(request: pytest.FixtureRequest, debian: Daemon) -> Iterator[str]:
    """A booted Debian system under each engine."""
    name = f"services-{request.param}"
    debian.launch(name, "debian/12", runtime=request.param)
    booted(debian, name)
    yield name
    debian.run("DELETE", f"/1.0/instances/{name}?force=1")


def run(daemon: Daemon, name: str, script: str) -> str:
    status, text, errors = daemon.exec(name, "bash", "-ec", script)
    assert status == 0, f"{status}: {text}{errors}"
    return text.strip()


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
