"""Namespaces of the host and of other instances, and instances with the host's ids: where they are allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound, Unsupported, WrongState
from isola.instances.copy import Source
from isola.instances.ranges import holder
from isola.model.confinement import Confinement
from isola.model.identity import PRIVILEGED
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate
from isola.model.network import HostNetwork
from isola.model.profile import Profile
from isola.model.program import Program
from isola.model.project import Project
from isola.model.reference import Ref
from isola.runtimes import DeviceNode, RunSpec, Shareable
from isola.testing.parts import World

PROGRAM = Program(arguments=("/bin/app",))
NETWORK = "isola.namespaces.network"


async def allow(world: World) -> None:
    await world.parts.services.server.update(lambda config: {**config, "security.privileged": "true"})


async def create(world: World, name: str, *, start: bool = True, **config: str) -> Instance:
    keys = {key.replace("__", "."): value for key, value in config.items()}
    return await world.create(name, config=keys, program=PROGRAM, start=start)


def spec(world: World, name: str) -> RunSpec:
    return world.on_host(name).spec


async def change(world: World, name: str, **config: str) -> None:
    def decide(found: Instance) -> InstanceUpdate:
        keys = {key.replace("__", "."): value for key, value in config.items()}
        return InstanceUpdate(keys, found.devices, found.profiles)

    await world.finish(world.parts.services.instances.update(Ref.default(name), decide))


def claims(world: World, base: int) -> str | None:
    return world.host.id_ranges.held.get(base)


# --- other instances ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["name", "id"])
async def test_a_network_is_joined_with_the_ids_of_its_owner(world: World, by: str) -> None:
    db = await create(world, "db")
    keys = {NETWORK: f"container:{db.name if by == 'name' else db.id}"}
    web = await world.create("web", config=keys, program=PROGRAM, start=True)
    assert web.idmap == db.idmap and not world.context.nics.of(web)
    assert spec(world, "web").network == spec(world, "db").network == world.context.networks.namespaces.place(db.id)
    assert spec(world, "web").files == spec(world, "db").files
    assert spec(world, "web").hostname == "db"
    _, devices = world.parts.services.instances.expanded(web)
    assert "eth0" not in devices


async def test_more_namespaces_are_joined_with_the_network(world: World) -> None:
    db = await create(world, "db")
    joined = {f"isola.namespaces.{kind}": "container:db" for kind in ("network", "pid", "ipc")}
    await world.create("web", config=joined, program=PROGRAM, start=True)
    assert spec(world, "web").shares == {Shareable.PID: db.id, Shareable.IPC: db.id}


@pytest.mark.parametrize("kind", ["pid", "ipc", "uts"])
async def test_namespaces_are_joined_beside_a_network_of_its_own(world: World, kind: str) -> None:
    db = await create(world, "db", start=False)
    key = f"isola.namespaces.{kind}"
    with pytest.raises(WrongState, match="'db', whose namespaces are to be joined, does not run"):
        await world.create("web", config={key: "container:db"}, program=PROGRAM, start=True)
    await world.finish(world.parts.services.instances.start(db.ref))
    await world.finish(world.parts.services.instances.start(Ref.default("web")))
    web = world.parts.services.instances.get(Ref.default("web"))
    places, beside = world.context.networks.namespaces, world.host.namespaces.beside
    assert spec(world, "web").shares == {Shareable(kind): db.id} and web.idmap == db.idmap
    assert spec(world, "web").network == places.place(web.id) != places.place(db.id) and world.context.nics.of(web)
    assert beside == {places.place(web.id).path: places.place(db.id).path}
    assert claims(world, db.idmap.base) == holder(world.context, db.id)


async def test_namespaces_of_one_in_the_network_of_the_host_are_joined_there(world: World) -> None:
    await allow(world)
    await create(world, "db", isola__namespaces__network="host")
    with pytest.raises(WrongState, match="no network namespace that can be joined"):
        await create(world, "web", isola__namespaces__pid="container:db")
    await create(world, "two", isola__namespaces__network="host", isola__namespaces__pid="container:db")
    assert spec(world, "two").network == HostNetwork()


async def test_with_the_ids_of_the_host_a_network_is_made_for_itself(world: World) -> None:
    await allow(world)
    await create(world, "db", security__privileged="true")
    await create(world, "web", security__privileged="true", isola__namespaces__pid="container:db")
    assert not world.host.namespaces.beside
    with pytest.raises(InvalidInput, match="'db' is privileged"):
        await create(world, "two", isola__namespaces__pid="container:db")


async def test_what_does_not_run_cannot_be_joined(world: World) -> None:
    await create(world, "db", start=False)
    with pytest.raises(WrongState, match="'db', whose network is to be joined, does not run"):
        await create(world, "web", isola__namespaces__network="container:db")
    await world.finish(world.parts.services.instances.start(Ref.default("db")))
    await world.finish(world.parts.services.instances.start(Ref.default("web")))


async def test_the_ids_stay_reserved_for_those_that_joined(world: World) -> None:
    db = await create(world, "db", start=False)
    web = await create(world, "web", start=False, isola__namespaces__network="container:db")
    base = db.idmap.base
    assert claims(world, base) == holder(world.context, db.id)
    await world.finish(world.parts.services.instances.delete(db.ref))
    assert claims(world, base) == holder(world.context, web.id)
    assert (await create(world, "other", start=False)).idmap.base != base
    await world.parts.close()
    await world.start()
    assert claims(world, base) == holder(world.context, web.id)
    with pytest.raises(NotFound, match="'db' not found"):
        await world.finish(world.parts.services.instances.start(web.ref))
    await change(world, "web", user__x="1")
    await world.finish(world.parts.services.instances.delete(web.ref))
    assert claims(world, base) is None


async def test_an_instance_with_other_ids_cannot_join_later_but_its_copy_can(world: World) -> None:
    db, web = await create(world, "db"), await create(world, "web", start=False)
    with pytest.raises(WrongState, match="other user ids"):
        await change(world, "web", isola__namespaces__network="container:db")
    request = InstanceRequest(name="two", config={NETWORK: "container:db"})
    await world.finish(world.parts.services.instances.copy(Source(web.ref), request))
    assert world.parts.services.instances.get(Ref.default("two")).idmap == db.idmap


async def test_without_a_network_there_is_none_but_its_own(world: World) -> None:
    web = await create(world, "web", isola__namespaces__network="none")
    assert not world.context.nics.of(web)
    assert spec(world, "web").network == world.context.networks.namespaces.place(web.id)


async def test_devices_come_and_go_in_a_joined_network(world: World) -> None:
    await create(world, "db")
    web = await create(world, "web", isola__namespaces__network="container:db")
    disk = {"type": "disk", "source": "tmpfs:", "path": "/scratch"}

    def decide(found: Instance) -> InstanceUpdate:
        return InstanceUpdate(found.config, {"scratch": disk}, found.profiles)

    await world.finish(world.parts.services.instances.update(web.ref, decide))
    assert "/scratch" in world.on_host("web").mounts.values()
    await world.parts.close()
    await world.start()
    assert not world.host.namespaces.has_network(world.context.networks.namespaces.place(web.id).path)
    await world.finish(world.parts.services.instances.stop(web.ref, force=True))


async def test_after_a_boot_the_owner_of_a_network_starts_first(world: World) -> None:
    await create(world, "a-last", start=False)
    db = await create(world, "z-first", boot__autostart__priority="0")
    joined = {NETWORK: "container:z-first", "boot.autostart.priority": "9"}
    web = await world.create("a-web", config=joined, program=PROGRAM, start=True)
    await world.parts.close()
    world.host.system.boot = "another"
    for each in (web, db):
        await world.runtime.remove(each.id)
        await world.host.namespaces.remove_network(world.context.networks.namespaces.place(each.id).path)
    await world.start()
    assert {web.id, db.id} == set(world.context.live)
    assert spec(world, "a-web").network == spec(world, "z-first").network


# --- the host -------------------------------------------------------------------------------------------------------

OF_HOST = [{f"isola.namespaces.{kind}": "host"} for kind in ("network", "pid", "ipc", "uts")]
REACHING = [
    *OF_HOST,
    {"security.privileged": "true"},
    {"isola.devices.allow": "a *:* rwm"},
    {"isola.devices.host": "true"},
]


@pytest.mark.parametrize("config", REACHING, ids=lambda config: next(iter(config)))
async def test_the_host_is_reached_only_where_the_server_permits_it(world: World, config: dict[str, str]) -> None:
    with pytest.raises(Forbidden, match="gives access to the host"):
        await world.create("web", config=config)
    with pytest.raises(Forbidden, match="gives access to the host"):
        await world.parts.services.profiles.create(Profile("reaching", config=config))
    await world.create("plain")
    if not {"security.privileged", "isola.privileged"} & set(config):
        with pytest.raises(Forbidden):
            await change(world, "plain", **config)
    await allow(world)
    await world.create("web", config=config, program=PROGRAM, start=True)


@pytest.mark.parametrize("config", [*REACHING, {"isola.seccomp": "unconfined"}], ids=lambda config: next(iter(config)))
async def test_a_restricted_project_has_keys_of_its_own(world: World, config: dict[str, str]) -> None:
    await allow(world)
    key = "privilege" if {"security.privileged", "isola.privileged"} & set(config) else "lowlevel"
    projects = world.parts.services.projects
    await projects.create(
        Project("blue", "", {"features.images": "false", "features.profiles": "false", "restricted": "true"})
    )
    with pytest.raises(Forbidden, match=f"restricted.containers.{key}"):
        await world.create("web", config=config, project="blue")
    wanted = f"restricted.containers.{key}"
    await projects.update("blue", lambda found: Project("blue", "", {**found.config, wanted: "allow"}))
    await world.create("web", config=config, project="blue")


async def test_an_instance_in_the_host_s_network_has_its_names(world: World) -> None:
    await allow(world)
    await create(world, "web", isola__namespaces__network="host", isola__namespaces__pid="host")
    found = spec(world, "web")
    assert found.network == HostNetwork() and found.host_namespaces == (Shareable.PID,)
    assert found.hostname == world.host.system.kernel().hostname
    with pytest.raises(WrongState, match="no network namespace that can be joined"):
        await create(world, "two", isola__namespaces__network="container:web")


async def test_names_are_added_to_those_of_the_host(world: World) -> None:
    await allow(world)
    await world.host.files.make_directory(Path("/etc"), mode=0o755)
    await world.host.files.write(Path("/etc/hosts"), b"127.0.0.1 localhost\n192.0.2.1 box")
    await world.host.files.write(Path("/etc/resolv.conf"), b"nameserver 127.0.0.53\n")
    named = {"isola.hostname": "own", "isola.hosts": "extra=192.0.2.7"}
    await world.create("web", config={NETWORK: "host"}, program=PROGRAM, start=True)
    await world.create("two", config={NETWORK: "host"} | named, program=PROGRAM, start=True)
    await world.create("six", config={NETWORK: "host", "isola.dns.servers": "192.0.2.9"}, program=PROGRAM, start=True)
    web, two, six = (spec(world, name) for name in ("web", "two", "six"))
    assert web.files["/etc/hosts"] == "127.0.0.1 localhost\n192.0.2.1 box\n"
    assert web.files["/etc/resolv.conf"] == two.files["/etc/resolv.conf"] == "nameserver 127.0.0.53\n"
    assert (two.hostname, two.files["/etc/hostname"]) == ("own", "own\n")
    assert two.files["/etc/hosts"] == f"{web.files['/etc/hosts']}192.0.2.7\textra\n"
    assert six.files["/etc/resolv.conf"] == "nameserver 192.0.2.9\n"


@pytest.mark.parametrize("kind", ["network", "pid"])
async def test_a_distribution_needs_its_own(world: World, kind: str) -> None:
    await allow(world)
    await world.create("web", config={f"isola.namespaces.{kind}": "host"})
    with pytest.raises(Unsupported, match="with its own init"):
        await world.finish(world.parts.services.instances.start(Ref.default("web")))


async def test_sysctls_of_the_host_s_namespaces_are_refused(world: World) -> None:
    await allow(world)
    keys = {NETWORK: "host", "linux.sysctl.net.core.somaxconn": "7"}
    with pytest.raises(InvalidInput, match=r"no namespace of its own for net\.core\.somaxconn"):
        await world.create("web", config=keys, program=PROGRAM, start=True)


# --- privileged -----------------------------------------------------------------------------------------------------


async def test_a_privileged_instance_has_the_host_s_ids_and_no_claim(world: World) -> None:
    await allow(world)
    web = await create(world, "web", security__privileged="true")
    assert web.idmap == PRIVILEGED and spec(world, "web").idmap == PRIVILEGED
    assert claims(world, 0) is None
    two = await create(world, "two", security__privileged="true")
    assert two.idmap == PRIVILEGED
    await world.parts.close()
    await world.start()
    for each in (web, two):
        await world.finish(world.parts.services.instances.delete(each.ref, force=True))
    assert not world.host.id_ranges.held


async def test_ids_are_chosen_at_creation_and_changed_by_a_copy(world: World) -> None:
    await allow(world)
    web = await create(world, "web", start=False)
    with pytest.raises(WrongState, match="other user ids"):
        await change(world, "web", security__privileged="true")
    request = InstanceRequest(name="two", config={"security.privileged": "true"})
    await world.finish(world.parts.services.instances.copy(Source(web.ref), request))
    two = world.parts.services.instances.get(Ref.default("two"))
    assert two.idmap == PRIVILEGED
    with pytest.raises(WrongState, match="other user ids"):
        await change(world, "two")
    request = InstanceRequest(name="three", config={"security.privileged": "false"})
    await world.finish(world.parts.services.instances.copy(Source(two.ref), request))
    assert world.parts.services.instances.get(Ref.default("three")).idmap != PRIVILEGED


async def test_joining_a_privileged_instance_needs_the_same_privilege(world: World) -> None:
    await allow(world)
    await create(world, "web", security__privileged="true")
    with pytest.raises(InvalidInput, match="'web' is privileged"):
        await create(world, "two", isola__namespaces__network="container:web")
    await create(world, "two", isola__namespaces__network="container:web", security__privileged="true")


async def test_a_profile_cannot_change_the_ids_of_its_users(world: World) -> None:
    await allow(world)
    services = world.parts.services
    default = services.profiles.get(Ref.default("default"))
    await services.profiles.create(Profile("more", "", {}, default.devices))
    await world.create("web", profiles=("more",))
    with pytest.raises(IsolaError, match="other user ids"):
        await services.profiles.update(
            Ref.default("more"), lambda found: Profile("more", "", {"security.privileged": "true"}, default.devices)
        )


async def test_all_devices_of_the_host_exist_inside(world: World) -> None:
    await allow(world)
    await create(world, "web", isola__devices__host="true", isola__devices__allow="a *:* rwm")
    assert DeviceNode("/dev/kvm", "c", 10, 232, 0o660) in spec(world, "web").devices
    assert spec(world, "web").confinement.device_rules == ("a *:* rwm",)


async def test_one_key_takes_away_all_confinement(world: World) -> None:
    await allow(world)
    web = await create(world, "web", isola__privileged="true", isola__capabilities__drop="ALL")
    found = spec(world, "web")
    assert web.idmap == found.idmap == PRIVILEGED and found.devices
    assert found.confinement == Confinement(("ALL",), (), False, "unconfined", (), (), ("a *:* rwm",))
    filter = '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": []}'
    await create(world, "two", isola__privileged="true", isola__seccomp=filter, isola__no_new_privileges="true")
    assert spec(world, "two").confinement == Confinement(("ALL",), (), True, filter, (), (), ("a *:* rwm",))
