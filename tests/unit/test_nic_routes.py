"""Static routes, priorities and queues of NICs, on a fake host: started, changed while it runs, stopped, refused."""

from __future__ import annotations

from typing import Any

import pytest
from rest_door import Stand

from isola.devices.filters import Filter, bridge_table, routed_table
from isola.errors import Forbidden
from isola.host.static_routes import Route
from isola.model.project import Project
from isola.model.reference import Ref
from isola.projects.restrictions import check

WEB = "/1.0/instances/web1"


def nic(**keys: str) -> dict[str, dict[str, str]]:
    return {
        "eth0": {"type": "nic", "network": "isolabr0"} | {key.replace("_", "."): text for key, text in keys.items()}
    }


async def static(stand: Stand) -> dict[str, Route]:
    return dict(stand.world.host.links.static)


async def change(stand: Stand, devices: dict[str, Any]) -> Any:
    status, answer = await stand.ask("PATCH", WEB, {"devices": devices})
    if status != 202:
        return answer
    return await stand.get(f"{answer['operation']}/wait")


async def test_routes_follow_a_bridged_nic(stand: Stand) -> None:
    routes = {"ipv4_routes": "192.0.2.0/28, 198.51.100.7", "ipv6_routes": "2001:db8:7::/64"}
    await stand.create("web1", start=True, devices=nic(**routes))
    facts = stand.services.instances.get(Ref.default("web1")).plugged["eth0"].facts
    ((pair, _),) = stand.world.host.links.inside.values()
    bridge = pair.bridge
    assert await static(stand) == {
        "192.0.2.0/28": Route("192.0.2.0/28", bridge, facts["ipv4"]),
        "198.51.100.7/32": Route("198.51.100.7/32", bridge, facts["ipv4"]),
        "2001:db8:7::/64": Route("2001:db8:7::/64", bridge, facts["ipv6"]),
    }
    link = facts_link(stand)
    assert (await change(stand, nic(ipv4_routes="192.0.2.0/28,203.0.113.0/24")))["status_code"] == 200
    assert set(await static(stand)) == {"192.0.2.0/28", "203.0.113.0/24"}
    assert facts_link(stand) == link, "the NIC stayed connected"
    await stand.finish("PUT", f"{WEB}/state", {"action": "stop", "force": True})
    assert await static(stand) == {}


def facts_link(stand: Stand) -> list[str]:
    return sorted(pair.host for pair, _ in stand.world.host.links.inside.values())


async def test_a_change_that_fails_leaves_the_routes_of_before(stand: Stand) -> None:
    await stand.create("web1", start=True, devices=nic(ipv4_routes="192.0.2.0/28"))
    before = await static(stand)
    links = stand.world.host.links
    await links.add_routes([Route("203.0.113.0/24", "eth0")])
    answer = await change(stand, nic(ipv4_routes="198.51.100.0/24,203.0.113.0/24"))
    assert "203.0.113.0/24 already" in str(answer), str(answer)
    assert await static(stand) == before | {"203.0.113.0/24": Route("203.0.113.0/24", "eth0")}
    await stand.finish("PUT", f"{WEB}/state", {"action": "stop", "force": True})
    assert await static(stand) == {"203.0.113.0/24": Route("203.0.113.0/24", "eth0")}


async def test_what_cannot_be_routed_is_refused(stand: Stand) -> None:
    await stand.create("web1", start=True, devices=nic(ipv4_routes="192.0.2.0/28"))
    bare = {"name": "bare", "config": {"ipv4.address": "none", "ipv6.address": "none"}}
    assert (await stand.ask("POST", "/1.0/networks", bare))[0] == 201
    await stand.create("web2")
    for devices, error in (
        (nic(ipv4_routes="192.0.2.0/28"), "routed to another NIC already"),
        ({"eth0": {"type": "nic", "network": "bare", "ipv6.routes": "2001:db8::/64"}}, "has no IPv6 address"),
        (nic(ipv4_routes="0.0.0.0/0"), "cannot be one of them"),
        (nic(ipv4_routes="127.0.0.0/16"), "cannot be one of them"),
        (nic(ipv6_routes="fe80::/64"), "cannot be one of them"),
        (nic(ipv4_routes=",".join(f"192.0.2.{number}" for number in range(65))), "up to 64"),
        (nic(limits_priority="-1"), "limits.priority"),
        (nic(queue_tx_length="0"), "queue.tx.length"),
    ):
        status, answer = await stand.ask("PATCH", "/1.0/instances/web2", {"devices": devices})
        if status == 202:
            answer = await stand.get(f"{answer['operation']}/wait")
            assert error in answer["err"], (devices, answer)
        else:
            assert status in {400, 409} and error in answer["error"], (devices, answer)


