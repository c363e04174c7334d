"""Instances whose root is a disk: its files, its size, and what is refused."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from isola.daemon.build import Drivers
from isola.errors import InUse, InvalidInput, IsolaError, NotFound, UnsafeArchive, Unsupported
from isola.instances.commit import CommitRequest
from isola.instances.copy import Source
from isola.instances.move import Destination
from isola.model.disk import DiskFormat
from isola.model.instance import Instance, InstanceRequest, InstanceUpdate
from isola.model.reference import Ref
from isola.model.volume import VolumeRef
from isola.testing.disk_images import qcow2
from isola.testing.parts import World
from isola.testing.runtime import FakeInstance
from isola.testing.vm import FakeMachine

VM = Ref.default("vm1")
GIB = 1 << 30
SIZE = 1 << 20
ISO = bytes(0x8001) + b"CD001" + bytes(40960 - 0x8006)
CONTENT = bytes(510) + b"\x55\xaa" + b"boot"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World(more=Drivers({"fakemachine": FakeMachine}))
    await world.start()
    await world.import_image()
    await upload(world, "disk", qcow2(SIZE, CONTENT))
    yield world
    world.forget()


async def upload(world: World, alias: str, data: bytes) -> None:
    file = world.directory / "uploads" / alias
    await world.host.files.make_directory(file.parent)
    await world.host.files.write(file, data)
    await world.finish(world.parts.services.images.start_import([file], aliases=[alias]))


async def create(world: World, name: str = "vm1", image: str | None = "disk", **wanted: object) -> Instance:
    return await world.create(name, image=image, **{"isolation": ""} | wanted)  # type: ignore[arg-type]


async def start(world: World, name: str = "vm1") -> FakeInstance:
    await world.finish(world.parts.services.instances.start(Ref.default(name)))
    return running(world, name)


async def stop(world: World, name: str = "vm1") -> None:
    await world.finish(world.parts.services.instances.stop(Ref.default(name), force=True))


def running(world: World, name: str = "vm1") -> FakeInstance:
    runtime = world.context.runtimes.get("fakemachine")
    assert isinstance(runtime, FakeMachine)
    return runtime.instances[world.parts.services.instances.get(Ref.default(name)).id]


async def resize(world: World, size: str) -> None:
    found = world.parts.services.instances.get(VM)
    devices = {"root": {"type": "disk", "path": "/", "pool": "default", "size": size}}
    await world.finish(
        world.parts.services.instances.update(
            VM, lambda _: InstanceUpdate(found.config, devices, found.profiles, "", ephemeral=False, architecture="")
        )
    )


async def test_an_image_of_a_disk_starts_as_a_virtual_machine(world: World) -> None:
    made = await create(world)
    assert (made.isolation, made.type) == ("vm", "virtual-machine")
    (disk,) = (await start(world)).spec.disks
    root = disk.path.parent
    assert (disk.name, disk.format, disk.backing) == ("root", DiskFormat.QCOW2, root / "disk.raw")
    files = world.host.files
    assert await files.read(root / "disk.raw") == CONTENT.ljust(SIZE, b"\0")
    assert (await world.host.disk_images.header(disk.path)).size == 10 * GIB
    async with files.root(root) as seen:
        assert (await seen.stat("/root.qcow2")).uid == made.idmap.outside(0)
    assert set(await files.names(root)) == {"disk.raw", "root.qcow2"}, "no template, no host name"


async def test_one_without_an_image_starts_with_an_empty_disk(world: World) -> None:
    await create(world, image=None, isolation="vm", devices={"root": {"type": "disk", "path": "/", "pool": "default",
                                                                      "size": "3GiB"}})  # fmt: skip
    (disk,) = (await start(world)).spec.disks
    assert disk.backing is None and (await world.host.disk_images.header(disk.path)).size == 3 * GIB


async def test_a_disk_grows_while_it_runs_or_at_the_next_start_and_never_shrinks(world: World) -> None:
    await create(world)
    found = await start(world)
    await resize(world, "20GiB")
    assert found.disk_sizes == {"root": 20 * GIB}
    await stop(world)
    await resize(world, "30GiB")
    (disk,) = (await start(world)).spec.disks
    assert (await world.host.disk_images.header(disk.path)).size == 30 * GIB
    with pytest.raises(InvalidInput, match="cannot shrink"):
        await resize(world, "5GiB")
    assert world.parts.services.instances.get(VM).devices["root"]["size"] == "30GiB"


async def test_a_killed_daemon_leaves_no_half_made_disk(world: World) -> None:
    await create(world)
    (disk,) = (await start(world)).spec.disks
    await stop(world)
    files = world.host.files
    volume = world.context.volume(world.parts.services.instances.get(VM))
    async with world.context.pools.driver("default").visit(volume) as root:
        await files.remove_tree(root / "root.qcow2")
        await files.write(root / "root.qcow2.new", b"QFI")
    (disk,) = (await start(world)).spec.disks
    assert (await world.host.disk_images.header(disk.path)).size == 10 * GIB
    assert set(await files.names(disk.path.parent)) == {"disk.raw", "root.qcow2"}


@pytest.mark.parametrize(
    ("wanted", "match"),
    [
        ({"isolation": "container"}, "disk of a virtual machine"),
        ({"image": "tiny", "isolation": "vm"}, "has files and no disk"),
        (
            {"devices": {"root": {"type": "disk", "path": "/", "pool": "default", "size": "512KiB"}}},
            f"disk of the image has {SIZE} bytes",
        ),
    ],
)
async def test_what_does_not_fit_is_refused(world: World, wanted: dict[str, object], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        await create(world, **wanted)  # type: ignore[arg-type]
    assert not len(world.parts.services.instances)


async def test_a_missing_converter_is_reported_with_its_package(world: World) -> None:
    world.host.disk_images.installed = False
    with pytest.raises(Unsupported, match="qemu-img") as caught:
        await create(world)
    assert "qemu-utils" in caught.value.remedy


async def test_a_root_stays_a_disk_or_files(world: World) -> None:
    await create(world)
    await world.create("c1", isolation="container")
    for name, isolation in (("vm1", "container"), ("c1", "vm")):
        ref = Ref.default(name)
        with pytest.raises(IsolaError, match="another kind of root"):
            await world.finish(world.parts.services.instances.move(ref, Destination(ref, isolation=isolation)))
        assert world.parts.services.instances.get(ref).isolation != isolation


async def test_copies_and_snapshots_carry_the_disk(world: World) -> None:
    made, services = await create(world), world.parts.services
    disk = world.directory / "pools/default/volumes" / made.id / "upper/root.qcow2"  # read when the fake mounts it
    await world.host.files.write(disk, qcow2(11 * GIB))
    await start(world)
    await world.finish(services.instances.snapshots.create(VM, "s0"))
    assert not running(world).frozen
    await stop(world)
    await world.host.files.write(disk, qcow2(12 * GIB))
    await world.finish(services.instances.copy(Source(VM, "s0"), InstanceRequest(name="vm2")))
    await world.finish(services.instances.snapshots.restore(VM, "s0"))
    for name in ("vm1", "vm2"):
        (found,) = (await start(world, name)).spec.disks
        assert (await world.host.disk_images.header(found.path)).size == 11 * GIB


async def test_the_layer_of_a_disk_is_shared_and_collected(world: World) -> None:
    first, second = await create(world), await create(world, "vm2")
    assert first.start.layers == second.start.layers
    driver = world.context.pools.driver("default")
    (layer,) = first.start.layers
    assert layer in await driver.layers.stored()
    services = world.parts.services
    image = next(each for each in services.images if each.type == "virtual-machine")
    await world.finish(services.images.start_delete(image.ref))
    for name in ("vm1", "vm2"):
        await world.finish(services.instances.delete(Ref.default(name)))
    assert layer not in await driver.layers.stored()


# --- further disks ---------------------------------------------------------------------------------------------


def volume(name: str) -> VolumeRef:
    return VolumeRef.custom("default", name)


async def make_volume(world: World, name: str, content: str = "block", **config: str) -> None:
    volumes = world.parts.services.volumes
    await world.finish(await volumes.create(volume(name), config, content=content))


async def import_disc(world: World, name: str, data: bytes) -> None:
    place = world.directory / "uploads" / f"disc-{name}"
    await world.host.files.make_directory(place)
    await world.host.files.write(place / "disc", data)
    made = await world.parts.services.volumes.create(volume(name), {}, content="iso", disc=place / "disc")
    await world.finish(made)
    assert not await world.host.files.exists(place)


async def devices(world: World, name: str = "vm1", **wanted: dict[str, str]) -> None:
    ref = Ref.default(name)
    found = world.parts.services.instances.get(ref)
    complete = {key: {"type": "disk", **device} for key, device in wanted.items()}
    await world.finish(
        world.parts.services.instances.update(ref, lambda _: InstanceUpdate(found.config, complete, found.profiles))
    )


async def test_a_volume_with_a_disk_is_there_from_the_start_on(world: World) -> None:
    await make_volume(world, "data", size="1MiB")
    await import_disc(world, "cd", ISO)
    await create(world)
    await devices(
        world,
        data={"pool": "default", "source": "data", "io.bus": "nvme"},
        cd={"pool": "default", "source": "cd", "boot.priority": "10"},
    )
    root, *others = (await start(world)).spec.disks
    assert root.name == "root" and sorted(each.name for each in others) == ["cd", "data"]
    cd, data = sorted(others, key=lambda each: each.name)
    assert (cd.cdrom, cd.read_only, cd.boot) == (True, True, 10)
    assert (data.cdrom, data.read_only, data.bus, data.format) == (False, False, "nvme", DiskFormat.RAW)
    assert await world.host.files.size(data.path) == 1 << 20
    assert await world.host.files.read(cd.path) == ISO
    assert world.parts.services.volumes.get(volume("data")).attachments
    await stop(world)
    assert not world.parts.services.volumes.get(volume("data")).attachments


async def test_disks_are_added_and_removed_while_it_runs(world: World) -> None:
    await make_volume(world, "data", size="1MiB")
    await create(world)
    await create(world, "vm2")
    await start(world)
    await start(world, "vm2")
    await devices(world, data={"pool": "default", "source": "data"})
    assert set(running(world).disks) == {"root", "data"}
    with pytest.raises(InUse, match="another instance"):
        await devices(world, "vm2", data={"pool": "default", "source": "data"})
    assert set(running(world, "vm2").disks) == {"root"}
    await devices(world)
    assert set(running(world).disks) == {"root"}
    await devices(world, "vm2", data={"pool": "default", "source": "data"})
    assert set(running(world, "vm2").disks) == {"root", "data"}


async def test_disks_of_the_host(world: World) -> None:
    files = world.host.files
    await files.make_directory(Path("/images"))
    await files.write(Path("/images/raw"), bytes(1024))
    await files.write(Path("/images/qcow2"), qcow2(SIZE))
    await files.write(Path("/images/backed"), qcow2(SIZE, backing=112))
    await create(world)
    await start(world)
    await devices(world, a={"source": "/images/raw"}, b={"source": "/images/qcow2", "readonly": "true"})
    found = running(world).disks
    assert (found["a"].format, found["b"].format, found["b"].read_only) == (DiskFormat.RAW, DiskFormat.QCOW2, True)
    for source, kind in (("/images/backed", UnsafeArchive), ("/images/none", NotFound)):
        with pytest.raises(kind):
            await devices(world, c={"source": source})
    await devices(world, c={"source": "/images/none", "required": "false"})
    assert "c" not in running(world).disks


async def test_a_guest_does_not_choose_the_format_of_its_disk(world: World) -> None:
    """As qcow2 its raw disk would have the size that the guest writes into the header."""
    files = world.host.files
    await files.make_directory(Path("/images"))
    await files.write(Path("/images/disk.img"), bytes(1024))
    await create(world)
    await devices(world, a={"source": "/images/disk.img"})
    await start(world)
    assert running(world).disks["a"].format is DiskFormat.RAW
    await world.finish(world.parts.services.instances.stop(VM, force=True))
    await files.write(Path("/images/disk.img"), qcow2(1 << 50))
    with pytest.raises(InvalidInput, match="not by its name"):
        await start(world)
    await files.rename(Path("/images/disk.img"), Path("/images/disk.img.qcow2"))
    await devices(world, a={"source": "/images/disk.img.qcow2"})
    await start(world)
    assert running(world).disks["a"].format is DiskFormat.QCOW2


@pytest.mark.parametrize(
    ("device", "match"),
    [
        ({"pool": "default", "source": "data"}, "only virtual machines"),
        ({"pool": "default", "source": "data", "path": "/data"}, "only virtual machines"),
        ({"source": "/images/raw"}, "only virtual machines"),
    ],
)
async def test_containers_have_no_disks(world: World, device: dict[str, str], match: str) -> None:
    await make_volume(world, "data")
    await world.create("c1", isolation="container")
    with pytest.raises(InvalidInput, match=match):
        await devices(world, "c1", data=device)


async def test_volumes_with_disks_grow_and_never_shrink(world: World) -> None:
    await make_volume(world, "data", size="1MiB")
    volumes = world.parts.services.volumes

    async def resize_to(size: str) -> None:
        await world.finish(
            await volumes.update(volume("data"), lambda found: replace(found, config={**found.config, "size": size}))
        )

    await resize_to("2MiB")
    async with volumes.visit(volume("data")) as place:
        assert await world.host.files.size(place / "volume.raw") == 2 << 20
    with pytest.raises(InvalidInput, match="cannot shrink"):
        await resize_to("1MiB")
    await create(world)
    await start(world)
    await devices(world, data={"pool": "default", "source": "data"})
    await resize_to("3MiB")
    assert running(world).disk_sizes["data"] == 3 << 20, "seen by the guest that has it"
    running(world).disks.pop("data")  # it is just starting, or has released it
    await resize_to("4MiB")
    await stop(world)
    await resize_to("5MiB")
    async with volumes.visit(volume("data")) as place:
        assert await world.host.files.size(place / "volume.raw") == 5 << 20


@pytest.mark.parametrize(
    ("content", "config", "match"),
    [
        ("block", {"size": "1048577"}, "cannot have"),
        ("block", {"mount.source": "/srv"}, "no key"),
        ("block", {"size": "many"}, "size"),
        ("iso", {}, "made of a file"),
        ("tape", {}, "no content type"),
    ],
)
async def test_impossible_volumes_are_refused(world: World, content: str, config: dict[str, str], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        await make_volume(world, "data", content, **config)


async def test_a_file_that_is_no_disc_is_refused(world: World) -> None:
    with pytest.raises(InvalidInput, match="not an ISO"):
        await import_disc(world, "cd", bytes(40960))


# --- publishing ------------------------------------------------------------------------------------------------


async def test_an_image_of_a_virtual_machine_is_its_whole_disk(world: World) -> None:
    made, services = await create(world), world.parts.services
    disk = world.directory / "pools/default/volumes" / made.id / "upper/root.qcow2"
    await world.host.files.write(disk, qcow2(2 * SIZE, CONTENT[:-4] + b"more"))
    await start(world)
    done = await world.finish(services.instances.contents.commit(VM, CommitRequest(("golden",))))
    (packing,) = (each for each in done.view().steps if each.name == "Compress disk")
    assert packing.done == packing.total == 112 + len(CONTENT) + SIZE
    image = services.images.get(Ref.default(str(done.metadata["fingerprint"])))
    assert (image.type, len(image.layers)) == ("virtual-machine", 1)
    assert image.layers[0].digest not in {layer.digest for layer in made.start.blobs}
    assert not running(world).frozen
    assert not await world.host.files.names(services.images.store.scratch)
    await create(world, "vm2", "golden")
    (copied,) = (await start(world, "vm2")).spec.disks
    assert copied.backing is not None
    assert await world.host.files.read(copied.backing) == (CONTENT[:-4] + b"more").ljust(2 * SIZE, b"\0")
    with pytest.raises(Unsupported, match="no instructions"):
        services.instances.contents.commit(VM, CommitRequest(("other",), changes=("CMD x",)))


async def test_an_empty_machine_that_never_ran_has_nothing_to_publish(world: World) -> None:
    await create(world, image=None, isolation="vm")
    with pytest.raises(InvalidInput, match="never been started"):
        await world.finish(world.parts.services.instances.contents.commit(VM, CommitRequest(("golden",))))
