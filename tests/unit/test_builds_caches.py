"""Caches of builds: exported to a registry, an image or a directory, imported by a daemon that has nothing."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
from audit import parts_of
from interleaving import Interleaver
from memory_audit import differences
from strike import Fate, Strike, end_tasks

from isola.builds.cache_document import ANNOTATION, CACHE_TYPE, Kept, bounded, document, kept, read
from isola.builds.cache_options import cache_export, cache_import, directories_of, with_inline_cache
from isola.cli.arguments import UsageError
from isola.cli.build_caches import BuildCaches
from isola.errors import HostFailure, InvalidInput, IsolaError
from isola.images.descriptor import DISK_TYPE, LAYER_TYPE, Descriptor, digest_of
from isola.images.oci_manifest import Manifest, read_document
from isola.images.registry.credentials import ANONYMOUS, Credentials
from isola.model.build import BuildEvent, BuildEventKind, BuildRequest, BuildResult
from isola.model.build_cache import CacheExport, CacheImport, CacheType
from isola.model.image import Image
from isola.model.reference import Ref
from isola.testing.files import FakeFiles
from isola.testing.parts import World, host_with_ids
from isola.testing.registry import FakeRegistry

NAME = "docker.io/library/built:latest"
URL = "https://registry.example"
REF = "registry.example/team/cache:latest"
DOCKERFILE = (
    "FROM tiny AS one\nCOPY a /one\nFROM tiny AS base\nENV x=1\nFROM base\nCOPY a b /c/\nCOPY --from=one /one /two\n"
)
STEPS = 4
MOMENT_OF_FILES = {"SOURCE_DATE_EPOCH": "1"}
"""Without it, a stage that is built a second later has newer files."""
MOMENT = "2026-11-23T05:00:00.123456+00:00"


class Stand:
    """A daemon in memory, with a registry that it can reach."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.registry = world.host.http.servers[URL] = FakeRegistry(URL)
        self.events: list[BuildEvent] = []
        self.caches: dict[str, bytes] = {}

    async def build(
        self,
        imports: Sequence[CacheImport] = (),
        exports: Sequence[CacheExport] = (),
        cache: bytes = b"",
        credentials: Credentials = ANONYMOUS,
        **more: object,
    ) -> int:
        """Returns how many steps were cached."""
        builds = self.world.parts.services.builds
        self.events, self.caches = [], {}
        files = {"Dockerfile": DOCKERFILE, "a": "A", "b": "B"}
        place = await builds.receive(blocks(tar(files)))
        if cache:  # as ``receive`` puts it there
            await self.world.host.files.make_directory(place / "cache-1")
            await self.world.host.archives.unpack_stream(blocks(cache), place / "cache-1")
        request = BuildRequest(names=(NAME,), imports=tuple(imports), exports=tuple(exports), **more)  # type: ignore[arg-type]

        async def deliver(name: str, archive: AsyncIterator[bytes]) -> None:
            self.caches[name] = b"".join([block async for block in archive])

        operation = builds.start(
            request, place, self.events.append, credentials=lambda domain: credentials, deliver_cache=deliver
        )
        await self.world.context.operations.finish(operation)
        return [each.kind for each in self.events].count(BuildEventKind.CACHED)

    @property
    def image(self) -> Image:
        found = self.world.context.images.resolve(Ref("default", NAME))
        assert found is not None
        return found

    async def forget(self) -> str:
        """Neither results nor the image are left; returns the image's fingerprint."""
        image, images = self.image, self.world.context.images
        await self.world.finish(images.start_delete(image.ref))
        await self.world.parts.services.builds.prune()
        assert not await images.store.has(image.layers[-1].digest) and not await images.unknown()
        return image.fingerprint

    async def forget_all(self) -> None:
        """No results, and no image if there is one."""
        images = self.world.context.images
        if (found := images.resolve(Ref("default", NAME))) is not None:
            await self.world.finish(images.start_delete(found.ref))
        await self.world.parts.services.builds.prune()

    @property
    def warnings(self) -> str:
        return "\n".join(each.text for each in self.events if each.kind is BuildEventKind.WARNING)

    def cache_in_registry(self) -> tuple[Manifest, dict[str, object]]:
        manifest = read_document(self.registry.manifests["team/cache", "latest"][0])
        assert isinstance(manifest, Manifest)
        return manifest, json.loads(self.registry.blobs["team/cache", manifest.config.digest])


def fate(world: World) -> Fate:
    assert isinstance(world.observer, Fate)
    return world.observer


