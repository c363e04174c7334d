"""The library: importing, naming, exporting, deleting, and building on demand."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import orjson
import pytest
from image_library import DIRECTORY, World, split, unified
from interleaving import Interleaver

from isola.errors import AlreadyExists, InvalidInput, NotFound, Unsupported
from isola.images import ImageLibrary, ImageSource, SourceRequest
from isola.images.descriptor import DISK_TYPE
from isola.images.store import Intake
from isola.model.caller import DAEMON
from isola.model.image import Alias, Image, digests_entity
from isola.model.probe import Probe
from isola.model.reference import Entity, Kind, Ref
from isola.operations import Operation


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
async def library(world: World) -> ImageLibrary:
    return await world.start()


async def import_tiny(world: World, library: ImageLibrary, name: str = "tiny", **options: object) -> Image:
    """Import a unified image with its name as alias."""
    file = await world.upload(name, unified(name))
    done = await world.operations.finish(library.start_import([file], aliases=[name], **options))  # type: ignore[arg-type]
    return library.get(Ref.default(str(done.metadata["fingerprint"])))


async def content(world: World, path: Path) -> bytes:
    return await world.host.files.read(path)


# --- importing -------------------------------------------------------------------------------------------------


async def test_a_unified_image_keeps_the_fingerprint_of_its_bytes(world: World, library: ImageLibrary) -> None:
    data = unified()
    image = await import_tiny(world, library, filename="tiny.tar.gz")
    assert image.fingerprint == hashlib.sha256(data).hexdigest()
    assert (image.size, image.filename, image.architecture) == (len(data), "tiny.tar.gz", "x86_64")
    [(name, path)] = library.export(image.ref)
    assert name == f"{image.fingerprint}.tar.gz"
    assert await content(world, path) == data


async def test_a_split_image_keeps_the_fingerprint_of_both(world: World, library: ImageLibrary) -> None:
    files = [await world.upload(str(number), data) for number, data in enumerate(split())]
    done = await world.operations.finish(library.start_import(files))
    fingerprint = str(done.metadata["fingerprint"])
    exported = library.export(Ref.default(fingerprint))
    assert [name for name, _ in exported] == [f"meta-{fingerprint}.tar.gz", f"{fingerprint}.tar.gz"]
    assert b"".join([await content(world, path) for _, path in exported]) == b"".join(split())
    assert hashlib.sha256(b"".join(split())).hexdigest() == fingerprint
    # The root is a valid layer: nothing is stored twice.
    assert library.get(Ref.default(fingerprint)).layers[0].media_type.endswith("tar+gzip")


async def test_an_image_is_an_oci_image(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    manifest = orjson.loads(await library.store.read(image.manifest))
    config = orjson.loads(await library.store.read(manifest["config"]["digest"]))
    assert [layer["digest"] for layer in manifest["layers"]] == [image.layers[0].digest]
    assert config["architecture"] == "amd64"
    assert config["config"]["Cmd"] == ["/sbin/init"]
    assert config["config"]["StopSignal"] == "SIGPWR"
    assert config["config"]["Labels"]["org.isola.image.type"] == "system"
    assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"])
    artifact = orjson.loads(await library.store.read(image.artifact))
    assert artifact["subject"]["digest"] == image.manifest
    index = orjson.loads(await content(world, DIRECTORY / "images/index.json"))["manifests"]
    assert {entry["digest"] for entry in index} == {image.manifest, image.artifact}
    assert index[0]["annotations"]["org.opencontainers.image.ref.name"] == "tiny"
    assert {entry["size"] for entry in index} == {
        len(await library.store.read(image.manifest)),
        len(await library.store.read(image.artifact)),
    }


async def test_the_layer_unpacks_to_the_root(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    await world.host.files.make_directory(Path("/target"))
    await library.unpack_layer(image.layers[0], Path("/target"))
    assert (await content(world, Path("/target/sbin/init"))).startswith(b"#!/bin/sh")
    assert not await world.host.files.exists(Path("/target/metadata.yaml"))


async def test_a_layer_with_another_diff_id_is_refused(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    [layer] = image.layers
    await world.host.files.make_directory(Path("/target"))
    with pytest.raises(InvalidInput, match="configuration") as refused:
        await library.unpack_layer(replace(layer, diff_id="sha256:" + "0" * 64), Path("/target"))
    assert layer.diff_id in refused.value.evidence
    await library.unpack_layer(replace(layer, diff_id=""), Path("/target"))  # recorded by 0.1: nothing to compare


async def test_a_disk_that_claims_to_be_another_layer_is_refused(world: World, library: ImageLibrary) -> None:
    """Pools would give it to the images that have that layer."""
    [layer] = (await import_tiny(world, library)).layers
    with pytest.raises(InvalidInput, match="configuration") as refused:
        await library.unpack_layer(replace(layer, media_type=DISK_TYPE, diff_id="sha256:" + "0" * 64), Path("/target"))
    assert layer.digest in refused.value.evidence


async def test_importing_an_image_twice_names_the_existing_one(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    file = await world.upload("again", unified())
    with pytest.raises(AlreadyExists, match=image.fingerprint):
        await world.operations.finish(library.start_import([file]))
    assert await world.leftovers() == ()


async def test_concurrent_imports_of_one_image_store_it_once(world: World, library: ImageLibrary) -> None:
    files = [await world.upload(str(number), unified()) for number in range(3)]
    operations = [library.start_import([file]) for file in files]
    for operation in operations:
        await operation.wait()
    assert "SUCCESS" in [operation.status.name for operation in operations]
    [image] = library
    assert {image.manifest, image.artifact, image.layers[0].digest} <= await world.blobs()
    assert await world.leftovers() == ()


async def test_an_image_whose_blobs_are_lost_does_not_stop_the_start(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    await world.host.files.remove_tree(library.store.path(image.manifest))
    again = await world.start()
    assert again.resolve(Ref.default("tiny")) == image
    with pytest.raises(Unsupported):
        again.export(image.ref)
    await world.operations.finish(again.start_delete(image.ref))
    left = await again.unknown()
    assert set(left) == await world.blobs(), "blobs referenced by the lost manifest are kept"
    await again.remove_unknown()
    assert await world.blobs() == set()


async def test_a_taken_alias_is_refused_before_the_work(world: World, library: ImageLibrary) -> None:
    await import_tiny(world, library)
    file = await world.upload("other", unified("other"))
    with pytest.raises(AlreadyExists, match="tiny"):
        library.start_import([file], aliases=["tiny"])
    with pytest.raises(InvalidInput):
        library.start_import([file], aliases=["a//b"])
    assert len(list(library)) == 1


async def test_an_upload_with_another_digest_is_refused(world: World, library: ImageLibrary) -> None:
    file = await world.upload("tiny", unified())
    with pytest.raises(InvalidInput, match="damaged"):
        await world.operations.finish(library.start_import([file], fingerprint="0" * 64))
    assert await world.blobs() == set()


async def test_uploads_are_cleaned_up(world: World, library: ImageLibrary) -> None:
    file = await world.upload("tiny", unified())
    await world.operations.finish(library.start_import([file], scratch=file.parent))
    assert not await world.host.files.exists(file)


async def test_properties_of_the_request_override(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(
        world, library, properties={"description": "mine", "isola.command": "/bin/true"}, public=True
    )
    assert image.properties["description"] == "mine"
    assert image.properties["os"] == "Busybox"
    assert image.config.command == ("/bin/true",)
    assert image.public
    assert (await library.metadata(image.ref)).properties["description"] == "Busybox tiny"


# --- reading and naming ---------------------------------------------------------------------------------------------


async def test_images_are_found_by_alias_and_prefix(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    for reference in ("tiny", image.fingerprint, image.fingerprint[:12], image.fingerprint[:4]):
        assert library.resolve(Ref.default(reference)) == image
    assert library.resolve(Ref.default(image.fingerprint[:3])) is None
    assert library.resolve(Ref.default("tin")) is None
    with pytest.raises(NotFound):
        library.get(Ref.default("tiny"))


async def test_an_ambiguous_prefix_is_refused(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    twin = image.fingerprint[:10] + "0" * 54
    await library._records.add(
        Ref.default(twin), Image(**{name: getattr(image, name) for name in image.__slots__} | {"fingerprint": twin})
    )
    with pytest.raises(InvalidInput, match="2 images"):
        library.get(Ref.default(image.fingerprint[:8]))
    assert library.get(image.ref) == image


async def test_aliases_are_added_changed_and_removed(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    other = await import_tiny(world, library, "other")
    await library.add_alias(Alias("web/1", image.fingerprint[:12], "for the web"))
    assert library.alias(Ref.default("web/1")).target == image.fingerprint
    await library.update_alias(
        Ref.default("web/1"), lambda alias: replace(alias, target=other.fingerprint, description="moved")
    )
    assert library.resolve(Ref.default("web/1")) == other
    await library.rename_alias(Ref.default("web/1"), "web/2")
    assert library.alias(Ref.default("web/2")).description == "moved"
    await library.remove_alias(Ref.default("web/2"))
    for gone in ("web/1", "web/2"):
        with pytest.raises(NotFound):
            library.alias(Ref.default(gone))


@pytest.mark.parametrize("name", ["", "../x", "a//b", "-x", "a b"])
async def test_impossible_aliases_are_refused(world: World, library: ImageLibrary, name: str) -> None:
    image = await import_tiny(world, library)
    with pytest.raises(InvalidInput):
        await library.add_alias(Alias(name, image.fingerprint))


async def test_an_alias_needs_its_image_and_its_name(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    with pytest.raises(NotFound):
        await library.add_alias(Alias("x", "0" * 64))
    with pytest.raises(AlreadyExists):
        await library.add_alias(Alias("tiny", image.fingerprint))
    await library.add_alias(Alias("x", image.fingerprint))
    with pytest.raises(AlreadyExists):
        await library.rename_alias(Ref.default("x"), "tiny")


async def test_editable_fields_are_changed(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    before = library.revision(image.ref)
    await library.update(
        Ref.default(image.fingerprint[:12]),
        lambda found: replace(found, properties={"a": "b"}, public=True, auto_update=True, profiles=("x",)),
    )
    changed = library.get(image.ref)
    assert (changed.properties, changed.public, changed.auto_update, changed.profiles) == (
        {"a": "b"},
        True,
        True,
        ("x",),
    )
    assert library.revision(image.ref) != before


# --- deleting --------------------------------------------------------------------------------------------------


async def test_deleting_leaves_nothing(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    await world.operations.finish(library.start_delete(Ref.default(image.fingerprint[:12])))
    assert list(library) == []
    assert list(library.aliases()) == []
    assert await world.blobs() == set()
    assert orjson.loads(await content(world, DIRECTORY / "images/index.json"))["manifests"] == []
    with pytest.raises(NotFound):
        library.start_delete(image.ref)


async def test_images_share_blobs_and_deleting_one_spares_the_other(world: World, library: ImageLibrary) -> None:
    first = await import_tiny(world, library)
    files = [await world.upload(str(number), data) for number, data in enumerate(split())]
    done = await world.operations.finish(library.start_import(files))
    await world.operations.finish(library.start_delete(first.ref))
    kept = library.get(Ref.default(str(done.metadata["fingerprint"])))
    assert await library.store.has(kept.layers[0].digest)
    assert len(await world.blobs()) == 6  # manifest, configuration, layer; artifact, its empty configuration, metadata


async def test_layers_in_use_outlive_their_image(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    with library._references.holding(
        Entity.of(Kind.INSTANCE, Ref.default("web1")), digests_entity([image.layers[0].digest])
    ):
        await world.operations.finish(library.start_delete(image.ref))
    assert await world.blobs() == {image.layers[0].digest}
    assert await library.collect_garbage(keep_layers=[image.layers[0].digest]) == 0
    assert await library.collect_garbage() == 1


async def test_a_second_deletion_waits_for_the_first(world: World, library: ImageLibrary) -> None:
    image = await import_tiny(world, library)
    both = [library.start_delete(image.ref) for _ in range(2)]
    for operation in both:
        await world.operations.finish(operation)
    with pytest.raises(NotFound):
        library.start_delete(image.ref)


@pytest.mark.parametrize("verb", ["point", "move", "rename"])
async def test_a_name_that_changes_while_an_image_goes_is_kept_or_refused(
    world: World, library: ImageLibrary, verb: str
) -> None:
    """Whatever the deletion has done by then: no changed name is lost, and none refers to an image that is gone."""
    stays, interleaver = await import_tiny(world, library, "stays"), Interleaver()
    name, new, first = Ref.default("name"), Ref.default("renamed"), Ref.default("goes")
    changed = 0
    for at in interleaver.suspensions():
        goes = await import_tiny(world, library, "goes")
        target = goes if verb == "point" else stays
        await library.point_alias(name, (stays if verb == "point" else goes).fingerprint)
        if verb == "point":
            await library.remove_alias(first)

        async def go(image: Image = goes) -> None:
            await asyncio.create_task(library._recording.forget(image, DAEMON, unless_named=verb == "point"))

        async def change(to: str = target.fingerprint) -> bool:
            try:
                if verb == "rename":
                    await library.rename_alias(name, new.name)
                else:
                    await library.update_alias(name, lambda held: replace(held, target=to))
            except NotFound:
                return False
            return True

        await interleaver.run(go(), change, at)
        if interleaver.acknowledged and verb != "rename":
            changed += 1
            found = library.resolve(name)
            assert found is not None and found.fingerprint == target.fingerprint, f"at suspension {at}"
        dangling = [alias.name for alias in library.aliases() if library.resolve(alias.ref) is None]
        assert not dangling, f"at suspension {at}"
        for each in {name, new, first} & {alias.ref for alias in library.aliases()}:
            await library.remove_alias(each)
    assert at > 2 and (changed or verb != "move")


# --- building on demand ---------------------------------------------------------------------------------------------


class Maker(ImageSource):
    """Offers ``made/1`` (and ``made/one``), builds slowly, and counts in ``made``."""

    made = 0
    broken = False

    def __init__(self, world: World, directory: Path) -> None:
        super().__init__(world.host, directory)
        self.world = world
        self.go_on = asyncio.Event()
        self.go_on.set()

    @classmethod
    async def probe(cls, host: object) -> Probe:
        return Probe(True)

    def offers(self) -> Mapping[str, str]:
        return {"made/1": "one", "made/one": "one"}

    def canonical(self, name: str) -> str:
        return "made/1"

    def check(self, request: SourceRequest) -> None:
        if "wrong" in request.options:
            raise InvalidInput("No such option", field="options.wrong")

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        await self.go_on.wait()
        if self.broken:
            raise Unsupported("It cannot be made")
        self.made += 1
        file = await self.world.upload("made", unified("made"))
        library = self.world.library  # type: ignore[attr-defined]
        return await library.sources.get("file")._fetch(op, SourceRequest(files=(file,)), intake, place)  # type: ignore[no-any-return]


@pytest.fixture
def maker(world: World, library: ImageLibrary) -> Maker:
    """An additional source of the library."""
    world.library = library  # type: ignore[attr-defined]
    maker = Maker(world, library.store.scratch)
    library.sources._all["maker"] = maker
    return maker


async def test_offered_images_are_built_and_named(world: World, library: ImageLibrary, maker: Maker) -> None:
    assert library.offers()["made/1"] == "one"
    await world.run(lambda op: library.ensure(op, Ref.default("made/one")))
    assert {alias.name for alias in library.aliases()} == {"made/1", "made/one"}
    await world.run(lambda op: library.ensure(op, Ref.default("made/1")))
    assert maker.made == 1


class MachineMaker(Maker):
    """Also offers ``made/1/vm``, the same for virtual machines."""

    def offers(self) -> Mapping[str, str]:
        return {"made/1": "one", "made/1/vm": "one"}

    def canonical(self, name: str) -> str:
        return name

    def of_type(self, name: str, type: str) -> str:
        return "made/1/vm" if type == "virtual-machine" else name

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        self.made += 1
        file = await self.world.upload("made", unified(request.name.replace("/", "-")))
        library = self.world.library  # type: ignore[attr-defined]
        image: Image = await library.sources.get("file")._fetch(op, SourceRequest(files=(file,)), intake, place)
        return replace(image, type="virtual-machine" if request.name == "made/1/vm" else "container")


async def test_instances_of_each_type_get_their_image_under_the_same_name(world: World, library: ImageLibrary) -> None:
    world.library = library  # type: ignore[attr-defined]
    maker = library.sources._all["maker"] = MachineMaker(world, library.store.scratch)
    found: list[Image] = []

    async def want(op: Operation, name: str, type: str) -> None:
        found.append(await library.ensure(op, Ref.default(name), type))

    for name, type in [
        ("made/1", "container"),
        ("made/1", "virtual-machine"),
        ("made/1/vm", "virtual-machine"),
        ("made/1", "container"),
        ("made/1", ""),
    ]:
        await world.run(partial(want, name=name, type=type))
    machine, container = "virtual-machine", "container"
    assert [image.type for image in found] == [container, machine, machine, container, container]
    assert {alias.name for alias in library.aliases()} == {"made/1", "made/1/vm"}
    assert maker.made == 2
    # The disk is found by its own name; if it fits the instance is checked later.
    await world.run(partial(want, name="made/1/vm", type="container"))
    assert found[-1].type == machine


async def test_concurrent_callers_share_a_build(world: World, library: ImageLibrary, maker: Maker) -> None:
    found: list[Image] = []

    async def want(op: Operation) -> None:
        found.append(await library.ensure(op, Ref.default("made/1")))

    await asyncio.gather(*(world.run(want) for _ in range(5)))
    assert maker.made == 1
    assert len(set(image.fingerprint for image in found)) == 1


async def test_a_waiting_caller_takes_over_a_cancelled_build(world: World, library: ImageLibrary, maker: Maker) -> None:
    maker.go_on.clear()
    first = world.operations.start("First", lambda op: library.ensure(op, Ref.default("made/1")))
    second = world.operations.start("Second", lambda op: library.ensure(op, Ref.default("made/1")))
    await asyncio.sleep(0.01)
    first.cancel()
    await first.wait()
    maker.go_on.set()
    await world.operations.finish(second)
    assert maker.made == 1
    assert library.resolve(Ref.default("made/1")) is not None


async def test_waiting_callers_get_the_failure(world: World, library: ImageLibrary, maker: Maker) -> None:
    maker.broken = True
    maker.go_on.clear()
    tasks = [asyncio.ensure_future(world.run(lambda op: library.ensure(op, Ref.default("made/1")))) for _ in range(3)]
    await asyncio.sleep(0.01)
    maker.go_on.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [Unsupported] * 3
    assert await world.blobs() == set()


async def test_a_complete_image_stays_when_the_bigger_operation_fails(
    world: World, library: ImageLibrary, maker: Maker
) -> None:
    async def launch(op: Operation) -> None:
        await library.ensure(op, Ref.default("made/1"))
        raise Unsupported("Something later")

    with pytest.raises(Unsupported):
        await world.run(launch)
    image = library.resolve(Ref.default("made/1"))
    assert image is not None
    assert await library.store.has(image.layers[0].digest)


async def test_building_an_existing_image_again_succeeds(world: World, library: ImageLibrary, maker: Maker) -> None:
    for _ in range(2):
        done = await world.operations.finish(library.start_build("maker", SourceRequest(name="made/1")))
    assert maker.made == 2
    assert [image.fingerprint for image in library] == [done.metadata["fingerprint"]]
    assert [alias.name for alias in library.aliases()] == ["made/1"]


async def test_a_build_with_options_does_not_get_the_default_alias(
    world: World, library: ImageLibrary, maker: Maker
) -> None:
    request = SourceRequest(name="made/1", options={"packages": "x"})
    await world.operations.finish(library.start_build("maker", request, aliases=["mine"]))
    assert [alias.name for alias in library.aliases()] == ["mine"]


async def test_an_unknown_name_suggests_similar_ones(world: World, library: ImageLibrary, maker: Maker) -> None:
    with pytest.raises(NotFound, match="made/1"):
        await world.run(lambda op: library.ensure(op, Ref.default("made/2")))
    with pytest.raises(NotFound, match="choose one of"):
        library.start_build("nosuch", SourceRequest())


async def test_invalid_input_is_refused_at_once(world: World, library: ImageLibrary, maker: Maker) -> None:
    with pytest.raises(InvalidInput, match="option"):
        library.start_build("maker", SourceRequest(options={"wrong": "1"}))
    with pytest.raises(InvalidInput, match="alias"):
        library.start_build("maker", SourceRequest(), aliases=["../x"])
    assert list(world.operations) == []


async def test_a_cancelled_import_leaves_nothing(world: World, library: ImageLibrary, maker: Maker) -> None:
    maker.go_on.clear()
    operation = library.start_build("maker", SourceRequest(name="made/1"))
    await asyncio.sleep(0.01)
    operation.cancel()
    await operation.wait()
    assert operation.status.name == "CANCELLED"
    assert await world.leftovers() == ()
    assert await world.blobs() == set()
