"""A Debian system as new users launch it."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import ApiError, Daemon
from waiting import booted, until


@pytest.fixture(scope="module")
def pair(debian: Daemon) -> Iterator[tuple[str, str]]:
    """Two Debian system containers on the default network, both with an address."""
    for name in ("alpha", "beta"):
        debian.launch(name, "debian/12")
    for name in ("alpha", "beta"):
        until(lambda name=name: "10." in debian.exec(name, "ip", "-4", "addr", "show", "eth0")[1])  # type: ignore[misc]
        booted(debian, name)
    yield "alpha", "beta"
    for name in ("alpha", "beta"):
        debian.run("DELETE", f"/1.0/instances/{name}?force=1")


def test_systemd_is_running(debian: Daemon, pair: tuple[str, str]) -> None:
    for name in pair:
        status, text, _ = debian.exec(name, "systemctl", "is-system-running")
        assert (status, text.strip()) == (0, "running"), debian.exec(name, "systemctl", "--failed")[1]


def test_root_inside_is_unprivileged_outside(debian: Daemon, pair: tuple[str, str]) -> None:
    assert debian.exec(pair[0], "id", "-u")[1].strip() == "0"
    pids = [debian.pid(name) for name in pair]
    uids = [int(Path(f"/proc/{pid}/status").read_text().split("Uid:")[1].split()[0]) for pid in pids]
    assert min(uids) >= 65536
    assert abs(uids[0] - uids[1]) >= 65536
    maps = [Path(f"/proc/{pid}/uid_map").read_text().split() for pid in pids]
    assert [int(fields[2]) for fields in maps] == [65536, 65536]


def test_two_instances_reach_each_other_by_name(debian: Daemon, pair: tuple[str, str]) -> None:
    for here, there in (pair, pair[::-1]):
        until(lambda here=here, there=there: debian.exec(here, "ping", "-c1", "-w20", there)[0] == 0)  # type: ignore[misc]
        status, text, errors = debian.exec(here, "ping", "-4", "-c1", "-w20", there)
        assert status == 0, text + errors
        until(lambda here=here, there=there: debian.exec(here, "ping", "-6", "-c1", "-w20", there)[0] == 0)  # type: ignore[misc]


def test_other_networks_are_reached_through_nat(debian: Daemon, pair: tuple[str, str]) -> None:
    outside = f"{debian.netns}-out"
    subprocess.run(["ip", "netns", "add", outside], check=True)
    server = None
    try:
        debian.inside("ip", "link", "add", "up0", "type", "veth", "peer", "name", "out0", "netns", outside)
        debian.inside("ip", "addr", "add", "198.51.100.1/24", "dev", "up0")
        debian.inside("ip", "link", "set", "up0", "up")
        enter = ["nsenter", f"--net=/run/netns/{outside}"]
        for arguments in ("addr add 198.51.100.2/24 dev out0", "link set out0 up", "link set lo up"):
            subprocess.run([*enter, "ip", *arguments.split()], check=True)
        program = (
            "import socket; s = socket.create_server(('198.51.100.2', 8080)); c, a = s.accept();"
            "c.sendall(a[0].encode()); c.close()"
        )
        server = subprocess.Popen([*enter, "/usr/bin/python3", "-c", program])
        script = "exec 3<>/dev/tcp/198.51.100.2/8080 && cat <&3"
        until(lambda: Path(f"/proc/{server.pid}/net/tcp").read_text().count(":1F90") > 0)
        status, seen, errors = debian.exec(pair[0], "bash", "-c", script)
        assert status == 0, errors
        assert seen == "198.51.100.1", "the server must see the daemon's host, not the instance"
    finally:
        if server is not None:
            server.kill()
            server.wait()
        subprocess.run(["nsenter", f"--net=/run/netns/{debian.netns}", "ip", "link", "del", "up0"], check=False)
        subprocess.run(["ip", "netns", "del", outside], check=True)


def test_of_several_networks_the_first_has_the_default_route(debian: Daemon, pair: tuple[str, str]) -> None:
    debian.run("POST", "/1.0/networks", {"name": "side"})
    debian.run("PATCH", f"/1.0/instances/{pair[0]}", {"devices": {"eth1": {"type": "nic", "network": "side"}}})
    for family, beginning in (("-4", "default via 10."), ("-6", "default via fe80")):

        def both(family: str = family) -> bool:
            return debian.exec(pair[0], "ip", family, "route", "show", "default")[1].count("default") == 2

        until(both, 30)
        ways = debian.exec(pair[0], "ip", family, "route", "show", "default")[1].splitlines()
        assert ways[0].startswith(beginning) and "dev eth0" in ways[0] and "metric 1024" in ways[0], ways
        assert "dev eth1" in ways[1] and "metric 1025" in ways[1], ways
    devices = {name: one for name, one in debian.get(f"/1.0/instances/{pair[0]}")["devices"].items() if name != "eth1"}
    debian.run("PUT", f"/1.0/instances/{pair[0]}", {"devices": devices, "profiles": ["default"]})
    debian.run("DELETE", "/1.0/networks/side")


def test_a_reboot_from_inside_restarts(debian: Daemon, pair: tuple[str, str]) -> None:
    before = debian.pid(pair[1])
    debian.exec(pair[1], "systemd-run", "--on-active=0.2", "--timer-property=AccuracySec=10ms", "systemctl", "reboot")
    until(lambda: debian.status(pair[1]) == "Running" and debian.pid(pair[1]) not in (0, before), 30)
    booted(debian, pair[1])


def test_a_poweroff_from_inside_is_a_stop(debian: Daemon, pair: tuple[str, str]) -> None:
    debian.exec(pair[1], "systemd-run", "--on-active=0.2", "--timer-property=AccuracySec=10ms", "systemctl", "poweroff")
    until(lambda: debian.status(pair[1]) == "Stopped", 30)
    debian.idle()
    debian.change(pair[1], "start")
    assert debian.exec(pair[1], "true")[0] == 0


def test_services_users_and_capabilities_work(debian: Daemon, pair: tuple[str, str]) -> None:
    script = """set -e
        useradd -m worker && runuser -u worker -- sh -c 'id -un > /tmp/who'
        test "$(cat /tmp/who)" = worker
        systemd-run --wait -p DynamicUser=yes -p PrivateTmp=yes -p ProtectSystem=strict true
        mount -t tmpfs none /mnt && umount /mnt
        ! mknod /tmp/disk b 8 0 2>/dev/null || ! cat /tmp/disk
        ! sysctl -w kernel.panic=1 2>/dev/null
    """
    status, text, errors = debian.exec(pair[0], "bash", "-c", script)
    assert status == 0, text + errors


@pytest.mark.timeout(400)
def test_a_microvm_has_its_address_by_dhcp_and_is_found_by_name(debian: Daemon, pair: tuple[str, str]) -> None:
    """The same image behind another wall; its own systemd asks."""
    body = {"name": "gamma", "source": {"type": "image", "alias": "debian/12"}, "isolation": "microvm"}
    debian.run("POST", "/1.0/instances", body | {"config": {"limits.memory": "384MiB"}})
    try:
        starts_its_network_alone(debian, "gamma")
        debian.change("gamma", "start")

        def said() -> str:
            with contextlib.suppress(ApiError, AssertionError):
                return debian.exec("gamma", "ip", "-4", "route", "show", "default")[1]
            return ""

        until(lambda: "proto dhcp" in said(), 480, pause=3)  # questions take CPU time from its boot
        address = re.findall(r"src (10\.[0-9.]+)", said())[0]
        until(lambda: address in debian.exec(pair[0], "getent", "ahostsv4", "gamma")[1], 30)
        assert debian.exec(pair[0], "ping", "-4", "-c1", "-w30", "gamma")[0] == 0
        until(lambda: debian.exec("gamma", "ping", "-4", "-c1", "-w30", pair[0])[0] == 0, 60)
        leases = debian.get("/1.0/networks/isolabr0/leases")
        assert address in {each["address"] for each in leases if each["hostname"] == "gamma"}
    finally:
        debian.run("DELETE", "/1.0/instances/gamma?force=1")


def starts_its_network_alone(debian: Daemon, name: str) -> None:
    """Of its services: an emulated processor needs a minute for all of them."""
    files = f"/1.0/instances/{name}/files?path=/etc/systemd/system"
    wanted = ("udevd", "udev-trigger", "networkd", "resolved")
    unit = ("[Unit]", "DefaultDependencies=no", *(f"Wants=systemd-{each}.service" for each in wanted))
    debian.request("DELETE", f"{files}/default.target")
    debian.request("POST", f"{files}/small.target", "\n".join(unit).encode(), headers={"X-LXD-type": "file"})
    debian.request("POST", f"{files}/default.target", b"small.target", headers={"X-LXD-type": "symlink"})