@pytest.fixture
def stand(world: World) -> Stand:
    return Stand(world)


def tar(files: Mapping[str, str | bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


async def blocks(data: bytes) -> AsyncIterator[bytes]:
    yield data


# --- registries ----------------------------------------------------------------------------------------------------


async def test_results_come_back_from_a_registry(stand: Stand) -> None:
    to, back = CacheExport(CacheType.REGISTRY, REF), CacheImport(CacheType.REGISTRY, REF)
    assert await stand.build(exports=[to]) == 0
    manifest, found = stand.cache_in_registry()
    assert manifest.config.media_type == CACHE_TYPE and len(manifest.layers) == 3
    assert len(found["results"]) == STEPS  # type: ignore[arg-type]
    first = await stand.forget()
    assert await stand.build() == 0
    await stand.forget()
    assert await stand.build([back]) == STEPS and not stand.warnings
    assert stand.image.fingerprint == first, "with its history and times"
    await stand.forget()
    assert await stand.build() == 0, "what was imported is no result of the daemon"
    await stand.forget()
    assert await stand.build([back], no_cache=True) == 0


async def test_the_least_cache_has_the_target_and_its_bases(stand: Stand) -> None:
    to = CacheExport(CacheType.REGISTRY, REF, everything=False)
    await stand.build(exports=[to], arguments=MOMENT_OF_FILES)
    manifest, found = stand.cache_in_registry()
    assert len(found["results"]) == 3 and len(manifest.layers) == 2  # type: ignore[arg-type]
    await stand.forget()
    again = await stand.build([CacheImport(CacheType.REGISTRY, REF)], arguments=MOMENT_OF_FILES)
    assert again == 3, "the other stage is built, and is equal"


async def test_a_registry_wants_a_login(stand: Stand) -> None:
    stand.registry.users["me"] = "secret"
    to, back = CacheExport(CacheType.REGISTRY, REF), CacheImport(CacheType.REGISTRY, REF)
    with pytest.raises(IsolaError):
        await stand.build(exports=[to])
    assert stand.world.context.images.resolve(Ref("default", NAME)) is None
    lenient = CacheExport(CacheType.REGISTRY, REF, ignore_error=True)
    await stand.build(exports=[lenient])
    assert "The cache is not exported" in stand.warnings
    await stand.build(exports=[to], credentials=Credentials("me", "secret"))
    await stand.forget()
    assert await stand.build([back]) == 0 and "is not imported" in stand.warnings
    await stand.forget()
    assert await stand.build([back], credentials=Credentials("me", "secret")) == STEPS


async def test_what_cannot_be_imported_is_told_and_built(stand: Stand) -> None:
    to, back = CacheExport(CacheType.REGISTRY, REF), CacheImport(CacheType.REGISTRY, REF)
    await stand.build([back], [to])
    assert "is not imported" in stand.warnings
    manifest, _ = stand.cache_in_registry()
    await stand.forget()
    stand.registry.flipped.add(manifest.layers[0].digest)
    assert 0 < await stand.build([back]) < STEPS
    assert "A layer of the imported cache cannot be used" in stand.warnings
    stand.registry.add_image("team/plain", "latest", {"a": b"a"})
    await stand.build([CacheImport(CacheType.REGISTRY, "registry.example/team/plain:latest")])
    assert "It has no results of this builder" in stand.warnings


# --- images and directories ----------------------------------------------------------------------------------------


async def test_an_image_has_the_cache_of_its_own_layers(stand: Stand) -> None:
    images = stand.world.context.images
    await stand.build(arguments=MOMENT_OF_FILES | {"BUILDKIT_INLINE_CACHE": "1"})
    assert not stand.warnings
    data = await images.store.read(stand.image.manifest)
    annotation = read_document(data).annotations[ANNOTATION]
    stored = {digest.removeprefix("sha256:") for digest in await images.store.digests()}
    assert parts_of(json.loads(data)) <= stored, "which is no list of blobs"
    assert {each.get("digest") for each in json.loads(annotation)["results"]} == {
        None, *(layer.digest for layer in stand.image.layers[-2:])
    }  # fmt: skip
    await stand.world.parts.services.builds.prune()
    assert await stand.build([CacheImport(CacheType.IMAGE, "built")], arguments=MOMENT_OF_FILES) == 3
    assert await stand.build([CacheImport(CacheType.IMAGE, "none")], cache_from=("none",)) == 0
    assert "There is no image none" in stand.warnings
    await stand.build(exports=[CacheExport(CacheType.INLINE)])
    given = stand.image.fingerprint
    await stand.build()
    assert stand.image.fingerprint != given, "an image says of itself only what was asked for"


async def test_a_directory_of_the_client(stand: Stand) -> None:
    back = CacheImport(CacheType.LOCAL, "cache-1")
    await stand.build(exports=[CacheExport(CacheType.LOCAL, "cache-1")])
    cache = stand.caches["cache-1"]
    first = await stand.forget()
    assert await stand.build([back], cache=cache) == STEPS and stand.image.fingerprint == first
    await stand.forget()
    with tarfile.open(fileobj=io.BytesIO(cache)) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
    largest = max((name for name in files if name.startswith("blobs/")), key=lambda name: len(files[name]))
    wrong = {**files, largest: bytes(len(files[largest]))}
    assert await stand.build([back], cache=tar(wrong)) < STEPS and stand.warnings
    for index in (b"", b"[]", json.dumps({"schemaVersion": 2, "manifests": []}).encode()):
        await stand.world.parts.services.builds.prune()
        await stand.build([back], cache=tar({**files, "index.json": index}))
        assert "is not imported" in stand.warnings


async def test_a_layer_that_is_incomplete_or_of_another_size_is_made_again(stand: Stand) -> None:
    """At once: other attempts would not find more. A size is wrong also if the layer is there from elsewhere."""
    back, clock = CacheImport(CacheType.LOCAL, "cache-1"), stand.world.host.clock
    await stand.build(exports=[CacheExport(CacheType.LOCAL, "cache-1")])
    with tarfile.open(fileobj=io.BytesIO(stand.caches["cache-1"])) as archive:
        files = {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]
    before = stand.image.layers[-1]
    path = f"blobs/{before.digest.replace(':', '/')}"
    await stand.forget()
    begun = clock.now()
    await stand.build([back], cache=tar({**files, path: files[path][:-1]}))
    assert "A file of the cache is incomplete" in stand.warnings and (clock.now() - begun).total_seconds() < 1
    await stand.forget()
    await stand.build([back], cache=tar(files))
    await stand.world.parts.services.builds.prune()
    assert await stand.world.context.images.store.has(before.digest), "the image needs it"
    data = json.loads(files["index.json"])
    manifest = json.loads(files[f"blobs/{data['manifests'][0]['digest'].replace(':', '/')}"])
    next(each for each in manifest["layers"] if each["digest"] == before.digest)["size"] = before.size + 7
    lie = json.dumps(manifest).encode()
    data["manifests"][0] |= {"digest": digest_of(lie), "size": len(lie)}
    more: dict[str, str | bytes] = {f"blobs/{digest_of(lie).replace(':', '/')}": lie, "index.json": json.dumps(data)}
    await stand.build([back], cache=tar({**files, **more}))
    assert "A layer has another size than the cache says" in stand.warnings
    assert [each.size for each in stand.image.layers if each.digest == before.digest] in ([], [before.size])


class StickyFiles(FakeFiles):
    """Directories of builds that cannot be removed."""

    stuck = False

    async def remove_tree(self, path: Path, *, flush: Sequence[Path] = ()) -> None:
        if self.stuck and path.name.startswith("build-") and path.parent.name == "builds":
            raise HostFailure("The file system refused it", evidence="Input/output error")
        await super().remove_tree(path, flush=flush)


async def test_what_a_build_holds_is_given_up_if_its_files_cannot_be_removed() -> None:
    files = StickyFiles()
    stand = Stand(World(host=host_with_ids(files=files), observer=Fate()))
    await stand.world.start()
    await stand.world.import_image()
    files.stuck = True
    with pytest.raises(HostFailure, match="refused"):
        await stand.build(exports=[CacheExport(CacheType.REGISTRY, REF)])
    files.stuck = False
    await stand.forget()
    assert await differences(stand.world) == []
    await stand.world.start()
    assert not await files.names(stand.world.context.directory / "builds")
    await end_tasks()


class SlowFiles(FakeFiles):
    """Others have their turn after a look whether a file exists, as with threads."""

    async def exists(self, path: Path) -> bool:
        found = await super().exists(path)
        await asyncio.sleep(0)
        return found


async def test_a_result_that_is_pruned_when_it_is_found_is_made_again() -> None:
    """Wherever the build waits meanwhile: its image has all layers."""
    stand, interleaver = Stand(World(host=host_with_ids(files=SlowFiles()), observer=Fate())), Interleaver()
    await stand.world.start()
    await stand.world.import_image()
    builds, images = stand.world.parts.services.builds, stand.world.context.images
    await stand.build()
    for at in interleaver.suspensions():
        await stand.world.finish(images.start_delete(stand.image.ref))
        await interleaver.run(asyncio.create_task(stand.build()), builds.prune, at)
        for layer in stand.image.layers:
            assert await images.store.has(layer.digest), f"at suspension {at}"
    stand.world.forget()
    await end_tasks()
    assert at > 1


@pytest.mark.parametrize("action", ["fail", "cancel", "crash"])
async def test_every_step_of_a_build_with_caches(stand: Stand, action: str) -> None:
    """Nothing is left here, and what is in the registry is whole."""
    world, caches = stand.world, dict[str, object](imports=[CacheImport(CacheType.REGISTRY, REF)])
    caches |= {"exports": [CacheExport(CacheType.REGISTRY, REF), CacheExport(CacheType.LOCAL, "cache-1")]}
    await stand.build(**caches)  # type: ignore[arg-type]
    await stand.forget()
    fate(world).strike = strike = Strike("Building image")
    assert await stand.build(**caches) == STEPS  # type: ignore[arg-type]
    points = list(strike.points)
    assert len(points) >= 6, points
    for number, point in enumerate(points):
        await stand.forget_all()
        fate(world).strike = Strike("Building image", number, action)
        running = asyncio.ensure_future(stand.build(arguments={"V": str(number)}, **caches))  # type: ignore[arg-type]
        struck = asyncio.ensure_future(fate(world).struck())
        await asyncio.wait([struck, running], return_when=asyncio.FIRST_COMPLETED)
        assert struck.done(), point
        if action == "crash":
            fate(world).dead = True
            world.observer = Fate()
            await world.start()
            running.cancel()
        else:
            await asyncio.wait([running])
            assert running.cancelled() or isinstance(running.exception(), IsolaError | None)
            fate(world).strike = None
        await world.parts.services.builds.prune()
        places = await world.host.files.names(world.context.directory / "builds")
        assert await differences(world) == [] and set(places) <= {"cache"}, f"{action} at {point}"
        manifest, _ = stand.cache_in_registry()
        assert all(("team/cache", layer.digest) in stand.registry.blobs for layer in manifest.layers), point


async def test_a_client_that_takes_no_cache(stand: Stand) -> None:
    builds = stand.world.parts.services.builds
    place = await builds.receive(blocks(tar({"Dockerfile": "FROM tiny\n"})))
    request = BuildRequest(names=(NAME,), exports=(CacheExport(CacheType.LOCAL, "cache-1"),))
    with pytest.raises(IsolaError, match="cannot take a local cache"):
        await stand.world.context.operations.finish(builds.start(request, place, stand.events.append))

    async def gone(name: str, archive: AsyncIterator[bytes]) -> None:
        raise HostFailure("gone")

    place = await builds.receive(blocks(tar({"Dockerfile": "FROM tiny\n"})))
    with pytest.raises(HostFailure):
        started = builds.start(request, place, stand.events.append, deliver_cache=gone)
        await stand.world.context.operations.finish(started)
    assert stand.world.context.images.resolve(Ref("default", NAME)) is None
    assert await stand.world.host.files.names(Path(stand.world.context.directory) / "builds") == ()


# --- options and documents -----------------------------------------------------------------------------------------


def test_options_of_caches() -> None:
    back = cache_import({"type": "registry", "ref": "team/app", "image-manifest": "true"})
    assert back == CacheImport(CacheType.REGISTRY, "docker.io/team/app:latest")
    assert cache_import({"type": "inline"}) is None
    local = cache_import({"type": "local", "directory": "cache-2"})
    assert local is not None and directories_of([local, CacheImport(CacheType.REGISTRY, "x")]) == ("cache-2",)
    assert cache_export({"type": "inline"}) == CacheExport(CacheType.INLINE)
    assert cache_export({"type": "registry", "ref": "a:1", "mode": "min", "ignore-error": "true"}) == CacheExport(
        CacheType.REGISTRY, "docker.io/library/a:1", everything=False, ignore_error=True
    )
    request = BuildRequest(arguments={"BUILDKIT_INLINE_CACHE": "0"})
    assert with_inline_cache(request) is request


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"type": "gha"},
        {"type": "s3", "bucket": "x"},
        {"type": "registry"},
        {"type": "registry", "ref": "UPPER"},
        {"type": "registry", "ref": "a", "mode": "most"},
        {"type": "registry", "ref": "a", "registry.insecure": "true"},
        {"type": "registry", "ref": "a", "ignore-error": "perhaps"},
        {"type": "local"},
        {"type": "local", "directory": "../x"},
        {"type": "local", "directory": "context"},
    ],
)
def test_what_is_no_cache_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(IsolaError):
        cache_export(fields)


