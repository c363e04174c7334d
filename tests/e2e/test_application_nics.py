"""NICs of instances without network configuration inside get their addresses, at start and while they run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from application_image import import_application
from daemon import Daemon


@pytest.fixture
def application(daemon: Daemon) -> Iterator[str]:
    """A running instance of an application image."""
    fingerprint = import_application(daemon, "app")
    daemon.launch("app1", "app")
    yield "app1"
    daemon.run("DELETE", "/1.0/instances/app1?force=1")
    daemon.run("DELETE", f"/1.0/images/{fingerprint}")


def test_addresses_are_set_by_the_daemon(daemon: Daemon, application: str) -> None:
    path = f"/1.0/instances/{application}"

    def shown(interface: str) -> str:
        status, out, said = daemon.exec(application, "/bin/busybox", "ip", "addr", "show", "dev", interface)
        assert status == 0, said
        return out

    assert daemon.get(path)["config"]["volatile.eth0.ipv4"] in shown("eth0")
    more = {"type": "nic", "network": "isolabr0", "name": "eth5"}
    daemon.run("PATCH", path, {"devices": {"eth5": more}})
    config = daemon.get(path)["config"]
    for key in ("volatile.eth5.ipv4", "volatile.eth5.ipv6", "volatile.eth5.hwaddr"):
        assert config[key] in shown("eth5"), key
    daemon.inside("ip", "link", "add", "own0", "up", "type", "bridge")
    try:
        more = {"type": "nic", "nictype": "bridged", "parent": "own0", "name": "eth6"}
        daemon.run("PATCH", path, {"devices": {"eth6": more}})
        assert "UP" in shown("eth6") and "inet6 fe80" in shown("eth6")
        daemon.run("PATCH", path, {"devices": {"eth6": {"type": "none"}}})
    finally:
        daemon.inside("ip", "link", "del", "own0")
