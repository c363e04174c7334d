"""Images from instances: on the layers of their image, with one of the changes; and what an instance has changed."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest
from memory_audit import differences
from strike import Fate, Strike

from isola.errors import InvalidInput, NotFound, WrongState
from isola.instances.commit import CommitRequest
from isola.instances.differences import without_mount_points
from isola.model.file_change import ChangeKind, FileChange
from isola.model.image import Image
from isola.model.instance import Instance, Status
from isola.model.reference import Ref
from isola.testing.parts import World

REF = Ref.default("c1")


async def text(content: str) -> AsyncIterator[bytes]:
    yield content.encode()


async def changed(world: World, *, start: bool = False) -> Instance:
    """An instance with two changed files; those of a root in memory are in its upper directory after the unmount."""
    await world.create("c1")
    async with world.parts.services.instances.files(REF) as root:
        await root.write("/etc/hostname", text("other"), uid=0, gid=0, mode=0o644)
        await root.write("/new", text("new"), uid=7, gid=8, mode=0o600)
        await root.remove("/sbin/init")
    if start:
        await world.finish(world.parts.services.instances.start(REF))
    return world.parts.services.instances.get(REF)


async def committed(world: World, **request: object) -> Image:
    operation = world.parts.services.instances.contents.commit(REF, CommitRequest(**request))  # type: ignore[arg-type]
    await world.finish(operation)
    found = world.parts.services.images.resolve(Ref.default(str(operation.metadata["fingerprint"])))
    assert found is not None
    return found


async def test_the_image_shares_the_layers_and_adds_one(world: World) -> None:
    instance = await changed(world)
    image = await committed(world, names=("mine", "mine:2"), author="me", message="why")
    assert image.layers[:-1] == instance.start.blobs
    assert {alias.name for alias in world.parts.services.images.aliases()} >= {"mine", "mine:2"}
    assert (image.properties["os"], image.config.system) == ("Tiny", True)
    config = await world.parts.services.images.configuration(image)
    assert (config.author, config.history[-1].comment, config.history[-1].empty_layer) == ("me", "why", False)
    assert len([each for each in config.history if not each.empty_layer]) == len(image.layers)
    assert not await differences(world)


async def test_the_fingerprint_can_be_that_of_the_export(world: World) -> None:
    await changed(world)
    image, archives = await committed(world, names=("mine",), exported=True), world.parts.services.images.archives
    data = b"".join([piece async for piece in archives.export(image, ["mine"])])
    assert hashlib.sha256(data).hexdigest() == image.fingerprint != image.manifest.removeprefix("sha256:")
    other = await committed(world)
    data = b"".join([piece async for piece in archives.export(other, ["named"])])
    assert b"named" in data and other.manifest == f"sha256:{other.fingerprint}"
    assert not await differences(world)


async def test_an_instance_of_the_image_has_the_files(world: World) -> None:
    await changed(world)
    await committed(world, names=("mine",))
    await world.create("c2", image="mine")
    async with world.parts.services.instances.files(Ref.default("c2")) as root:
        assert b"".join([block async for block in await root.read("/new")]) == b"new"
        assert ((await root.stat("/new")).uid, (await root.stat("/new")).mode) == (7, 0o600)
        with pytest.raises(NotFound):
            await root.stat("/sbin/init")


async def test_without_changes_there_is_no_further_layer(world: World) -> None:
    instance = await world.create("c1")
    image = await committed(world)
    assert image.layers == instance.start.blobs
    assert (await world.parts.services.images.configuration(image)).history[-1].empty_layer


async def test_changes_of_the_configuration_and_what_the_instance_says(world: World) -> None:
    await world.create("c1", config={"environment.A": "1", "user.team": "x"})
    changes = ("ENV B=2", 'CMD ["/bin/other"]', "LABEL a=b", "EXPOSE 80")
    image = await committed(world, changes=changes, properties={"description": "mine"}, public=True)
    assert image.config.environment["A"] + image.config.environment["B"] == "12"
    assert (image.config.command, image.config.exposed_ports) == (("/bin/other",), ("80/tcp",))
    assert (image.config.labels["a"], "team" in image.config.labels) == ("b", False)
    assert (image.properties["description"], image.public) == ("mine", True)


async def test_the_instance_is_frozen_meanwhile(world: World) -> None:
    instance = await changed(world, start=True)
    strike = Strike("Creating image from instance")
    assert isinstance(world.observer, Fate)
    world.observer.strike = strike
    await committed(world)
    assert any("freeze c1" in point for point in strike.points)
    assert world.parts.services.instances.status(instance) is Status.RUNNING
    strike.points.clear()
    await committed(world, pause=False)
    assert not any("freeze" in point for point in strike.points)
    world.observer.strike = None
    assert not await differences(world)


async def test_a_snapshot_is_published_as_it_was(world: World) -> None:
    await changed(world)
    await world.finish(world.parts.services.instances.snapshots.create(REF, "s0"))
    async with world.parts.services.instances.files(REF) as root:
        await root.write("/later", text("x"), uid=0, gid=0, mode=0o644)
    await committed(world, snapshot="s0", names=("then",))
    await world.create("c2", image="then")
    async with world.parts.services.instances.files(Ref.default("c2")) as root:
        await root.stat("/new")
        with pytest.raises(NotFound):
            await root.stat("/later")


async def test_an_instance_whose_image_was_deleted(world: World) -> None:
    instance = await changed(world)
    for image in list(world.parts.services.images):
        await world.finish(world.parts.services.images.start_delete(image.ref))
    image = await committed(world, names=("saved",))
    assert image.config.command == instance.start.command
    await world.create("c2", image="saved")


async def test_what_it_has_changed(world: World) -> None:
    await changed(world)
    found = await world.parts.services.instances.contents.changes(REF)
    assert FileChange("/new", ChangeKind.ADDED) in found
    assert FileChange("/sbin/init", ChangeKind.DELETED) in found
    assert FileChange("/sbin", ChangeKind.MODIFIED) in found


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (CommitRequest(changes=("RUN x",)), InvalidInput),
        (CommitRequest(names=("a b",)), InvalidInput),
        (CommitRequest(snapshot="none"), NotFound),
    ],
)
async def test_impossible_requests_are_refused_at_once(
    request_: CommitRequest, error: type[Exception], world: World
) -> None:
    await world.create("c1")
    with pytest.raises(error):
        world.parts.services.instances.contents.commit(REF, request_)
    with pytest.raises(NotFound):
        world.parts.services.instances.contents.commit(Ref.default("none"), CommitRequest())


async def test_an_instance_that_is_being_deleted(world: World) -> None:
    instance = await world.create("c1")
    await world.parts.records.instances.change(REF, lambda found: found.wanted(type(found.desired).DELETED))
    with pytest.raises(WrongState):
        world.parts.services.instances.contents.commit(instance.ref, CommitRequest())


def test_directories_in_which_only_mount_points_were_made_have_not_changed() -> None:
    def of(*paths: str) -> list[FileChange]:
        known = {"A": ChangeKind.ADDED, "C": ChangeKind.MODIFIED, "D": ChangeKind.DELETED}
        return [FileChange(path[1:], known[path[0]]) for path in paths]

    for found, shown in (
        (of("C/etc", "A/etc/hosts", "A/etc/mtab", "A/test"), of("A/test")),
        (of("C/etc", "A/etc/hosts", "C/etc/passwd"), of("C/etc", "C/etc/passwd")),
        (of("C/etc", "A/etc/hosts", "A/etc/x/y"), of("C/etc", "A/etc/x/y")),
        (of("C/etc"), of("C/etc")),
        (of("C/etc", "D/etc/hosts"), of("C/etc", "D/etc/hosts")),
        (of("A/run", "A/run/.containerenv"), of("A/run")),
    ):
        assert without_mount_points(found) == shown