def result(number: int, digest: str = "") -> dict[str, object]:
    layer = {"digest": digest, "diff_id": f"sha256:{number:064x}"} if digest else {}
    return {"key": f"{number:064x}", "created": MOMENT, "text": "RUN", **layer}


def test_documents_are_read_as_untrusted() -> None:
    known, unknown = (f"sha256:{each * 64}" for each in "ab")
    layers = [Descriptor(LAYER_TYPE, known, 5)]
    found = read(
        json.dumps({"version": 1, "results": [result(1, known), result(2, unknown), result(3)]}).encode(), layers
    )
    assert {int(key, 16): each.layer and each.layer.digest for key, each in found.items()} == {1: known, 3: None}
    assert found[f"{1:064x}"].created_at.isoformat() == MOMENT
    other = [Descriptor("application/x", known, 5)]
    assert read(json.dumps({"version": 1, "results": [result(1, known)]}).encode(), other) == {}
    disk = [Descriptor(DISK_TYPE, known, 5)]
    assert read(json.dumps({"version": 1, "results": [result(1, known)]}).encode(), disk) == {}, "nothing is verified"
    wrong: list[object] = [
        [], {}, {"version": 2}, {"version": 1, "results": [{}]}, {"version": 1, "results": 5},
        {"version": 1, "results": [{**result(1), "created": "yesterday"}]},
        {"version": 1, "results": [{**result(1), "created": "9999-12-31T23:59:59-23:00"}]},
        {"version": 1, "results": [{**result(1), "key": "../x"}]},
        {"version": 1, "results": [{**result(1, known), "diff_id": "sha256:x"}]},
        {"version": 1, "results": [result(1)] * 5001},
    ]  # fmt: skip
    for each in wrong:
        with pytest.raises(InvalidInput):
            read(json.dumps(each).encode(), layers)


