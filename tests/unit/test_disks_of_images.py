"""Disks with the content of images: found once, read-only, kept while a device or a snapshot has them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import pytest

from isola.devices.checks import check
from isola.devices.uses import had_by
from isola.errors import Forbidden, InUse, InvalidInput, NotFound
from isola.instances.copy import Source
from isola.model.device import DeviceState
from isola.model.image import Image
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate
from isola.model.project import Project
from isola.model.reference import Kind, Ref
from isola.projects import restrictions
from isola.testing.parts import World

WEB = Ref.default("web")
TOOLS: Mapping[str, str] = {"type": "disk", "source": "image:tools", "path": "/tools"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Images ``tools`` and ``later``."""
    world = World()
    await world.start()
    await world.import_image()
    await world.import_image("tools", version="1")
    await world.import_image("later", version="2")
    yield world
    world.forget()


def image(world: World, name: str) -> Image:
    found = world.parts.services.images.resolve(Ref.default(name))
    assert found is not None
    return found


def instance(world: World, name: str = "web") -> Instance:
    return world.parts.services.instances.get(Ref.default(name))


def mounted(world: World, name: str = "web") -> str:
    """The fingerprint that is recorded."""
    return instance(world, name).plugged["tools"].facts["image"]


async def set_devices(world: World, ref: Ref = WEB, **devices: Mapping[str, str]) -> None:
    def decide(found: Instance) -> InstanceUpdate:
        kept = {name: each for name, each in found.devices.items() if name != "tools"}
        return InstanceUpdate(config=found.config, devices={**kept, **devices}, profiles=found.profiles)

    await world.finish(world.parts.services.instances.update(ref, decide))


async def delete_image(world: World, name: str) -> None:
    await world.finish(world.parts.services.images.start_delete(image(world, name).ref))


