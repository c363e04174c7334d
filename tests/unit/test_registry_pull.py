"""Pulling from registries: names, platforms, authentication, mirrors, breaks, damage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from isola.errors import Forbidden, HostFailure, InvalidInput, IsolaError, NotFound, TooLarge, Unsupported
from isola.images.descriptor import INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE
from isola.images.registry.credentials import Credentials
from isola.images.registry.endpoints import HUB_HOST
from isola.images.registry.progress import LayerEvent, LayerState
from isola.model.image import Image
from isola.model.image_reference import parse
from isola.model.reference import Ref
from isola.operations import Operation
from isola.testing.parts import World
from isola.testing.registry import FakeRegistry, digest_of

URL = "https://registry.example"
NAME = "registry.example/team/app:1"
FILES = {"bin/app": bytes(range(256)) * 40}
ANN = Credentials("ann", "secret")


class Bench:
    """A daemon and a registry with one image."""

    def __init__(self) -> None:
        self.world = World()
        self.registry = self.serve(URL)
        self.digest = self.registry.add_image("team/app", "1", FILES, more=[{"etc/more": b"more"}])

    def serve(self, url: str, **how: object) -> FakeRegistry:
        registry = self.world.host.http.servers[url] = FakeRegistry(url, **how)  # type: ignore[arg-type]
        return registry

    async def configure(self, **config: str) -> None:
        await self.world.parts.services.server.update(
            lambda before: {**before, **{f"images.registry.{key}": value for key, value in config.items()}}
        )

    async def pull(self, name: str = NAME, **how: object) -> Operation:
        images = self.world.parts.services.images
        return await self.world.finish(images.registries.start_pull(parse(name), **how))  # type: ignore[arg-type]

    def image(self, name: str = NAME) -> Image | None:
        return self.world.parts.services.images.resolve(Ref.default(name))

    def asked(self) -> list[str]:
        return [f"{each.method} {each.url}" for each in self.world.host.http.requests]

    def registry_digest(self, tag: str) -> str:
        data, _ = self.registry.manifests["team/app", tag]
        return digest_of(data)

    @property
    def layers(self) -> list[str]:
        return [digest for _, digest in self.registry.blobs]


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.world.start()
    yield bench
    assert await bench.world.host.files.names(bench.world.directory / "images" / "scratch") == ()
    await bench.world.parts.close()
    bench.world.forget()


async def blobs(bench: Bench) -> int:
    return len(await bench.world.host.files.names(bench.world.directory / "images" / "blobs" / "sha256"))


async def test_a_pulled_image_has_its_full_name_and_the_digest_of_its_manifest(bench: Bench) -> None:
    operation = await bench.pull()
    image = bench.image()
    assert image is not None
    assert image.manifest == bench.digest == f"sha256:{image.fingerprint}" == operation.metadata["digest"]
    assert image.source == {"driver": "oci", "reference": NAME, "digest": bench.digest}
    assert image.config.command == ("/bin/sh",)
    assert [layer.digest in bench.layers for layer in image.layers] == [True, True]


async def test_a_pulled_image_can_be_launched_and_is_pulled_on_demand(bench: Bench) -> None:
    instance = await bench.world.create("c1", image="registry.example/team/app:1")
    assert bench.image() is not None
    assert instance.image == bench.digest.removeprefix("sha256:")


async def test_a_name_without_tag_means_latest_and_is_no_alias_itself(bench: Bench) -> None:
    bench.registry.add_image("team/app", "latest", FILES)
    await bench.world.create("c1", image="registry.example/team/app")
    assert [alias.name for alias in bench.world.parts.services.images.aliases()] == ["registry.example/team/app:latest"]


async def test_by_digest(bench: Bench) -> None:
    name = f"registry.example/team/app@{bench.digest}"
    await bench.pull(f"registry.example/team/app:other@{bench.digest}")
    assert bench.image(name) is not None
    bench.registry.manifests["team/app", bench.digest] = (b'{"schemaVersion":2}', MANIFEST_TYPE)
    with pytest.raises(InvalidInput, match="does not match its digest"):
        await bench.pull(name)


async def test_a_second_pull_moves_the_name_and_transfers_what_is_new(bench: Bench) -> None:
    await bench.pull()
    first = bench.image()
    bench.registry.add_image("team/app", "1", FILES, more=[{"etc/more": b"new"}])
    bench.world.host.http.requests.clear()
    events: list[LayerEvent] = []
    await bench.pull(watch=events.append)
    second = bench.image()
    assert first is not None and second is not None and first != second
    assert len([line for line in bench.asked() if "/blobs/" in line]) == 2  # the configuration and one layer
    states = {event.state for event in events}
    assert states == {LayerState.WAITING, LayerState.PRESENT, LayerState.MOVING, LayerState.COMPLETE}


# --- platforms -----------------------------------------------------------------------------------------------------


async def index(bench: Bench) -> dict[str, str]:
    images = {
        platform: bench.registry.add_image("team/app", "", {"arch": platform.encode()}, architecture=architecture)
        for platform, architecture in (("linux/amd64", "amd64"), ("linux/arm64/v8", "arm64"), ("linux/arm/v7", "arm"))
    }
    bench.registry.add_index("team/app", "many", images)
    return images


@pytest.mark.parametrize(
    ("asked", "platform"),
    [
        ("", "linux/amd64"),
        ("linux/arm64", "linux/arm64/v8"),
        ("arm64", "linux/arm64/v8"),
        ("linux/arm/v7", "linux/arm/v7"),
    ],
)
async def test_the_platform_is_chosen_from_an_index(bench: Bench, asked: str, platform: str) -> None:
    images = await index(bench)
    operation = await bench.pull("registry.example/team/app:many", platform=asked)
    found = bench.image("registry.example/team/app:many")
    assert found is not None and found.manifest == images[platform]
    assert found.index == operation.metadata["digest"] == bench.registry_digest("many")


async def test_a_platform_that_is_missing_names_those_that_are_there(bench: Bench) -> None:
    await index(bench)
    with pytest.raises(Unsupported, match="linux/amd64, linux/arm/v7, linux/arm64/v8"):
        await bench.pull("registry.example/team/app:many", platform="linux/s390x")
    with pytest.raises(InvalidInput, match="platform"):
        await bench.pull("registry.example/team/app:many", platform="Plan 9")


async def test_an_index_of_indexes_is_refused(bench: Bench) -> None:
    await index(bench)
    inner = bench.registry_digest("many")
    document = b'{"schemaVersion":2,"mediaType":"%s","manifests":[{"mediaType":"%s","digest":"%s","size":%d}]}' % (
        INDEX_TYPE.encode(), MANIFEST_TYPE.encode(), inner.encode(), 10,
    )  # fmt: skip
    bench.registry.add_manifest("team/app", "deep", document, INDEX_TYPE)
    with pytest.raises(IsolaError):
        await bench.pull("registry.example/team/app:deep")
    assert await blobs(bench) == 0


# --- authentication ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bearer", [True, False])
async def test_credentials_are_used_as_the_registry_wants(bench: Bench, bearer: bool) -> None:
    bench.registry.users, bench.registry.bearer = {"ann": "secret"}, bearer
    for wrong in (Credentials(), Credentials("ann", "wrong")):
        with pytest.raises(Forbidden, match="log in"):
            await bench.pull(credentials=wrong)
    await bench.pull(credentials=ANN)
    assert bench.image() is not None
    assert len(bench.registry.tokens) == (1 if bearer else 0)  # all layers share it


async def test_an_identity_token_is_exchanged(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    await bench.pull(credentials=Credentials(identity_token="identity"))
    assert bench.image() is not None


async def test_an_expired_token_is_renewed(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    answer = bench.registry.__call__
    forgotten: list[str] = []

    def forget(request: object) -> object:
        if "/blobs/" in request.url and not forgotten:  # type: ignore[attr-defined]
            forgotten.extend(bench.registry.tokens)
            bench.registry.tokens.clear()
        return answer(request)  # type: ignore[arg-type]

    bench.world.host.http.servers[URL] = forget  # type: ignore[assignment]
    await bench.pull(credentials=ANN)
    assert forgotten and bench.image() is not None


async def test_credentials_do_not_go_to_other_servers(bench: Bench) -> None:
    bench.registry.users, bench.registry.bearer = {"ann": "secret"}, False
    elsewhere = bench.serve("https://cdn.example")
    elsewhere.blobs = bench.registry.blobs
    answer = bench.registry.__call__

    def onward(request: object) -> object:
        reply = answer(request)  # type: ignore[arg-type]
        if "/blobs/" not in request.url or reply.status >= 300:  # type: ignore[attr-defined]
            return reply
        return type(reply)(307, headers={"Location": request.url.replace(URL, "https://cdn.example")})  # type: ignore[attr-defined]

    bench.world.host.http.servers[URL] = onward  # type: ignore[assignment]
    await bench.pull(credentials=ANN)
    sent = [each.headers for each in bench.world.host.http.requests if "cdn.example" in each.url]
    assert sent and not any("authorization" in headers for headers in sent)


async def test_a_token_server_without_encryption_gets_no_password(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    bench.registry.url = "http://registry.example"
    with pytest.raises(Forbidden, match="without encryption"):
        await bench.pull(credentials=ANN)


# --- where registries are ------------------------------------------------------------------------------------------


async def test_short_names_are_refused_without_a_default(bench: Bench) -> None:
    with pytest.raises(NotFound):
        await bench.world.create("c1", image="team/app:1")
    await bench.configure(default="registry.example")
    for name in ("Team/app:1", "a b", "no:such:name"):  # mistyped aliases are not asked for anywhere
        with pytest.raises(NotFound):
            await bench.world.create("c1", image=name)
    await bench.world.create("c1", image="team/app:1")
    assert bench.image() is not None


async def test_docker_hub_is_known(bench: Bench) -> None:
    bench.serve(f"https://{HUB_HOST}").add_image("library/app", "latest", FILES)
    await bench.pull("app")
    assert bench.image("docker.io/library/app:latest") is not None


async def test_mirrors_are_asked_first_and_get_no_credentials(bench: Bench) -> None:
    bench.registry.users, bench.registry.bearer = {"ann": "secret"}, False
    mirror = bench.serve("https://mirror.example")
    await bench.configure(mirrors="registry.example=https://gone.example, registry.example=https://mirror.example")
    await bench.pull(credentials=ANN)  # the mirror does not have it
    mirror.blobs, mirror.manifests = dict(bench.registry.blobs), dict(bench.registry.manifests)
    bench.world.host.http.requests.clear()
    await bench.pull(credentials=ANN)
    assert all("mirror.example" in line for line in bench.asked())
    assert not any("authorization" in each.headers for each in bench.world.host.http.requests)


@pytest.mark.parametrize("where", ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"])
async def test_plain_http_is_for_this_machine(bench: Bench, where: str) -> None:
    bench.serve(f"http://{where}").add_image("app", "1", FILES)
    await bench.pull(f"{where}/app:1")
    assert bench.world.host.http.requests[0].trust.verify


async def test_plain_http_elsewhere_has_to_be_configured(bench: Bench) -> None:
    bench.serve("http://10.1.2.3:5000").add_image("app", "1", FILES)
    with pytest.raises(HostFailure, match="Could not connect"):
        await bench.pull("10.1.2.3:5000/app:1")
    await bench.configure(insecure="10.0.0.0/8")
    await bench.pull("10.1.2.3:5000/app:1")
    assert not bench.world.host.http.requests[-1].trust.verify


async def test_certificates_of_a_registry(bench: Bench) -> None:
    place = bench.world.directory / "certs.d" / "registry.example"
    await bench.world.host.files.make_directory(place)
    for name in ("ca.crt", "me.cert", "me.key", "note.txt"):
        await bench.world.host.files.write(place / name, b"")
    await bench.pull()
    trust = bench.world.host.http.requests[-1].trust
    assert (trust.authorities, trust.certificate, trust.key) == (
        (place / "ca.crt",),
        place / "me.cert",
        place / "me.key",
    )


# --- breaks and damage ---------------------------------------------------------------------------------------------


async def test_a_broken_transfer_goes_on_where_it_was(bench: Bench) -> None:
    bench.registry.breaks = [10_000_000, 100, 30]  # the configuration is whole, then layers break
    await bench.pull()
    ranges = [each.headers["range"] for each in bench.world.host.http.requests if "range" in each.headers]
    assert len(ranges) == 2 and "bytes=30-" in ranges
    assert bench.image() is not None


async def test_two_pulls_of_one_image_download_once(bench: Bench) -> None:
    await asyncio.gather(bench.pull(), bench.pull())
    layers = [line for line in bench.asked() if "/blobs/" in line]
    assert len(layers) == len(set(layers)) == 3


@pytest.mark.parametrize("which", [0, 1, 2])
async def test_a_flipped_byte_is_refused_and_nothing_is_recorded(bench: Bench, which: int) -> None:
    bench.registry.flipped = {bench.layers[which]}
    with pytest.raises(InvalidInput, match="does not match its digest"):
        await bench.pull()
    assert bench.image() is None
    assert await blobs(bench) == 0


async def test_a_flipped_byte_of_the_manifest_is_refused(bench: Bench) -> None:
    bench.registry.flipped = {bench.digest}
    with pytest.raises(InvalidInput):
        await bench.pull()


async def test_hostile_documents_are_refused_before_their_layers(bench: Bench) -> None:
    huge = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": bench.layers[0], "size": 1 << 40}
    bench.registry.add_image("team/app", "huge", FILES, replaced={"config": huge})
    with pytest.raises(TooLarge):
        await bench.pull("registry.example/team/app:huge")
    bench.registry.add_manifest("team/app", "long", b" " * (5 << 20), MANIFEST_TYPE)
    with pytest.raises(TooLarge):
        await bench.pull("registry.example/team/app:long")
    vast = {"mediaType": LAYER_TYPE, "digest": bench.layers[0], "size": 1 << 40}
    bench.registry.add_image("team/app", "vast", FILES, replaced={"layers": [vast]})
    with pytest.raises(TooLarge, match=r"images\.limits\.bytes"):
        await bench.pull("registry.example/team/app:vast")
    foreign = {"mediaType": f"{LAYER_TYPE}+encrypted", "digest": bench.layers[0], "size": 1}
    bench.registry.add_image("team/app", "odd", FILES, replaced={"layers": [foreign]})
    with pytest.raises(Unsupported, match="cannot be unpacked"):
        await bench.pull("registry.example/team/app:odd")
    assert await blobs(bench) == 0


async def test_unknown_names(bench: Bench) -> None:
    with pytest.raises(NotFound, match="manifest unknown"):
        await bench.pull("registry.example/team/app:none")


async def test_a_cancelled_pull_leaves_nothing(bench: Bench) -> None:
    for turns in (1, 3, 10, 30, 60):
        operation = bench.world.parts.services.images.registries.start_pull(parse(NAME))
        for _ in range(turns):
            await asyncio.sleep(0)
        if not operation.status.final:
            operation.cancel()
        await operation.wait()
        if bench.image() is not None:
            return
        assert await blobs(bench) == 0
