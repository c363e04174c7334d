"""Validation of devices by their configuration alone."""

from __future__ import annotations

import pytest

from isola.devices import check, kinds
from isola.devices.endpoints import Endpoint, parse
from isola.errors import IsolaError

ROOT = {"type": "disk", "path": "/", "pool": "default"}
NIC = {"type": "nic", "network": "isolabr0", "name": "eth0"}
PROXY = {"type": "proxy", "listen": "tcp:0.0.0.0:80", "connect": "tcp:127.0.0.1:80"}
HOST = {"type": "disk", "source": "/srv", "path": "/mnt"}
NAT = PROXY | {"nat": "true", "connect": "tcp:10.1.2.3:80"}


def test_every_type_has_a_driver() -> None:
    assert kinds() == ("disk", "nic", "none", "proxy", "tpm", "unix-block", "unix-char")


@pytest.mark.parametrize(
    "device",
    [
        ROOT,
        NIC,
        PROXY,
        HOST,
        NAT,
        NAT | {"listen": "tcp:[::]:0", "connect": "tcp:0.0.0.0:80"},
        HOST | {"shift": "true", "readonly": "true", "recursive": "true", "propagation": "rslave"},
        {"type": "disk", "source": "tmpfs:", "path": "/scratch", "size": "64MiB"},
        {"type": "disk", "source": "data", "pool": "default", "path": "/data"},
        {"type": "disk", "source": "data", "pool": "default", "path": "/data", "copy": "true", "subpath": "a/b"},
        {"type": "disk", "source": "data/a/b", "pool": "default", "path": "/data"},
        {"type": "disk", "source": "tmpfs:", "path": "/scratch", "mode": "1777", "uid": "7", "gid": "8"},
        HOST | {"create": "true"},
        HOST | {"path": "mnt/data"},
        ROOT | {"readonly": "true"},
        {"type": "nic", "nictype": "macvlan", "parent": "eth0"},
        {"type": "nic", "nictype": "bridged", "parent": "br0", "ipv4.address": "none"},
        {"type": "nic", "nictype": "routed", "ipv4.address": "192.0.2.1, 192.0.2.2", "parent": "eth0"},
        {"type": "nic", "nictype": "p2p", "ipv4.routes": "192.0.2.0/24", "limits.max": "10Mbit"},
        PROXY | {"listen": "unix:@name", "connect": "unix:/run/x", "bind": "instance", "uid": "5"},
        PROXY | {"listen": "tcp:[::]:80-90", "connect": "tcp:[::1]:80-90"},
        {"type": "unix-char", "path": "/dev/kvm", "mode": "0600"},
        {"type": "unix-block", "path": "/dev/x", "major": "8", "minor": "1", "required": "false"},
        {"type": "none"},
    ],
)
def test_valid_devices_are_accepted(device: dict[str, str]) -> None:
    check({"root": ROOT, "dev": device})


