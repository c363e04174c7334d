"""Pushing to registries: what is sent, mounted, resumed and refused."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from isola.errors import Forbidden, HostFailure, InvalidInput, NotFound, Unsupported
from isola.images.registry import upload
from isola.images.registry.credentials import Credentials
from isola.images.registry.listing import Repository
from isola.images.registry.progress import LayerEvent, LayerState
from isola.model.image import Alias
from isola.model.image_reference import parse, parse_full
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.parts import IMAGE, World
from isola.testing.registry import FakeRegistry, digest_of

URL = "https://registry.example"
TARGET = "registry.example/team/tiny:1"


class Bench:
    """A daemon with the system image ``tiny``, and an empty registry."""

    def __init__(self) -> None:
        self.world = World()
        self.registry = self.world.host.http.servers[URL] = FakeRegistry(URL)

    async def push(self, name: str = IMAGE, to: str = TARGET, **how: object) -> Operation:
        images = self.world.parts.services.images
        image = images.resolve(Ref.default(name))
        assert image is not None
        return await self.world.finish(images.registries.start_push(image.ref, parse(to), **how))  # type: ignore[arg-type]

    def methods(self) -> list[str]:
        return [each.method for each in self.world.host.http.requests if "/blobs/" in each.url]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.world.start()
    await bench.world.import_image()
    yield bench
    await bench.world.parts.close()
    bench.world.forget()


async def test_a_system_image_built_here_comes_back_as_one_elsewhere(bench: Bench) -> None:
    operation = await bench.push()
    data, _ = bench.registry.manifests["team/tiny", "1"]
    assert operation.metadata["digest"] == digest_of(data)
    other = World()
    other.host.http.servers[URL] = bench.registry
    await other.start()
    images = other.parts.services.images
    await other.finish(images.registries.start_pull(parse(TARGET)))
    pulled = images.resolve(Ref.default(TARGET))
    mine = bench.world.parts.services.images.resolve(Ref.default(IMAGE))
    assert pulled is not None and mine is not None
    assert pulled.config.system
    assert pulled.manifest == mine.manifest
    assert [layer.diff_id for layer in pulled.layers] == [layer.diff_id for layer in mine.layers]
    assert pulled.properties["os"] == "Tiny"
    instance = await other.create("c1", image=TARGET)
    assert instance.start.system
    await other.parts.close()
    other.forget()


async def test_pulling_back_what_was_pushed_is_the_same_image(bench: Bench) -> None:
    await bench.push()
    images = bench.world.parts.services.images
    await bench.world.finish(images.registries.start_pull(parse(TARGET)))
    assert images.resolve(Ref.default(TARGET)) == images.resolve(Ref.default(IMAGE))
    assert len(list(images)) == 1


async def test_a_second_push_sends_only_the_manifest(bench: Bench) -> None:
    await bench.push()
    bench.world.host.http.requests.clear()
    events: list[LayerEvent] = []
    await bench.push(to="registry.example/team/tiny:2", watch=events.append)
    assert set(bench.methods()) == {"HEAD"}
    assert {event.state for event in events} == {LayerState.WAITING, LayerState.PRESENT}
    assert ("team/tiny", "2") in bench.registry.manifests


async def test_layers_are_mounted_from_repositories_that_are_known_here(bench: Bench) -> None:
    await bench.push()
    images = bench.world.parts.services.images
    image = images.resolve(Ref.default(IMAGE))
    assert image is not None
    await images.add_alias(Alias(TARGET, image.fingerprint))
    events: list[LayerEvent] = []
    await bench.push(to="registry.example/other/tiny:1", watch=events.append)
    assert ("team/tiny", "other/tiny") in bench.registry.mounts
    mounted = [event for event in events if event.state is LayerState.MOUNTED]
    assert [event.source for event in mounted] == ["team/tiny"]


async def test_a_broken_upload_goes_on_where_it_was(bench: Bench) -> None:
    bench.world.host.http.upload_breaks = [7]
    events: list[LayerEvent] = []
    await bench.push(watch=events.append)
    ranges = [each.headers.get("content-range", "") for each in bench.world.host.http.requests]
    assert any(text.startswith("7-") for text in ranges)
    assert ("team/tiny", "1") in bench.registry.manifests


async def test_an_upload_that_the_registry_forgot_begins_again(bench: Bench) -> None:
    bench.world.host.http.upload_breaks = [7]
    answer = bench.registry.__call__

    def forget(request: object) -> object:
        if request.method == "GET" and "/uploads/" in request.url:  # type: ignore[attr-defined]
            bench.registry.uploads.clear()
        return answer(request)  # type: ignore[arg-type]

    bench.world.host.http.servers[URL] = forget  # type: ignore[assignment]
    await bench.push()
    assert ("team/tiny", "1") in bench.registry.manifests


async def test_an_upload_that_always_breaks_ends_with_an_error(bench: Bench) -> None:
    bench.world.host.http.upload_breaks = [0] * 1000
    with pytest.raises(HostFailure, match="broke"):
        await bench.push()
    assert bench.registry.manifests == {}


async def test_large_blobs_are_sent_in_parts(bench: Bench, small_chunks: None) -> None:
    await bench.push()
    assert bench.methods().count("PATCH") > 3
    assert ("team/tiny", "1") in bench.registry.manifests


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(upload), "_CHUNK", 64)


async def test_credentials_and_refusals(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    with pytest.raises(Forbidden):
        await bench.push()
    await bench.push(credentials=Credentials("ann", "secret"))
    with pytest.raises(Unsupported, match="no registry"):
        images = bench.world.parts.services.images
        image = images.resolve(Ref.default(IMAGE))
        local = parse_full("team/tiny")
        assert image is not None and local is not None
        images.registries.start_push(image.ref, local)


async def test_an_image_with_a_missing_layer_is_not_pushed(bench: Bench) -> None:
    images = bench.world.parts.services.images
    image = images.resolve(Ref.default(IMAGE))
    assert image is not None
    await bench.world.host.files.remove_tree(images.store.path(image.layers[0].digest))
    with pytest.raises(NotFound, match="incomplete"):
        await bench.push()
    assert bench.registry.manifests == {}


async def test_a_blob_that_was_damaged_here_is_refused_by_the_registry(bench: Bench) -> None:
    images = bench.world.parts.services.images
    image = images.resolve(Ref.default(IMAGE))
    assert image is not None
    path = images.store.path(image.layers[0].digest)
    await bench.world.host.files.write(path, b"x" * await bench.world.host.files.size(path))
    with pytest.raises(InvalidInput, match="digest invalid"):
        await bench.push()
    assert bench.registry.manifests == {}


async def test_an_image_that_is_deleted_during_its_push_is_sent_whole(bench: Bench) -> None:
    images = bench.world.parts.services.images
    image = images.resolve(Ref.default(IMAGE))
    assert image is not None
    answer = bench.registry.__call__
    gone: list[Operation] = []

    def delete(request: object) -> object:
        if not gone:
            gone.append(images.start_delete(image.ref))
        return answer(request)  # type: ignore[arg-type]

    bench.world.host.http.servers[URL] = delete  # type: ignore[assignment]
    await bench.push()
    assert ("team/tiny", "1") in bench.registry.manifests
    await bench.world.finish(gone[0])
    assert await images.store.digests() == ()


async def test_an_index_is_pushed_if_all_of_its_images_are_here(bench: Bench) -> None:
    source = bench.registry
    only = source.add_image("team/app", "", {"bin/app": b"app"})
    source.add_index("team/app", "one", {"linux/amd64": only})
    source.add_index(
        "team/app", "two", {"linux/amd64": only, "linux/arm64": source.add_image("team/app", "", {"x": b""})}
    )
    images = bench.world.parts.services.images
    for tag, whole in (("one", True), ("two", False)):
        await bench.world.finish(images.registries.start_pull(parse(f"registry.example/team/app:{tag}")))
        await bench.push(f"registry.example/team/app:{tag}", f"registry.example/copy/app:{tag}")
        data, kind = source.manifests["copy/app", tag]
        assert ("index" in kind) is whole
        assert (data == source.manifests["team/app", tag][0]) is whole


async def test_tags_and_repositories_are_listed(bench: Bench) -> None:
    await bench.push()
    registries = bench.world.parts.services.images.registries
    assert await registries.tags(parse(TARGET)) == ("1",)
    assert await registries.search("registry.example", "tin", 5) == (Repository("team/tiny"),)
    assert (await registries.look_up(parse(TARGET))).at.digest == digest_of(
        bench.registry.manifests["team/tiny", "1"][0]
    )
    bench.registry.users = {"ann": "secret"}
    await registries.login("registry.example", Credentials("ann", "secret"))
    with pytest.raises(Forbidden):
        await registries.login("registry.example", Credentials("ann", "wrong"))
