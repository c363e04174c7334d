"""Kinds of isolation: how one is chosen, what is said where it is missing, and moves from one to another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from memory_audit import differences

from isola.cli.commands.create import ISOLATIONS as CHOICES
from isola.daemon.build import Drivers
from isola.errors import DriverUnavailable, Forbidden, InvalidInput, IsolaError, Unsupported, WrongState
from isola.host import Host
from isola.instances.move import Destination
from isola.model.instance import Instance, Status
from isola.model.isolation import ISOLATIONS, nearest, type_of
from isola.model.probe import Probe
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Ref
from isola.runtimes import Capability, Lack, Machine, RootKind, RuntimeCapabilities
from isola.testing.parts import World
from isola.testing.vm import FakeVm

WEB = Ref.default("web1")
ROOT = {"root": {"type": "disk", "path": "/", "pool": "default"}}


class Broken(FakeVm):
    """Its hypervisor is not installed."""

    capabilities: ClassVar[RuntimeCapabilities] = RuntimeCapabilities(
        isolations=frozenset({"vm"}),
        shares_kernel=False,
        root=RootKind.DISKS,
        machine=Machine(1 << 30),
        lacks={Capability.MOUNTS: Lack("It has disks of its own")},
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """With the reason."""
        return Probe(False, reason="qemu is missing", remedy="install qemu-system-x86")


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(more=Drivers({"fakevm": FakeVm, "broken": Broken}))
    await world.start()
    await world.import_image()
    yield world
    world.forget()


async def create(world: World, **wanted: object) -> Instance:
    return await world.create("web1", **{"isolation": ""} | wanted)  # type: ignore[arg-type]


async def profile(world: World, **config: str) -> None:
    await world.parts.services.profiles.update(
        Ref.default("default"), lambda found: Profile(found.name, "", config, {**found.devices, **ROOT})
    )


def test_the_command_line_offers_all_kinds() -> None:
    assert tuple(ISOLATIONS) == CHOICES


@pytest.mark.parametrize(
    ("wanted", "offered", "found"),
    [
        ("vm", ("container", "microvm"), "microvm"),
        ("sandbox", ("container", "microvm"), "microvm"),
        ("microvm", ("container", "sandbox"), "sandbox"),
        ("microvm", ("unikernel", "container"), "container"),
        ("unikernel", ("vm", "container"), None),
        ("vm", (), None),
        ("nothing", ("container",), None),
    ],
)
def test_the_nearest_wall(wanted: str, offered: tuple[str, ...], found: str | None) -> None:
    assert nearest(wanted, offered) == found


async def test_a_container_by_default(world: World) -> None:
    found = await create(world)
    assert (found.isolation, found.runtime, found.type) == ("container", "fake", "container")


async def test_profiles_choose_and_requests_override_them(world: World) -> None:
    await profile(world, **{"isola.isolation": "microvm"})
    assert ((await create(world)).isolation, type_of("microvm")) == ("microvm", "container")
    assert (await world.create("web2", isolation="container")).isolation == "container"


async def test_a_runtime_stands_for_its_isolation(world: World) -> None:
    assert (await create(world, runtime="fakevm")).isolation == "microvm"


@pytest.mark.parametrize(
    ("wanted", "kind", "named"),
    [
        ({"isolation": "sandbox"}, Unsupported, ("sandbox", "'microvm'")),
        ({"isolation": "vm"}, DriverUnavailable, ("qemu is missing", "install qemu-system-x86", "'microvm'")),
        ({"type": "virtual-machine"}, DriverUnavailable, ("'vm'", "qemu is missing", "'microvm'")),
        ({"isolation": "unikernel"}, Unsupported, ("unikernel",)),
        ({"isolation": "wall"}, InvalidInput, tuple(ISOLATIONS)),
        ({"type": "virtual-machine", "isolation": "microvm"}, InvalidInput, ("virtual-machine", "microvm")),
        ({"type": "pod"}, InvalidInput, ("container or virtual-machine",)),
        ({"runtime": "fakevm", "isolation": "container"}, Unsupported, ("microvm",)),
    ],
)
async def test_what_is_not_offered_says_why_and_what_is_nearest(
    wanted: dict[str, object], kind: type[IsolaError], named: tuple[str, ...], world: World
) -> None:
    with pytest.raises(kind) as caught:
        await create(world, **wanted)
    assert [word for word in named if word not in str(caught.value)] == []
    assert not len(world.parts.services.instances)


async def test_the_types_of_virtual_machines_override_profiles_of_containers(world: World) -> None:
    await profile(world, **{"isola.isolation": "microvm"})
    with pytest.raises(DriverUnavailable, match="'vm'"):
        await create(world, type="virtual-machine")


@pytest.mark.parametrize(
    "config",
    [
        {"isola.namespaces.network": "host"},
        {"isola.seccomp": "unconfined"},
        {"isola.capabilities.add": "NET_ADMIN"},
        {"security.privileged": "true"},
    ],
)
async def test_keys_without_effect_behind_a_wall_are_refused_before_anything_happens(
    config: dict[str, str], world: World
) -> None:
    await world.parts.services.server.update(lambda found: {**found, "security.privileged": "true"})
    (key,) = config
    with pytest.raises(Unsupported, match=rf"{key}.*isolation 'container' can do this") as caught:
        await create(world, isolation="microvm", config=config)
    assert caught.value.field == f"config.{key}"
    assert not await differences(world) and not len(world.parts.services.instances)


async def test_keys_are_refused_in_updates_and_profiles(world: World) -> None:
    await create(world, isolation="microvm", start=True)
    instances = world.parts.services.instances
    with pytest.raises(Unsupported, match=r"isola\.seccomp"):
        await profile(world, **{"isola.seccomp": "unconfined"})
    assert "isola.seccomp" not in instances.expanded(instances.get(WEB))[0]


async def test_guests_with_memory_of_their_own_always_have_a_size(world: World) -> None:
    await create(world, isolation="microvm", start=True)
    limits = world.parts.services.runtimes.find("fakevm").instances[world.parts.services.instances.get(WEB).id].limits  # type: ignore[attr-defined]
    assert (limits.memory, limits.vcpus) == (256 << 20, 1)
    other = await world.create("two", isolation="microvm", config={"limits.memory": "1GiB", "limits.cpu": "3"})
    await world.finish(world.parts.services.instances.start(other.ref))
    limits = world.parts.services.runtimes.find("fakevm").instances[other.id].limits  # type: ignore[attr-defined]
    assert (limits.memory, limits.vcpus) == (1 << 30, 3)


async def test_a_stopped_instance_moves_behind_another_wall_and_back(world: World) -> None:
    before = await create(world, start=True)
    instances = world.parts.services.instances
    with pytest.raises(WrongState):
        await world.finish(instances.move(WEB, Destination(WEB, isolation="microvm")))
    await world.finish(instances.stop(WEB))
    await world.finish(instances.move(WEB, Destination(WEB, isolation="microvm")))
    there = instances.get(WEB)
    assert (there.isolation, there.runtime) == ("microvm", "fakevm")
    assert (there.id, there.idmap, there.plugged) == (before.id, before.idmap, before.plugged)
    await world.finish(instances.start(WEB))
    assert instances.status(there) is Status.RUNNING
    await world.finish(instances.stop(WEB))
    await world.finish(instances.move(WEB, Destination(WEB, runtime="fake")))
    assert instances.get(WEB).isolation == "container"
    assert not await differences(world)


@pytest.mark.parametrize(
    ("isolation", "named"),
    [("vm", "another kind of root"), ("sandbox", "'microvm'"), ("wall", "There is no isolation")],
)
async def test_a_wall_that_it_cannot_have_changes_nothing(isolation: str, named: str, world: World) -> None:
    before = await create(world)
    with pytest.raises(IsolaError, match=named):
        await world.finish(world.parts.services.instances.move(WEB, Destination(WEB, isolation=isolation)))
    assert world.parts.services.instances.get(WEB) == before


async def test_what_the_new_wall_cannot_have_is_named_before_the_move(world: World) -> None:
    device = {"kvm": {"type": "unix-char", "source": "/dev/kvm", "required": "false"}}
    before = await create(world, devices=device)
    instances = world.parts.services.instances
    with pytest.raises(Unsupported, match=r"'kvm' cannot be attached.*isolation 'container' can do this"):
        await world.finish(instances.move(WEB, Destination(WEB, isolation="microvm")))
    assert instances.get(WEB) == before and not await differences(world)


async def test_the_key_of_an_instance_follows_its_move_and_does_not_move_it(world: World) -> None:
    await create(world, config={"isola.isolation": "container"})
    instances = world.parts.services.instances
    await world.finish(instances.move(WEB, Destination(WEB, isolation="microvm")))
    assert instances.get(WEB).config["isola.isolation"] == "microvm"
    with pytest.raises(InvalidInput, match="move it"):
        await world.finish(instances.move(WEB, Destination(WEB, config={"isola.isolation": "container"})))


async def test_restricted_projects_choose_among_their_isolations(world: World) -> None:
    projects = world.parts.records.projects
    await projects.change("default", lambda found: Project(found.name, config={
        **found.config, "restricted": "true", "restricted.isolation": "microvm", "restricted.devices.nic": "allow",
    }))  # fmt: skip
    with pytest.raises(Forbidden, match=r"restricted\.isolation"):
        await create(world)
    assert (await create(world, isolation="microvm")).isolation == "microvm"
    with pytest.raises(Forbidden, match=r"restricted\.isolation"):
        await world.finish(world.parts.services.instances.move(WEB, Destination(WEB, isolation="container")))


def test_what_the_server_offers(world: World) -> None:
    found = {
        each.name: (runtime, probe.available) for each, runtime, probe in world.parts.services.runtimes.isolations()
    }
    assert found == {
        "container": ("fake", True),
        "sandbox": ("", False),
        "microvm": ("fakevm", True),
        "vm": ("broken", False),
        "unikernel": ("", False),
    }