async def test_priorities_are_set_changed_and_removed(stand: Stand) -> None:
    firewall = stand.world.host.firewall
    await stand.create("web1", start=True, devices=nic(limits_priority="5", queue_tx_length="50"))
    ((pair, _),) = stand.world.host.links.inside.values()
    assert pair.queue == 50
    (table,) = [table for table, body in firewall.bridges.items() if "meta priority set 0:5" in body]
    assert f'iifname "{pair.bridge}" ether saddr {pair.mac} meta priority set 0:5' in firewall.bodies[table]
    assert (await change(stand, nic(limits_priority="65537", queue_tx_length="50")))["status_code"] == 200
    assert "set 1:1" in firewall.bridges[table] and "set 1:1" in firewall.bodies[table]
    assert (await change(stand, nic(queue_tx_length="50")))["status_code"] == 200
    assert table not in firewall.bridges and table not in firewall.bodies
    assert (await change(stand, nic(limits_priority="5", queue_tx_length="50")))["status_code"] == 200
    await stand.finish("PUT", f"{WEB}/state", {"action": "stop", "force": True})
    assert table not in firewall.bridges and table not in firewall.bodies


def test_filters_let_pass_what_is_routed() -> None:
    body = bridge_table(Filter("is1", "0a:69:73:00:00:01", ipv6=("fd42::9",), subnets6=("2001:db8::/64",)))
    (rule,) = [line for line in body.splitlines() if "ip6 saddr != {" in line]
    assert "2001:db8::/64" in rule and "fd42::9" in rule
    (chain,) = [part for part in body.split("chain ") if part.startswith("own_target")]
    assert "2001" not in chain, "neighbours are told of its own addresses alone"
    assert "hook forward" in routed_table(Filter("is1", priority=3))
    assert "hook forward" not in routed_table(Filter("is1", rate=10**6))


@pytest.mark.parametrize(
    ("rules", "keys", "refused"),
    [
        ({}, {"ipv4.routes": "192.0.2.0/30"}, "restricted.networks.subnets"),
        ({"restricted.networks.subnets": "isolabr0:192.0.2.0/28"}, {"ipv4.routes": "192.0.2.0/30"}, ""),
        ({"restricted.networks.subnets": "isolabr0:192.0.2.0/28"}, {"ipv4.routes": "192.0.2.0/27"}, "subnets"),
        ({"restricted.networks.subnets": "other:192.0.2.0/28"}, {"ipv4.routes": "192.0.2.0/30"}, "subnets"),
        ({"restricted.networks.subnets": "isolabr0:2001:db8::/48"}, {"ipv6.routes": "2001:db8::/64"}, ""),
        ({"restricted.networks.subnets": "isolabr0:2001:db8::/48"}, {"ipv4.routes": "192.0.2.0/30"}, "subnets"),
        ({}, {"limits.priority": "7"}, "restricted.devices.nic"),
        ({"restricted.devices.nic": "allow"}, {"limits.priority": "7", "ipv4.routes": "192.0.2.0/30"}, ""),
    ],
)
async def test_restricted_projects(stand: Stand, rules: dict[str, str], keys: dict[str, str], refused: str) -> None:
    config = {"features.profiles": "false", "features.images": "false", "restricted": "true", **rules}
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue", "config": config}))[0] == 201
    body = {"name": "web1", "source": {"type": "none"}, "devices": {"eth0": nic()["eth0"] | keys}}
    status, answer = await stand.ask("POST", "/1.0/instances?project=blue", body)
    assert status == (403 if refused else 202), answer
    assert refused in answer.get("error", "")


@pytest.mark.parametrize("kept", ["lan", "", ":", "lan:x"])
def test_subnets_that_an_earlier_version_accepted_allow_none(kept: str) -> None:
    project = Project("blue", config={"restricted": "true", "restricted.networks.subnets": kept})
    with pytest.raises(Forbidden, match="A route to"):
        check(project, {}, {"eth0": {"type": "nic", "network": "lan", "ipv4.routes": "192.0.2.0/28"}})
    check(project, {}, {"eth0": {"type": "nic", "network": "lan"}})
