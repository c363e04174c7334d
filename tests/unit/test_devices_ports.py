"""Published ports of all instances in one process: hand-over, restarts, errors."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.devices.port_forwarder import PortForwarder
from isola.errors import HostFailure
from isola.host.published.message import Address, Endpoint, Request, read_request
from isola.host.published.shares import MOST, Shares
from isola.testing.host import FakeHost, fake_host
from isola.testing.port_forwarder import is_port_forwarder

WEB: Endpoint = ("tcp", "::", 80)
TLS: Endpoint = ("tcp", "::", 443)
OLD: Address = ("10.0.0.2", 80)
NEW: Address = ("10.0.0.3", 80)


@pytest.fixture
def host() -> FakeHost:
    return fake_host()


@pytest.fixture
async def ports(host: FakeHost) -> AsyncIterator[PortForwarder]:
    made = PortForwarder(host, Path("/isola/ports"))
    yield made
    made.leave()


def processes(host: FakeHost) -> list[int]:
    return [each.ref.pid for each in host.processes.running if is_port_forwarder(each.call)]


async def test_one_process_for_all_and_none_without_ports(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("a/web", {WEB: OLD})
    await ports.publish("b/tls", {TLS: NEW})
    assert len(processes(host)) == 1
    assert host.published.ports == {WEB: ("a/web", OLD), TLS: ("b/tls", NEW)}
    await ports.drop("a/web")
    assert host.published.ports == {TLS: ("b/tls", NEW)} and len(processes(host)) == 1
    await ports.drop("b/tls")
    assert not processes(host)


async def test_ports_are_handed_over_in_one_request(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("old/web", {WEB: OLD, TLS: OLD})
    seen = len(host.published.requests)
    await ports.hand_over({"new/web": {WEB: NEW}}, ["old/web"])
    assert host.published.ports == {WEB: ("new/web", NEW)}
    (request,) = host.published.requests[seen:]
    assert request.yields == {"old/web", "new/web"} and not request.drop, "connections would end"


async def test_a_taken_port_changes_nothing(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("a/web", {WEB: OLD})
    host.published.taken.add(TLS)
    for attempt in (
        ports.publish("a/web", {WEB: NEW, TLS: NEW}),
        ports.publish("b/web", {WEB: NEW}),
        ports.hand_over({"b/web": {TLS: NEW}}, ["a/web"]),
    ):
        with pytest.raises(HostFailure) as caught:
            await attempt
        assert "Address already in use" in caught.value.evidence
        assert host.published.ports == {WEB: ("a/web", OLD)}


async def test_a_process_that_dies_is_replaced_with_all_ports(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("a/web", {WEB: OLD})
    await ports.hand_over({"b/web": {WEB: NEW}}, ["a/web"])
    (first,) = processes(host)
    host.processes.kill(first, signal.SIGKILL)
    await ports.publish("c/tls", {TLS: OLD})
    (second,) = processes(host)
    assert second != first
    assert host.published.ports == {WEB: ("b/web", NEW), TLS: ("c/tls", OLD)}


async def test_the_next_daemon_finds_it(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("a/web", {WEB: OLD})
    ports.leave()
    before, found = processes(host), PortForwarder(host, Path("/isola/ports"))
    await found.publish("a/web", {WEB: OLD})
    assert processes(host) == before and await found.listening() == {WEB: ("a/web", OLD)}
    await found.drop("a/web")
    assert not processes(host)


async def test_one_with_another_language_is_replaced(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("a/web", {WEB: OLD})
    ports.leave()
    (first,) = processes(host)
    call = host.processes.table[first].call
    call.argv = (*call.argv[:-1], "0")
    after = PortForwarder(host, Path("/isola/ports"))
    await after.publish("a/web", {WEB: OLD})
    assert processes(host) != [first] and host.published.ports == {WEB: ("a/web", OLD)}
    await after.drop("a/web")


async def test_ports_of_nobody_are_taken_on_demand_only(host: FakeHost, ports: PortForwarder) -> None:
    await ports.publish("gone/web", {WEB: OLD})
    with pytest.raises(HostFailure):
        await ports.publish("a/web", {WEB: NEW})
    await ports.publish("a/web", {WEB: NEW}, take=True)
    assert host.published.ports == {WEB: ("a/web", NEW)}


def test_requests_are_read_as_they_were_written() -> None:
    request = Request()
    request.yields, request.drop, request.take = {"a/web"}, {"b/dns"}, True
    request.listen = [("c/web", ("udp", "fd00::1", 53), ("10.0.0.2", 5353))]
    read = read_request(request.text())
    assert (read.yields, read.drop, read.take, read.listen, read.listing) == (
        request.yields, request.drop, True, request.listen, False
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "apply", "listen\ta\napply\n", "listen\ta\tsctp\t::\t1\tx\t2\napply\n", "x\n"])
def test_nonsense_is_refused(text: str) -> None:
    if text == "apply":
        assert not read_request(text).listen
        return
    with pytest.raises(ValueError):
        read_request(text)


def test_one_owner_cannot_take_the_room_of_others() -> None:
    shares = Shares(100)
    shares.owners = 5
    greedy = 0
    while shares.admits("greedy"):
        shares.take("greedy")
        greedy += 1
    assert greedy == 60  # half of all, and its share of the other half
    for other in ("b", "c", "d", "e"):
        for _ in range(10):
            assert shares.admits(other)
            shares.take(other)
        assert not shares.admits(other)
    shares.release("greedy")
    assert shares.admits("greedy") and shares.total == 99


def test_an_owner_has_a_bound_of_its_own() -> None:
    shares = Shares(10 * MOST)
    for _ in range(MOST):
        assert shares.admits("a")
        shares.take("a")
    assert not shares.admits("a") and shares.admits("b")