def test_documents_are_equal_for_equal_results_and_bounded() -> None:
    from datetime import UTC, datetime

    moment = datetime(2026, 11, 23, tzinfo=UTC)
    some = [Kept(f"{number:064x}", moment, f"sha256:{number:064x}", "sha256:" + "0" * 64) for number in range(600)]
    assert document(some) == document(list(reversed(some)))
    assert len(bounded(some)) == 500 and bounded(some)[0] == some[0]
    many = [Kept(f"{number:064x}", moment) for number in range(5001)]
    assert len(bounded(many)) == 5000 and len(read(document(bounded(many)), ())) == 5000
    made = BuildResult("1" * 64, moment, moment, "RUN echo s3cret", None)
    assert b"RUN" not in document([kept("1" * 64, made)]), "instructions may have values that no image shows"


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command_sends_and_writes_directories(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "index.json").write_text("{}")
    found = BuildCaches(
        ["reg.example/x", f"type=local,src={old}", f"type=local,src={tmp_path}/none"],
        [f"type=local,dest={new},mode=min", "type=registry,ref=reg.example/y", "type=inline"],
    )
    assert found.imports == [{"type": "registry", "ref": "reg.example/x"}, {"type": "local", "directory": "cache-1"}]
    assert found.exports[0] == {"type": "local", "mode": "min", "directory": "cache-1"}
    assert list(found.directories) == ["cache-1"] and found.missing == [f"{tmp_path}/none"]
    assert list(found.registries()) == ["reg.example/x", "reg.example/y"]
    data = tar({"index.json": "new", "blobs/sha256/x": "blob"})
    for at in range(0, len(data), 700):
        found.take("cache-1", data[at : at + 700])
    found.take("cache-9", b"what was not asked for")
    assert not (new / "index.json").exists(), "nothing is written before the build has succeeded"
    (new / "blobs" / "sha256").mkdir(parents=True)
    found.finish()
    assert (new / "blobs" / "sha256" / "x").read_text() == "blob"
    for text in ("type=local", "mode=min", "type=local,src="):
        with pytest.raises(UsageError):
            BuildCaches([text], [])
        with pytest.raises(UsageError):
            BuildCaches([], [text])
