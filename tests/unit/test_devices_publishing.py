"""Published ports: which rules are made for which addresses, and which address a process connects to."""

from __future__ import annotations

import pytest

from isola.devices.endpoints import Endpoint
from isola.devices.nics import networks_of, own_addresses
from isola.devices.publishing import Published
from isola.host.link_kinds import Loop
from isola.model.device import DeviceState
from isola.model.identity import IdRange
from isola.model.instance import Instance
from isola.testing.clock import FakeClock

LOOP = Loop("is-gate", "is-gate-in")
BOTH = {"ipv4": "10.1.2.3", "ipv6": "fd42::3"}


def published(listen: str, connect: str, **facts: str) -> Published:
    return Published.read(DeviceState("proxy", {"listen": listen, "connect": connect, "nat": "true"}, facts))


def test_ports_are_mapped_one_to_one_and_several_to_one() -> None:
    each = published("tcp:192.0.2.1:80-81", "tcp:10.1.2.3:8080-8081").tables(LOOP, ("isolabr0",))
    assert set(each) == {"ip"}
    assert 'iifname "is-gate-in" ip daddr 192.0.2.1 tcp dport 80 dnat to 10.1.2.3:8080\n' in each["ip"]
    assert 'iifname "is-gate-in" ip daddr 192.0.2.1 tcp dport 81 dnat to 10.1.2.3:8081\n' in each["ip"]
    one = published("udp:[fd00::1]:53,54", "udp:[fd42::3]:5353").tables(LOOP, ())
    assert set(one) == {"ip6"} and "udp dport 54 dnat to [fd42::3]:5353\n" in one["ip6"]


def test_sctp_has_rules_as_others_do() -> None:
    rules = published("sctp:0.0.0.0:2905", "sctp:0.0.0.0:2905", **BOTH).tables(LOOP, ())["ip"]
    assert "sctp dport { 2905 } ct state new" in rules and "sctp dport 2905 dnat to 10.1.2.3:2905" in rules


def test_only_first_packets_from_outside_are_sent_once_more_and_last_of_all() -> None:
    rules = published("tcp:0.0.0.0:80", "tcp:0.0.0.0:8080", **BOTH).tables(LOOP, ("isolabr0", "lab"))["ip"]
    assert "type filter hook input priority 1000; policy accept;" in rules
    assert (
        'tcp dport { 80 } ct state new iifname != { "lo", "is-gate-in", "isolabr0", "lab" } fib daddr type local'
        ' dup to 240.0.0.8 device "is-gate" drop'
    ) in rules
    assert rules.count("dnat") == 1 and "accept;" in rules and " accept\n" not in rules


@pytest.mark.parametrize(
    ("listen", "facts", "families", "connect"),
    [
        ("tcp:0.0.0.0:80", BOTH, {"ip"}, "10.1.2.3"),
        ("tcp:[::]:80", BOTH, {"ip", "ip6"}, "10.1.2.3"),
        ("tcp:[::]:80", {"ipv4": "10.1.2.3"}, {"ip"}, "10.1.2.3"),
        ("tcp:0.0.0.0:80", {"ipv6": "fd42::3"}, set(), "fd42::3"),
        ("tcp:[::1]:80", {"ipv4": "10.1.2.3"}, set(), "10.1.2.3"),
    ],
)
def test_the_own_address_of_the_instance(listen: str, facts: dict[str, str], families: set[str], connect: str) -> None:
    found = published(listen, "tcp:0.0.0.0:8080", **facts)
    assert set(found.tables(LOOP, ())) == families
    assert found.connect == Endpoint("tcp", connect, (8080,))


def test_without_an_address_there_is_nothing_to_publish() -> None:
    found = published("tcp:0.0.0.0:80", "tcp:0.0.0.0:8080")
    assert found.connect is None and found.tables(LOOP, ()) == {}


def test_a_chosen_port_replaces_0() -> None:
    found = published("tcp:0.0.0.0:0", "tcp:0.0.0.0:80", ports="40001", **BOTH)
    assert found.listen.ports == (40001,) and "tcp dport { 40001 }" in found.tables(LOOP, ())["ip"]


def nic(network: str, name: str, ipv4: str, priority: str = "") -> DeviceState:
    config = {"gateway.priority": priority} if priority else {}
    return DeviceState("nic", config, {"network": network, "name": name, "ipv4": ipv4})


def test_the_address_is_that_by_which_the_instance_reaches_others() -> None:
    plugged = {"a": nic("inner", "eth0", "10.1.0.2"), "b": nic("outer", "eth1", "10.2.0.2")}
    instance = Instance("id", "web", "", IdRange(1), FakeClock().now(), plugged=plugged)
    assert networks_of(instance) == ("inner", "outer")
    assert own_addresses(instance, lambda name: True) == ("10.1.0.2", "")
    assert own_addresses(instance, lambda name: name == "outer") == ("10.2.0.2", "")
    plugged["b"] = nic("outer", "eth1", "10.2.0.2", "5")
    assert networks_of(instance) == ("outer", "inner") and own_addresses(instance, lambda name: True)[0] == "10.2.0.2"
