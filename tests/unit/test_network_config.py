"""Configuration of bridge networks: validation, defaults, and the files for dnsmasq and nftables."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import InvalidInput
from isola.model.network import Network, Nic
from isola.model.reference import Ref
from isola.network import leases
from isola.network.addresses import subnets
from isola.network.bridge import dnsmasq, rules
from isola.network.bridge.config import SETTINGS, BridgeConfig, complete
from isola.network.leases import Held

HOME = Path("/var/lib/isola/networks/lab")
PLAIN = {"ipv4.address": "10.1.2.1/24", "ipv4.nat": "true", "ipv6.address": "fd42::1/64", "ipv6.nat": "true"}


def filled(config: dict[str, str], previous: dict[str, str] | None = None, *, ipv6: bool = True) -> dict[str, str]:
    return complete(config, previous or {}, others=(), routed=(), seed=7, has_ipv6=ipv6)


def written(**config: str) -> list[str]:
    read = BridgeConfig.read(PLAIN | {key.replace("_", "."): value for key, value in config.items()})
    return dnsmasq.configuration("br0", read, HOME, user="dnsmasq").splitlines()


def ruled(**config: str) -> str:
    return rules.render(
        "br0", BridgeConfig.read(PLAIN | {key.replace("_", "."): value for key, value in config.items()})
    )


def nic(**changes: str | None) -> Nic:
    facts: dict[str, str | None] = {"ipv4": "10.1.2.9", "ipv6": "fd42::9", **changes}
    return Nic(
        "id",
        "web1",
        "eth0",
        "eth0",
        Ref.default("lab"),
        "0a:69:73:00:00:01",
        "is00000001",
        facts["ipv4"],
        facts["ipv6"],
    )


WRONG = {
    "bridge.hwaddr": ["", "01:00:00:00:00:01", "0a:69", "0a:69:73:00:00:01\nx"],
    "bridge.mtu": ["0", "1279", "65536", "big", "-1", "1500.0"],
    "bridge.driver": ["openvswitch"],
    "dns.domain": ["a b", ".lab", "lab.", "x" * 300, "lab\nuser=root", "-lab", "lab/x"],
    "dns.search": ["a,,b", "a b"],
    "ipv4.address": ["10.1.2.1", "10.1.2.0/24", "10.1.2.255/24", "10.1.2.1/31", "127.0.0.1/8", "224.0.0.5/24",
                     "fd42::1/64", "x", "0.0.0.1/4"],
    "ipv6.address": ["fd42::1", "fd42::/64", "fe80::1/64", "ff02::1/64", "10.1.2.1/24", "::1/64", "fd42::1%eth0/64"],
    "ipv4.dhcp.ranges": ["10.1.2.9", "10.1.2.9-10.1.2.3", "10.9.9.1-10.9.9.9", "fd42::2-fd42::9", "a-b"],
    "ipv4.dhcp.expiry": ["soon", "1y", "0h", "1h\n"],
    "ipv4.nat.address": ["host", "fd42::1"],
    "ipv6.nat.order": ["middle"],
    "ipv4.nat": ["2"],
    "dns.mode": ["loud"],
}  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in WRONG.items() for value in values if value])
def test_wrong_values_name_key_and_remedy(key: str, value: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        filled({"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64", key: value})
    assert caught.value.field == f"config.{key}" and caught.value.remedy


@given(
    st.sampled_from([row.key for row in SETTINGS if not row.key.endswith("*") and row.key != "raw.dnsmasq"]),
    st.text(max_size=40),
)
def test_values_cannot_contain_line_breaks(key: str, value: str) -> None:
    try:
        config = BridgeConfig.read(filled({"ipv4.address": "10.1.2.1/24", "ipv6.address": "fd42::1/64"} | {key: value}))
    except InvalidInput:
        return
    plain = len(dnsmasq.configuration("br0", BridgeConfig.read(filled(dict(PLAIN))), HOME, user=None).splitlines())
    lines = dnsmasq.configuration("br0", config, HOME, user=None).splitlines()
    assert abs(len(lines) - plain) <= 12 and not any(line.startswith("user=") and line != "user=root" for line in lines)


def test_missing_values_are_chosen() -> None:
    config = filled({})
    assert set(config) == {"ipv4.address", "ipv4.nat", "ipv6.address", "ipv6.nat", "volatile.bridge.hwaddr"}
    assert config["ipv4.nat"] == config["ipv6.nat"] == "true"
    assert config["ipv4.address"].startswith("10.") and config["ipv6.address"].startswith("fd")
    assert filled({}, ipv6=False)["ipv6.address"] == "none"
    assert filled({"ipv4.address": "none"})["ipv4.address"] == "none"


def test_given_values_are_kept() -> None:
    config = filled({"ipv4.address": "192.168.7.1/24", "ipv6.address": "none", "user.note": "mine", "bridge.mtu": ""})
    assert "ipv4.nat" not in config and "bridge.mtu" not in config
    assert config["ipv4.address"] == "192.168.7.1/24" and config["user.note"] == "mine"


def test_an_update_keeps_chosen_values() -> None:
    before = filled({})
    auto = {"ipv4.address": "auto", "ipv6.address": "auto"}
    assert complete(auto, before, others=(), routed=(), seed=99, has_ipv6=True) == before
    assert complete(before, before, others=(), routed=(), seed=99, has_ipv6=True) == before
    forged = complete(before | {"volatile.bridge.hwaddr": "x\ny"}, before, others=(), routed=(), seed=99, has_ipv6=True)
    assert forged == before
    off = complete(before | {"ipv4.address": "none"}, before, others=(), routed=(), seed=99, has_ipv6=True)
    assert off["ipv4.address"] == "none" and off["ipv6.address"] == before["ipv6.address"]


@pytest.mark.parametrize("family", ["ipv4", "ipv6"])
def test_an_address_that_is_unset_is_gone(family: str) -> None:
    before = filled({})
    rest = {key: value for key, value in before.items() if key != f"{family}.address"}
    off = complete(rest, before, others=(), routed=(), seed=99, has_ipv6=True)
    assert off == before | {f"{family}.address": "none"}
    again = complete(off | {f"{family}.address": "auto"}, off, others=(), routed=(), seed=99, has_ipv6=True)
    assert again[f"{family}.address"] not in {"none", "auto", ""}


def test_subnets_of_others_are_refused_and_routes_avoided() -> None:
    other = Network("lab", config=PLAIN)
    with pytest.raises(InvalidInput, match="overlaps that of network 'lab'") as caught:
        complete({"ipv4.address": "10.1.0.1/16"}, {}, others=[other], routed=(), seed=7, has_ipv6=True)
    assert caught.value.field == "config.ipv4.address"
    config = complete({}, {}, others=[other], routed=subnets(["10.0.7.0/24"]), seed=7, has_ipv6=True)
    assert config["ipv4.address"] == "10.0.8.1/24"


def test_addresses_of_the_host_are_kept() -> None:
    def choose(address: str, *there: str, previous: dict[str, str] | None = None) -> str:
        key = "ipv6.address" if ":" in address else "ipv4.address"
        links = {"eth1": there}
        wanted = {} if address == "auto" else {key: address}
        before = previous or {}
        return complete(wanted, before, others=(), routed=(), seed=7, has_ipv6=True, links=links)[key]

    assert choose("auto", "10.0.7.9/24") == "10.0.8.1/24", "a link that is down has addresses and no routes"
    for there in ("192.168.1.5/24", "192.168.1.5/16", "192.168.1.128/25", "192.168.1.7/32"):
        with pytest.raises(InvalidInput, match="overlaps that of link 'eth1'") as caught:
            choose("192.168.1.1/24", "nonsense", there)
        assert caught.value.field == "config.ipv4.address"
    with pytest.raises(InvalidInput, match="overlaps that of link"):
        choose("fd42::1/64", "fd42::7/48")
    assert choose("10.200.1.1/24", "10.5.6.7/8") == "10.200.1.1/24", "a reserved part of the LAN"
    same = {"ipv4.address": "192.168.1.1/24"}
    assert choose("192.168.1.1/24", "192.168.1.5/24", previous=same) == "192.168.1.1/24", "it is the present value"


def test_ranges_must_lie_in_a_subnet() -> None:
    with pytest.raises(InvalidInput, match="outside"):
        filled({"ipv4.address": "none", "ipv4.dhcp.ranges": "10.1.2.3-10.1.2.9"})
    config = BridgeConfig.read(filled(PLAIN | {"ipv4.dhcp.ranges": "10.1.2.3-10.1.2.9,10.1.2.20-10.1.2.30"}))
    assert [last - first for first, last in config.plan().spans] == [6, 10]
    assert config.dynamic_ipv4() == config.plan().spans


def test_unknown_clients_get_the_end_of_the_subnet() -> None:
    config = BridgeConfig.read(PLAIN)
    own, dynamic = config.plan().spans
    assert (dynamic,) == config.dynamic_ipv4()
    assert dynamic[1] - dynamic[0] == 31 and own[1] + 1 == dynamic[0] and own[0] & 255 == 1
    assert BridgeConfig.read({"ipv4.address": "10.1.2.1/30"}).plan().spans


def test_configuration_of_dnsmasq_for_a_default_network() -> None:
    lines = written()
    for line in (
        "interface=br0", "bind-dynamic", "except-interface=lo", "no-hosts", "user=dnsmasq", "enable-ra",
        "dhcp-range=10.1.2.223,10.1.2.254,255.255.255.0,1h", "dhcp-range=::,constructor:br0,ra-stateless,64",
        "local=/isola/", "domain=isola,10.1.2.0/24,local", "domain=isola,fd42::/64,local", "dhcp-ignore-names",
        f"hostsdir={HOME}/nics/names.d", f"dhcp-hostsdir={HOME}/nics/hosts.d", f"pid-file={HOME}/dnsmasq.pid",
    ):  # fmt: skip
        assert line in lines, line


def test_configuration_of_dnsmasq_for_other_networks() -> None:
    stateful = written(ipv6_dhcp_stateful="true")
    assert "dhcp-range=fd42::2,fd42::ffff:ffff:ffff:ffff,64,1h" in stateful
    assert not any("constructor" in line for line in stateful) and "enable-ra" in stateful
    assert "dhcp-range=::,constructor:br0,ra-only,64" in written(ipv6_dhcp="false")
    ipv4_only = written(ipv6_address="none")
    assert not any("ra-" in line or "fd42" in line or "option6" in line for line in ipv4_only)
    silent = written(ipv4_dhcp="false", ipv6_address="none")
    assert not any(line.startswith("dhcp-") and line != "dhcp-ignore-names" for line in silent)
    assert not any("isola/" in line and line.startswith("local") for line in written(dns_mode="none"))
    dynamic = written(dns_mode="dynamic")
    assert not any("option:router" in line for line in written())
    assert "dhcp-option=option:router" in written(ipv4_routing="false")
    assert "ra-param=br0,mtu:1500,60,1800" in written(ipv4_routing="false")
    assert "ra-param=br0,mtu:1500,60,0" in written(ipv6_routing="false")
    assert "dhcp-ignore-names" not in dynamic and "expand-hosts" in dynamic
    assert written(dns_domain="lab.example", dns_search="a.example,b.example")[-1] != ""
    assert "dhcp-option-force=option:domain-search,a.example,b.example" in written(dns_search="a.example,b.example")
    assert "domain=isola,10.1.2.0/25,local" not in written(ipv4_address="10.1.2.1/25")
    assert written(raw_dnsmasq="log-queries\nno-resolv")[-2:] == ["log-queries", "no-resolv"]
    assert "user=root" in dnsmasq.configuration("br0", BridgeConfig.read(PLAIN), HOME, user=None).splitlines()


def test_a_nic_has_a_line_for_dhcp_and_lines_for_names() -> None:
    assert dnsmasq.reservation(nic()) == "0a:69:73:00:00:01,10.1.2.9,[fd42::9]\n"
    assert dnsmasq.reservation(nic(ipv4=None)) == "0a:69:73:00:00:01,[fd42::9]\n"
    lines = "10.1.2.9 web1.isola web1 web1.net1\nfd42::9 web1.isola web1 web1.net1\n"
    assert dnsmasq.names(nic(), "isola", "net1") == lines
    assert dnsmasq.names(nic(ipv4=None, ipv6=None), "isola", "net1") == ""
    many = replace(nic(ipv6=None), names=("web_1", "web1", "db"))
    known = "web1.isola web1 web_1 web_1.isola db db.isola web1.net1 web_1.net1 db.net1"
    assert dnsmasq.names(many, "isola", "net1") == f"10.1.2.9 {known}\n"


def test_leases_are_read_and_expired_or_invalid_ones_ignored() -> None:
    text = (
        "1600000000 0a:69:73:00:00:01 10.1.2.9 web1 01:0a\n"
        "1700000000 0a:69:73:00:00:02 10.1.2.230 laptop 01:0a\n"
        "0 0A:69:73:00:00:03 10.1.2.231 * *\n"
        "duid 00:01:00:01\n"
        "1700000000 12345 fd42::99 guest 00:01\n"
        "1700000000 T7 fd42::98 * 00:02\n"
        "1700000000 x fd42::97 * 00:02\n"
        "soon 0a:69:73:00:00:04 10.1.2.232 x *\n1 2\n\n1700000000 0a:69:73:00:00:05 nonsense x *\n"
    )
    assert leases.read(text, 1700000000) == [
        Held("10.1.2.230", "0a:69:73:00:00:02", "laptop", b"\1\x0a"),
        Held("10.1.2.231", "0a:69:73:00:00:03", "", b""),
        Held("fd42::99", "", "guest", b"\0\1", 12345),
        Held("fd42::98", "", "", b"\0\2", 7, temporary=True),
    ]
    assert leases.server_duid(text) == b"\0\1\0\1" and leases.server_duid("") == b""
    assert leases.server_duid("duid ") == leases.server_duid("duid") == b"", "read while it was being written"


def test_a_partly_written_lease_file_is_noticed() -> None:
    ipv4, duid = "0 0a:69:73:00:00:03 10.1.2.231 * *\n", "duid 00:01\n"
    assert leases.is_whole("", "") and leases.is_whole(ipv4, "") and leases.is_whole(ipv4 + duid, ipv4 + duid)
    for text, before in (("", ipv4), (ipv4[:-5], ""), (ipv4, ipv4 + duid), ("", duid)):
        assert not leases.is_whole(text, before)


@given(st.text(max_size=200))
def test_any_lease_file_can_be_read(text: str) -> None:
    for held in leases.read(f"{text}\n0 {text} 10.1.2.9 {text} {text}\n0 {text} fd42::9 * {text}\n", 0):
        message = b""
        if held.mac:
            message = leases.release4(held, IPv4Address("10.1.2.1"))
        elif ":" in held.address:
            message = leases.release6(held, b"\0\1")
        assert not message or 30 < len(message) < 800


def test_rules_hide_the_subnet_and_name_the_bridge() -> None:
    text = ruled()
    assert "ip saddr 10.1.2.0/24 ip daddr != 10.1.2.0/24 masquerade" in text
    assert "ip6 saddr fd42::/64 ip6 daddr != fd42::/64 masquerade" in text
    assert text.count('"br0"') == text.count("ifname") > 0
    assert "masquerade" not in ruled(ipv4_nat="false", ipv6_nat="false")
    assert "snat ip to 192.0.2.7" in ruled(ipv4_nat_address="192.0.2.7")
    assert "srcnat + 10" in ruled(ipv4_nat_order="after") and "srcnat + 10" not in text
    assert "th dport 53" not in ruled(ipv4_firewall="false", ipv6_firewall="false")


LEAVING, ENTERING = 'iifname "br0" oifname != "br0"', 'oifname "br0" iifname != "br0"'


def forwarded(**config: str) -> list[str]:
    _, _, chain = ruled(**config).partition("hook forward")
    return [line.strip() for line in chain.partition("}")[0].splitlines()[1:]]


def test_only_addresses_of_the_subnet_are_forwarded() -> None:
    for nat in ("true", "false"):
        lines = forwarded(ipv4_nat=nat, ipv6_nat=nat)
        for forged in ("ipv4 ip saddr != 10.1.2.0/24 drop", "ipv6 ip6 saddr != fd42::/64 drop"):
            place = lines.index(f"{LEAVING} meta nfproto {forged}")
            assert not any("accept" in line and forged[:4] in line for line in lines[:place])
    without_ipv6 = forwarded(ipv6_address="none")
    assert f"{LEAVING} meta nfproto ipv6 drop" in without_ipv6 and f"{ENTERING} meta nfproto ipv6 drop" in without_ipv6


def test_behind_nat_only_replies_and_published_ports_are_forwarded() -> None:
    for protocol in ("ipv4", "ipv6"):
        let_in = [line for line in forwarded() if line.startswith('oifname "br0"') and f" {protocol} " in line]
        assert let_in == [
            f"{ENTERING} meta nfproto {protocol} ct state established,related accept",
            f"{ENTERING} meta nfproto {protocol} ct status dnat accept",
            f"{ENTERING} meta nfproto {protocol} drop",
            f'oifname "br0" meta nfproto {protocol} accept',
        ]
    routed = forwarded(ipv4_nat="false", ipv6_nat="false")
    opened = forwarded(ipv4_nat_inbound="all", ipv6_nat_inbound="all")
    assert not any(line.startswith(ENTERING) for line in routed + opened)
    assert any("ct state invalid drop" in line for line in opened) and not any("ct state" in line for line in routed)


def test_what_stays_on_the_bridge_is_never_dropped() -> None:
    for config in ({}, {"ipv4_routing": "false", "ipv6_routing": "false"}, {"ipv6_address": "none"}):
        drops = [line for line in forwarded(**config) if line.endswith("drop")]
        assert drops and all(line.startswith((LEAVING, ENTERING)) for line in drops)
    assert [line for line in forwarded(ipv4_routing="false") if " ipv4 " in line] == [
        f"{LEAVING} meta nfproto ipv4 drop",
        f"{ENTERING} meta nfproto ipv4 drop",
    ]


def test_without_the_firewall_only_requested_filters_apply() -> None:
    off = {"ipv4_firewall": "false", "ipv6_firewall": "false"}
    assert not any("drop" in line or "accept" in line for line in forwarded(**off))
    assert f"{LEAVING} meta nfproto ipv4 drop" in forwarded(**off, ipv4_routing="false")
    silent = ruled(**off, ipv4_address="none", ipv6_address="none", security_metadata="true")
    assert silent == ""


def test_cloud_metadata_is_refused_unless_allowed() -> None:
    chain = ruled().partition("chain input")[0]
    assert "hook prerouting priority raw" in chain and chain.count("reject") == 2
    assert "169.254.169.254" in chain and "fd00:ec2::254" in chain
    assert "169.254" not in ruled(security_metadata="true") and "reject" not in ruled(security_metadata="true")


def test_routed_subnets_pass_the_rules() -> None:
    config = BridgeConfig.read(PLAIN | {"ipv4.nat": "true"})
    plain, routed = (
        rules.render("br0", config),
        rules.render("br0", config, ["192.0.2.0/28", "10.1.2.8/32", "2001:db8::/64"]),
    )
    assert "ip saddr != 10.1.2.0/24 drop" in plain and "192.0.2" not in plain
    assert "ip saddr != { 10.1.2.0/24, 192.0.2.0/28 } drop" in routed
    lines = [line.strip() for line in routed.splitlines()]
    passing = next(
        number for number, line in enumerate(lines) if "ip daddr { 10.1.2.8/32, 192.0.2.0/28 } accept" in line
    )
    assert lines[passing + 1].startswith('oifname "br0"') and lines[passing + 1].endswith("drop")
    assert "ip6 saddr != { 2001:db8::/64, fd42::/64 } drop" in routed