async def move_name(world: World) -> None:
    """``tools`` stands for another image."""
    await world.parts.services.images.point_alias(Ref.default("tools"), image(world, "later").fingerprint)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"readonly": "false"}, "readonly"),
        ({"raw.mount.options": "nosuid,rw"}, "raw.mount.options"),
        ({"pool": "default"}, "pool"),
        ({"shift": "true"}, "shift"),
        ({"size": "1MiB"}, "size"),
        ({"copy": "true"}, "copy"),
        ({"source": "image:"}, "source"),
        ({"source": "image:a b"}, "source"),
        ({"source": "image:a\nb"}, "source"),
        ({"source": f"image:{'a' * 600}"}, "source"),
        ({"subpath": "../etc"}, "subpath"),
        ({"subpath": "/etc"}, "subpath"),
        ({"path": ""}, "path"),
    ],
)
def test_what_such_a_disk_cannot_have_is_refused(config: Mapping[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        check({"tools": {**TOOLS, **config}})
    assert caught.value.field == f"devices.tools.{field}"


def test_what_it_can_have() -> None:
    check({"tools": {**TOOLS, "subpath": "usr/bin", "readonly": "true", "raw.mount.options": "nosuid,noexec,ro"}})
    check({"tools": {**TOOLS, "source": "image:docker.io/library/alpine:3.20"}})


async def test_it_is_read_only_inside_and_keeps_its_image(world: World) -> None:
    await world.create("web", start=True, devices={"tools": TOOLS})
    first = image(world, "tools").fingerprint
    graft = world.host.guest_mounts.grafts[-1]
    assert "/tools" in world.on_host("web").mounts.values()
    assert mounted(world) == first and graft.read_only and graft.source is not None
    assert not [each for each in await world.host.mounts.below(world.directory) if ".shown" in str(each)]
    await move_name(world)
    await world.finish(world.parts.services.instances.stop(WEB, force=True))
    await world.finish(world.parts.services.instances.start(WEB))
    assert mounted(world) == first, "the name means another image by now"
    await set_devices(world)
    await set_devices(world, tools=TOOLS)
    assert mounted(world) == image(world, "later").fingerprint, "removed and added again"


async def test_another_subpath_is_of_the_same_image(world: World) -> None:
    await world.create("web", start=True, devices={"tools": TOOLS})
    first = mounted(world)
    await move_name(world)
    await set_devices(world, tools={**TOOLS, "subpath": "etc"})
    assert mounted(world) == first


async def test_an_image_stays_while_a_disk_has_its_content(world: World) -> None:
    await world.create("web", devices={"tools": TOOLS})
    with pytest.raises(InUse, match="Disks have the content of image") as caught:
        await delete_image(world, "tools")
    assert "instance web" in str(caught.value.evidence)
    held = image(world, "tools")
    with pytest.raises(InUse):  # as the deletion commits, if the instance has come since it has looked
        await world.parts.records.images.remove(held.ref.renamed(held.manifest))
    await world.start()  # the references come from the records
    with pytest.raises(InUse):
        await delete_image(world, "tools")
    await set_devices(world)
    await delete_image(world, "tools")
    assert world.parts.services.images.resolve(Ref.default("tools")) is None


async def test_it_stays_while_a_snapshot_has_its_content(world: World) -> None:
    await world.create("web", devices={"tools": TOOLS})
    first, snapshots = mounted(world), world.parts.services.instances.snapshots
    await world.finish(snapshots.create(WEB, "snap0"))
    await set_devices(world)
    with pytest.raises(InUse) as caught:
        await delete_image(world, "tools")
    assert "instance snapshot web/snap0" in str(caught.value.evidence)
    await move_name(world)
    await world.finish(snapshots.restore(WEB, "snap0"))
    assert mounted(world) == first, "that of the snapshot, not of the name"
    await set_devices(world)
    await world.finish(snapshots.delete(WEB, "snap0"))
    await world.finish(world.parts.services.images.start_delete(Ref.default(first)))


async def test_a_copy_has_the_same_image(world: World) -> None:
    await world.create("web", devices={"tools": TOOLS})
    await move_name(world)
    request = InstanceRequest(name="copy", devices={"tools": TOOLS}, isolation=world.isolation)
    await world.finish(world.parts.services.instances.copy(Source(WEB), request))
    assert mounted(world, "copy") == mounted(world) != image(world, "tools").fingerprint


async def test_an_image_without_a_name_that_a_disk_has_is_not_dropped(world: World) -> None:
    await world.create("web", devices={"tools": TOOLS})
    held = image(world, "tools")
    await world.parts.services.images.remove_alias(Ref.default("tools"))
    await world.parts.services.images.drop(held)
    assert world.parts.services.images.resolve(held.ref) == held


async def test_an_unknown_image_is_refused_before_anything_is_made(world: World) -> None:
    with pytest.raises(NotFound, match="'nope' not found") as caught:
        await world.create("web", devices={"tools": {**TOOLS, "source": "image:nope"}})
    assert caught.value.field == "devices.tools.source"
    assert not [each for each in world.parts.services.instances if each.name == "web"]


def test_references_are_those_of_the_home_of_images() -> None:
    state = DeviceState("disk", TOOLS).with_facts(image="f00")
    (entity,) = had_by(lambda project, kind: f"home of {project} for {kind}", "blue", {"tools": state})
    assert (entity.kind, entity.project, entity.names) == (Kind.IMAGE, "home of blue for image", ("f00",))


@pytest.mark.parametrize(("rule", "fine"), [("managed", True), ("allow", True), ("block", False)])
def test_restricted_projects_may_have_them_as_they_may_have_volumes(rule: str, fine: bool) -> None:
    config = {"restricted": "true", "restricted.devices.disk": rule, "restricted.devices.disk.paths": "/srv"}
    project, devices = Project("blue", config=config), {"tools": TOOLS}
    if fine:
        restrictions.check(project, {}, devices)
        return
    with pytest.raises(Forbidden):
        restrictions.check(project, {}, devices)
