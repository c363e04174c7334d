"""The choice of subnets for new networks, and of addresses for new NICs."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isola.errors import AlreadyExists, Conflict, Exhausted, InvalidInput
from isola.model.network import Nic
from isola.model.reference import Ref
from isola.network.addresses import AddressPlan, AddressPool, choose_ipv4, choose_ipv6, eui64, subnets

PLAN = AddressPlan(
    ipv4=IPv4Interface("10.1.2.1/24"),
    spans=((int(IPv4Interface("10.1.2.1").ip), int(IPv4Interface("10.1.2.254").ip)),),
    ipv6=IPv6Interface("fd42::1/64"),
)
v4_networks = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)).map(lambda pair: IPv4Network(pair, strict=False))
seeds = st.integers(0, 2**64 - 1)


def mac(number: int) -> str:
    return f"0a:69:73:00:{number >> 8:02x}:{number & 255:02x}"


def nic(number: int, ipv4: str | None, ipv6: str | None = None) -> Nic:
    return Nic(
        f"id{number}", f"web{number}", "eth0", "eth0", Ref.default("lab"), mac(number), f"is{number:08x}", ipv4, ipv6
    )


@given(st.lists(v4_networks, max_size=20), seeds)
def test_a_chosen_subnet_overlaps_nothing(avoid: list[IPv4Network], seed: int) -> None:
    try:
        own = choose_ipv4(avoid, seed)
    except Conflict:
        blocks = [
            block for pool in ("172.16.0.0/12", "192.168.0.0/16") for block in ip_network(pool).subnets(new_prefix=24)
        ]
        assert all(any(block.overlaps(other) for other in avoid) for block in blocks)
        return
    assert own.network.prefixlen == 24 and own.is_private and str(own.ip).endswith(".1")
    assert not any(own.network.overlaps(other) for other in avoid)


def test_if_a_private_range_is_routed_the_next_is_used() -> None:
    assert str(choose_ipv4(subnets(["10.0.0.0/8"]), 0)) == "172.16.0.1/24"
    assert str(choose_ipv4(subnets(["10.0.0.0/8", "172.16.0.0/12"]), 5)) == "192.168.5.1/24"
    with pytest.raises(Conflict, match=r"ipv4\.address"):
        choose_ipv4(subnets(["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]), 0)
    assert str(choose_ipv4(subnets(["10.0.0.0/9", "10.128.0.0/10"]), 0)) == "10.192.0.1/24"
    assert str(choose_ipv4(subnets(["0.0.0.0/0", "nonsense", "fd42::/64", "10.0.0.7"]), 0)) == "10.0.1.1/24"


@given(seeds)
def test_ipv6_subnets_are_unique_local(seed: int) -> None:
    first = choose_ipv6([], seed)
    assert first.network.prefixlen == 64 and first.ip in IPv6Network("fd00::/8")
    second = choose_ipv6([first.network], seed)
    assert not second.network.overlaps(first.network)


def test_eui64_is_that_of_the_rfc() -> None:
    assert str(eui64(IPv6Network("fd42::/64"), "00:16:3e:01:02:03")) == "fd42::216:3eff:fe01:203"
    assert str(eui64(IPv6Network("fd42::/64"), "0a:69:73:00:00:01")) == "fd42::869:73ff:fe00:1"


def test_every_address_is_given_once_and_then_none() -> None:
    pool = AddressPool(PLAN)
    given_out = [pool.choose(mac(number), None, None, 0) for number in range(253)]
    assert len({ipv4 for ipv4, _ in given_out}) == len({ipv6 for _, ipv6 in given_out}) == 253
    assert "10.1.2.1" not in {ipv4 for ipv4, _ in given_out}
    with pytest.raises(Conflict, match="larger subnet"):
        pool.choose(mac(300), None, None, 0)
    pool.release(mac(7))
    assert pool.choose(mac(300), None, None, 0)[0] == given_out[7][0]


def test_a_second_request_of_a_nic_returns_the_same_addresses() -> None:
    pool = AddressPool(PLAN)
    first = pool.choose(mac(1), None, None, 0)
    assert pool.choose(mac(1).upper(), None, None, 0) == first
    assert pool.choose(mac(1), first[0], first[1], 0) == first


def test_requested_addresses_are_granted_or_refused() -> None:
    pool = AddressPool(PLAN)
    assert pool.choose(mac(1), "10.1.2.77", "fd42::77", 0) == ("10.1.2.77", "fd42::77")
    with pytest.raises(AlreadyExists, match=r"10\.1\.2\.77"):
        pool.choose(mac(2), "10.1.2.77", None, 0)
    with pytest.raises(AlreadyExists, match="fd42::77"):
        pool.choose(mac(2), None, "fd42:0:0::77", 0)
    for wanted in (
        "10.1.3.1",
        "10.1.2.1",
        "10.1.2.0",
        "10.1.2.255",
        "fd42::5",
        "",
        "x" * 500,
        "10.1.2.5/24",
        "10.1.2.05",
    ):
        if wanted:
            with pytest.raises(InvalidInput) as caught:
                pool.choose(mac(2), wanted, None, 0)
            assert caught.value.field == "ipv4.address" and caught.value.remedy
    with pytest.raises(InvalidInput):
        pool.choose(mac(2), None, "fd42::1", 0)
    with pytest.raises(InvalidInput, match="no ipv6 subnet"):
        AddressPool(AddressPlan(ipv4=PLAN.ipv4)).choose(mac(2), None, "fd42::5", 0)
    pool.choose(mac(1), "10.1.2.78", None, 0)
    assert pool.choose(mac(2), "10.1.2.77", None, 0)[0] == "10.1.2.77"


def test_refreshing_drops_removed_nics_and_keeps_new_ones() -> None:
    pool = AddressPool(PLAN)
    pool.choose(mac(1), "10.1.2.11", None, 0)
    pool.choose(mac(2), "10.1.2.12", None, 1000)
    pool.refresh([nic(3, "10.1.2.13")], now=1001)
    assert pool.choose(mac(4), "10.1.2.11", None, 1001)[0] == "10.1.2.11"
    for taken in ("10.1.2.12", "10.1.2.13"):
        with pytest.raises(AlreadyExists):
            pool.choose(mac(5), taken, None, 1001)


def test_addresses_leased_to_unknown_clients_are_chosen_last() -> None:
    first = int(IPv4Interface("10.1.2.2").ip)
    pool = AddressPool(AddressPlan(IPv4Interface("10.1.2.1/24"), ((first, first + 3),)))
    leased = {"10.1.2.2": mac(91), "10.1.2.3": mac(92), "10.1.2.4": mac(93)}
    assert pool.choose(mac(1), None, None, 0, leased)[0] == "10.1.2.5"
    rest = {pool.choose(mac(number), None, None, 0, leased)[0] for number in (2, 3, 4)}
    assert rest == set(leased), "a client that takes all leases does not prevent an instance from getting an address"
    with pytest.raises(Conflict, match="larger subnet"):
        pool.choose(mac(5), None, None, 0, leased)


def test_without_subnets_there_is_nothing_to_choose() -> None:
    assert AddressPool(AddressPlan()).choose(mac(1), None, None, 0) == (None, None)
    assert AddressPool(AddressPlan(ipv4=PLAN.ipv4)).choose(mac(1), None, None, 0) == (None, None)
    wide = AddressPlan(ipv6=IPv6Interface("fd42::1/56"))
    assert AddressPool(wide).choose(mac(1), None, None, 0) == (None, None)


def test_stateful_ipv6_addresses_do_not_meet() -> None:
    plan = AddressPlan(ipv6=IPv6Interface("fd42::1/125"), slaac=False)
    pool = AddressPool(plan)
    chosen = {pool.choose(mac(number), None, None, 0)[1] for number in range(6)}
    assert chosen == {f"fd42::{number}" for number in range(2, 8)}
    with pytest.raises(Conflict):
        pool.choose(mac(9), None, None, 0)


@given(st.lists(st.integers(0, 400), max_size=60))
def test_choosing_an_address_is_as_fast_with_many_nics(numbers: list[int]) -> None:
    pool = AddressPool(
        AddressPlan(
            IPv4Interface("10.0.0.1/16"), ((int(IPv4Interface("10.0.0.1").ip), int(IPv4Interface("10.0.255.254").ip)),)
        )
    )
    for number in numbers:
        before = pool.cursor
        fresh = mac(number) not in pool.owned
        pool.choose(mac(number), None, None, 0)
        assert pool.cursor - before <= (2 if fresh else 0)


def test_a_plan_contains_its_addresses() -> None:
    assert PLAN.gateways() == ("10.1.2.1", "fd42::1")
    assert PLAN.holds(nic(1, "10.1.2.9", "fd42::9")) and PLAN.holds(nic(1, None))
    assert not PLAN.holds(nic(1, "10.1.3.9")) and not AddressPlan().holds(nic(1, "10.1.2.9"))
    assert PLAN.prefixed(nic(1, "10.1.2.9", "fd42::9")) == ("10.1.2.9/24", "fd42::9/64")


def test_one_that_rests_holds_no_address_but_gets_its_own_again() -> None:
    pool = AddressPool(PLAN)
    first, _ = pool.choose(mac(1), None, None, 0)
    pool.rest(mac(1))
    second, _ = pool.choose(mac(2), None, None, 0)
    assert second != first, "an address that may be wanted again is chosen last"
    assert pool.choose(mac(1), None, None, 0)[0] == first
    pool.rest(mac(1))
    pool.choose(mac(3), first, None, 0)
    assert pool.choose(mac(1), None, None, 0, before=first)[0] not in (None, first, second)


def test_one_that_is_created_is_told_an_address_as_long_as_there_are_some() -> None:
    pool = AddressPool(PLAN)
    told = [pool.choose(mac(number), None, None, 0, resting=True)[0] for number in range(300)]
    assert len(set(told[:253])) == 253 and None not in told[:253] and not any(told[253:])
    started = [pool.choose(mac(number), None, None, 0, before=told[number])[0] for number in range(253)]
    assert started == told[:253]
    with pytest.raises(Exhausted, match="Every IPv4 address"):
        pool.choose(mac(299), None, None, 0)
    pool.rest(mac(7))
    assert pool.choose(mac(299), None, None, 0)[0] == told[7]
    with pytest.raises(Exhausted):
        pool.choose(mac(7), None, None, 0)


def test_what_rests_is_known_again_after_a_restart() -> None:
    pool = AddressPool(PLAN)
    resting = replace(nic(1, None), resting=True, before="10.1.2.2")
    pool.refresh([resting, nic(2, "10.1.2.3")], 0)
    assert pool.choose(mac(3), None, None, 0)[0] == "10.1.2.4"
    assert pool.choose(mac(1), None, None, 0)[0] == "10.1.2.2"
    taken = AddressPool(PLAN)
    taken.refresh([resting, nic(2, "10.1.2.2")], 0)
    assert taken.choose(mac(1), None, None, 0, before="10.1.2.2")[0] == "10.1.2.3"


def test_an_address_that_a_network_gives_no_more_is_not_given_again() -> None:
    pool = AddressPool(PLAN)
    for gone in ("10.9.9.9", "10.1.2.1", "10.1.2.255"):
        assert pool.choose(mac(1), None, None, 0, before=gone)[0] not in (None, gone)
        pool.release(mac(1))