@pytest.mark.parametrize(
    ("device", "key"),
    [
        ({}, "type"),
        ({"type": "gpu"}, "type"),
        ({"type": "none", "path": "/"}, "path"),
        ({"type": "disk"}, "path"),
        (HOST | {"path": "."}, "path"),
        (HOST | {"path": "/./"}, "path"),
        (HOST | {"path": "../mnt"}, "path"),
        (ROOT | {"create": "true"}, "create"),
        ({"type": "disk", "path": "/"}, "pool"),
        (ROOT | {"source": "/srv"}, "source"),
        ({"type": "disk", "path": "/data"}, "source"),
        (HOST | {"path": "/a/../b"}, "path"),
        (HOST | {"source": "/srv/../etc"}, "source"),
        (HOST | {"pool": "default"}, "pool"),
        (HOST | {"copy": "true"}, "copy"),
        (HOST | {"mode": "0755"}, "mode"),
        ({"type": "disk", "source": "data", "pool": "default", "path": "/data", "create": "true"}, "create"),
        ({"type": "disk", "source": "data", "pool": "default", "path": "/data", "subpath": "../x"}, "subpath"),
        ({"type": "disk", "source": "tmpfs:", "path": "/x", "mode": "7777"}, "mode"),
        (HOST | {"size": "1GiB"}, "size"),
        (HOST | {"propagation": "sideways"}, "propagation"),
        (HOST | {"raw.mount.options": "ro,exploit"}, "raw.mount.options"),
        ({"type": "disk", "source": "data", "path": "/data"}, "pool"),
        ({"type": "disk", "source": "srv/data", "path": "/data"}, "pool"),
        ({"type": "disk", "source": "data/../x", "pool": "default", "path": "/data"}, "source"),
        ({"type": "disk", "source": "data//x", "pool": "default", "path": "/data"}, "source"),
        ({"type": "disk", "source": "../data", "pool": "default", "path": "/data"}, "source"),
        ({"type": "disk", "source": "data/", "pool": "default", "path": "/data"}, "source"),
        ({"type": "disk", "source": "data/a", "subpath": "b", "pool": "default", "path": "/data"}, "subpath"),
        ({"type": "disk", "source": "data/a", "pool": "default"}, "path"),
        ({"type": "disk", "source": "tmpfs:", "path": "/x", "size": "1"}, "size"),
        ({"type": "disk", "source": "tmpfs:", "path": "/x", "shift": "true"}, "shift"),
        ({"type": "nic"}, "network"),
        (NIC | {"hwaddr": "01:00:00:00:00:00"}, "hwaddr"),
        (NIC | {"name": "../x"}, "name"),
        (NIC | {"name": "lo"}, "name"),
        (NIC | {"mtu": "12"}, "mtu"),
        (NIC | {"ipv4.address": "fe80::1"}, "ipv4.address"),
        (NIC | {"ipv4.address": "10.0.0.1,10.0.0.2"}, "ipv4.address"),
        (NIC | {"ipv6.address": "ff02::1"}, "ipv6.address"),
        (NIC | {"parent": "br0"}, "parent"),
        (NIC | {"nictype": "macvlan"}, "nictype"),
        (NIC | {"vlan": "5"}, "vlan"),
        (NIC | {"vlan.tagged": "5-7"}, "vlan.tagged"),
        (NIC | {"limits.egress": "fast"}, "limits.egress"),
        (NIC | {"limits.egress": "1bit"}, "limits.egress"),
        (NIC | {"host_name": "much-too-long-a-name"}, "host_name"),
        ({"type": "nic", "nictype": "macvlan"}, "parent"),
        ({"type": "nic", "nictype": "macvlan", "parent": "eth0", "limits.max": "1Mbit"}, "limits.max"),
        ({"type": "nic", "nictype": "p2p", "ipv4.routes": "everywhere"}, "ipv4.routes"),
        (NIC | {"ipv4.routes": "192.0.2.0/24,2001:db8::/64"}, "ipv4.routes"),
        (NIC | {"ipv6.routes": "::/0"}, "ipv6.routes"),
        (NIC | {"ipv6.routes": "2001:db8::%eth0/64"}, "ipv6.routes"),
        (NIC | {"limits.priority": "high"}, "limits.priority"),
        (NIC | {"queue.tx.length": "1000000"}, "queue.tx.length"),
        ({"type": "nic", "nictype": "macvlan", "parent": "eth0", "ipv4.routes": "192.0.2.0/24"}, "ipv4.routes"),
        ({"type": "nic", "nictype": "p2p", "security.mac_filtering": "true"}, "security.mac_filtering"),
        ({"type": "proxy", "listen": "tcp:0.0.0.0:80"}, "connect"),
        (PROXY | {"listen": "tcp:localhost:80"}, "listen"),
        (PROXY | {"listen": "tcp:0.0.0.0:0"}, "listen"),
        (PROXY | {"listen": "tcp:0.0.0.0:1-9999"}, "listen"),
        (PROXY | {"listen": "tcp:0.0.0.0:80,80"}, "listen"),
        (PROXY | {"listen": "icmp:0.0.0.0:80"}, "listen"),
        (PROXY | {"listen": "unix:relative"}, "listen"),
        (PROXY | {"listen": "udp:0.0.0.0:80"}, "connect"),
        (PROXY | {"listen": "tcp:0.0.0.0:80-82", "connect": "tcp:127.0.0.1:80-81"}, "connect"),
        (PROXY | {"uid": "5"}, "uid"),
        (PROXY | {"bind": "elsewhere"}, "bind"),
        (PROXY | {"nat": "true"}, "connect"),
        (NAT | {"bind": "instance"}, "bind"),
        (NAT | {"proxy_protocol": "true"}, "proxy_protocol"),
        (NAT | {"connect": "tcp:[fd42::1]:80"}, "connect"),
        (NAT | {"listen": "unix:/run/x"}, "nat"),
        (NAT | {"connect": "tcp:10.1.2.3:0"}, "connect"),
        (PROXY | {"listen": "sctp:0.0.0.0:80", "connect": "sctp:10.1.2.3:80"}, "nat"),
        (NAT | {"listen": "sctp:0.0.0.0:80"}, "nat"),
        (PROXY | {"listen": "tcp:0.0.0.0:0"}, "listen"),
        ({"type": "unix-char"}, "source"),
        ({"type": "unix-char", "path": "/dev/x", "major": "1"}, "minor"),
        ({"type": "unix-char", "path": "/dev/x", "mode": "9999"}, "mode"),
        ({"type": "unix-block", "source": "dev/x"}, "source"),
    ],
)
def test_invalid_devices_are_refused_with_field_and_remedy(device: dict[str, str], key: str) -> None:
    with pytest.raises(IsolaError) as caught:
        check({"dev": device})
    assert caught.value.field == f"devices.dev.{key}"
    assert caught.value.remedy


def test_the_number_of_devices_is_limited() -> None:
    with pytest.raises(IsolaError, match="More than"):
        check({f"d{number}": NIC for number in range(300)})


def test_addresses_of_proxies() -> None:
    assert parse("tcp:[fd42::1]:80,90-92") == Endpoint("tcp", "fd42::1", (80, 90, 91, 92))
    assert parse("udp:10.0.0.1:53") == Endpoint("udp", "10.0.0.1", (53,))
    assert parse("unix:@a") == Endpoint("unix", "@a") and parse("unix:/run/a") == Endpoint("unix", "/run/a")
