"""Changing instances, stopped and running, over a host in memory."""

from __future__ import annotations

import json

import pytest
from instance_updates import change, update
from instance_verbs import NIC_ONE as NIC
from instance_verbs import ROOT, two_pools
from memory_audit import differences

from isola.errors import IsolaError, WrongState
from isola.host.link_kinds import Inside
from isola.instances.volatile import kept_keys
from isola.model.reference import Ref
from isola.testing.parts import World


async def test_limits_change_while_it_runs(world: World) -> None:
    await world.create("web1", start=True)
    await update(world, config={"limits.memory": "512MiB", "limits.cpu": "1"})
    limits = world.on_host("web1").limits
    assert limits.memory == 512 << 20 and limits.cpus is not None and len(limits.cpus) == 1
    await update(world, config={})
    assert world.on_host("web1").limits.memory is None and not await differences(world)


async def test_bound_cpus_stay_while_their_number_does(world: World) -> None:
    await world.create("web1", start=True, config={"limits.cpu": "1"})
    await world.create("web2", start=True, config={"limits.cpu": "1"})
    bound = [world.on_host(name).limits.cpus for name in ("web1", "web2")]
    assert sorted(cpu for cpus in bound for cpu in cpus or ()) == [0, 1]
    await world.finish(world.parts.services.instances.stop(Ref.default("web1")))
    await update(world, "web2", config={"limits.cpu": "1", "user.x": "1"})
    await world.start()
    assert world.on_host("web2").limits.cpus == bound[1] and not await differences(world)


async def test_nics_are_added_changed_and_removed_while_it_runs(world: World) -> None:
    before = await world.create("web1", start=True)
    second = NIC | {"name": "eth1"}
    await update(world, devices={"eth1": second})
    assert len(world.host.links.inside) == 2 and not await differences(world)
    assert (
        world.parts.services.instances.get(Ref.default("web1")).plugged["eth0"].facts["ipv4"]
        == before.plugged["eth0"].facts["ipv4"]
    )
    await update(world, devices={"eth0": {"type": "none"}, "eth1": second | {"hwaddr": "10:66:6A:00:00:09"}})
    [(pair, _)] = world.host.links.inside.values()
    assert (pair.peer, pair.mac) == ("eth1", "10:66:6a:00:00:09")
    assert not await differences(world)


@pytest.mark.parametrize(
    "nic", [NIC, {"type": "nic", "nictype": "p2p"}, {"type": "nic", "nictype": "macvlan", "parent": "eth0"}]
)
async def test_nics_of_systems_are_brought_up_without_addresses(world: World, nic: dict[str, str]) -> None:
    made = await world.create("web1", start=True, devices={"root": ROOT, "eth0": nic})
    assert made.start.system
    links = world.host.links
    assert [inside for _, inside in (*links.inside.values(), *links.macvlans.values())] == [Inside()]
    assert made.plugged["eth0"].facts["name"] == "eth0"
    assert ("volatile.eth0.name" in kept_keys(made)) == ("name" not in nic)


async def test_a_nic_may_have_any_name(world: World) -> None:
    odd = {
        "disk": ROOT,
        "root": NIC | {"name": "eth1"},
        "eth0.5": NIC | {"name": "eth5"},
        "last_state": NIC | {"name": "a"},
    }
    await world.create("web1", start=True, devices=odd)
    assert len(world.host.links.inside) == 4
    await update(world, devices={"disk": ROOT, "root": {"type": "none"}})
    assert len(world.host.links.inside) == 1
    await world.finish(world.parts.services.instances.restart(Ref.default("web1")))
    assert not await differences(world)


async def test_a_limit_the_host_refuses_changes_nothing(world: World) -> None:
    before = await world.create("web1", start=True, config={"limits.processes": "50"})
    with pytest.raises(IsolaError) as caught:
        await update(world, config={"limits.cpu": "7-9"}, devices={"eth0": NIC | {"hwaddr": "10:66:6a:00:00:09"}})
    assert caught.value.field == "config.limits.cpu"
    assert world.parts.services.instances.get(Ref.default("web1")) == before
    assert world.on_host("web1").limits.processes == 50 and not await differences(world)


async def test_internal_keys_cannot_be_overwritten(world: World) -> None:
    before = await world.create("web1")
    shown = dict(world.parts.services.instances.config(before))
    await update(world, config={**shown, "volatile.eth0.hwaddr": "10:66:6a:66:66:66", "user.x": ""})
    after = world.parts.services.instances.get(Ref.default("web1"))
    assert after.config == {} and after.volatile == before.volatile


@pytest.mark.parametrize("devices", [{}, {"root": ROOT | {"pool": "other"}}])
async def test_the_configuration_of_another_instance_leaves_the_root_in_its_pool(
    world: World, devices: dict[str, dict[str, str]]
) -> None:
    """LXD's clients send this at the end of a refresh; other changes of the pool are refused."""
    await two_pools(world)
    await world.create("web1", devices={"root": ROOT | {"pool": "other" if not devices else "default"}})
    other = await world.create("web2")
    pool = world.parts.services.instances.get(Ref.default("web1")).volatile["root.pool"]
    for uuid in ("", world.parts.services.instances.get(Ref.default("web1")).volatile["uuid"]):
        with pytest.raises(WrongState):
            await update(world, config={"volatile.uuid": uuid} if uuid else {}, devices=devices)
    await update(world, config={"volatile.uuid": other.volatile["uuid"], "user.a": "b"}, devices=devices)
    after = world.parts.services.instances.get(Ref.default("web1"))
    assert (after.devices["root"]["pool"], after.volatile["root.pool"], after.config) == (pool, pool, {"user.a": "b"})


async def test_updating_a_stopped_instance_registers_nics_again(world: World) -> None:
    await world.create("web1")
    await update(world, devices={"eth1": NIC | {"name": "eth1"}}, description="new", ephemeral=True)
    assert not await differences(world)
    await world.finish(world.parts.services.instances.start(Ref.default("web1")))
    assert len(world.host.links.inside) == 2


@pytest.mark.parametrize(
    ("wanted", "code", "field"),
    [
        ({"profiles": ("nope",)}, "not_found", "profiles"),
        ({"config": {"bogus": "1"}}, "invalid", "config.bogus"),
        ({"devices": {"root": {"type": "none"}}}, "invalid", "devices"),
        ({"devices": {"eth0": NIC | {"network": "nope"}}}, "not_found", "devices.eth0.network"),
    ],
)
async def test_invalid_updates_are_refused(wanted: dict[str, object], code: str, field: str, world: World) -> None:
    await world.create("web1", start=True)
    with pytest.raises(IsolaError) as caught:
        world.parts.services.instances.update(Ref.default("web1"), lambda _: change(**wanted))
    assert (caught.value.code, caught.value.field) == (code, field)
    assert not await differences(world)


async def test_nics_of_a_record_of_isola_0_1_are_adopted_changed_and_removed(world: World) -> None:
    """It stored the facts of NICs in the instance's volatile keys, and did not record their configuration."""
    ref = Ref.default("web1")
    before = await world.create("web1", start=True)
    facts = before.plugged["eth0"].facts
    entry = await world.store.get("/instances/default/web1")
    assert entry is not None
    record = json.loads(entry.value)
    del record["plugged"], record["changing"]
    record["volatile"] |= {f"eth0.{fact}": value for fact, value in facts.items()}
    await world.parts.close()
    await world.store.put("/instances/default/web1", json.dumps(record).encode())
    pairs = dict(world.host.links.inside)
    kept = dict(world.host.namespaces.networks)
    world.host.namespaces.networks.clear()  # the engine made it, and no mount kept it
    await world.start()
    assert world.host.namespaces.networks == kept
    assert world.parts.services.instances.get(ref).plugged["eth0"].facts == facts
    assert list(world.host.links.inside) == list(pairs) and not await differences(world)
    # The NIC is not attached again, so connections survive.
    assert all(world.host.links.inside[place] is pair for place, pair in pairs.items())
    await update(world, devices={"eth0": NIC | {"security.mac_filtering": "true"}})
    changed = world.parts.services.instances.get(ref)
    assert changed.plugged["eth0"].facts == facts and "security.mac_filtering" in changed.plugged["eth0"].config
    assert not await differences(world)
    await world.finish(world.parts.services.instances.restart(ref))
    assert not await differences(world)
    await update(world, devices={"eth0": {"type": "none"}})
    assert not world.host.links.inside and not await differences(world)
