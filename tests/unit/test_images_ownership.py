"""Who knows a digest has not got the content: every way to name a blob that another project alone has sent."""

from __future__ import annotations

import gzip
import json
from collections.abc import AsyncIterator

import pytest
from registry_content import CONFIG, INDEX, LAYER, MANIFEST, Content, blob, digest_of, image, index
from registry_door import RegistryStand, registry_standing
from tars import member, tar

from isola.errors import IsolaError
from isola.images.unpacking import Unpacking
from isola.model.image import Image
from isola.model.image_reference import parse
from isola.model.project import Project
from isola.model.reference import Ref
from isola.testing.registry import FakeRegistry

BLUE = "project/blue/app"
BLUE_LOADED = "project/blue/docker.io/project/blue/app"
SECRET = image("secret")
CONFIG_DIGEST, LAYER_DIGEST = SECRET.blobs
ELSEWHERE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
URL = "https://registry.example"


@pytest.fixture
async def stand() -> AsyncIterator[RegistryStand]:
    """The default project has the image, ``blue`` knows its digests."""
    async with registry_standing() as opened:
        await opened.services.projects.create(Project("blue", config={"features.images": "true"}))
        assert (await opened.client.push("team/app", SECRET, "1")).status == 201
        yield opened


async def load(stand: RegistryStand, archive: bytes, project: str = "blue") -> list[Image]:
    images, services = stand.services.images, stand.services
    file = images.store.scratch / "archive"
    file.write_bytes(archive)
    try:
        await services.operations.finish(images.archives.load(file, project=project))
    finally:
        file.unlink()
    return [each for each in images if each.project == project]


def layout(*contents: Content, top: Content, without: tuple[str, ...] = (), name: str = BLUE) -> bytes:
    """An OCI layout whose blobs are those of all contents, but some."""
    documents = {each.digest: each.data for content in (*contents, top) for each in (*content.manifests, content)}
    blobs = {digest: data for content in (*contents, top) for digest, data in content.blobs.items()} | documents
    annotated = top.described | {"annotations": {"io.containerd.image.name": f"docker.io/{name}:1"}}
    listed = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [annotated]}
    return tar(
        *(member(f"blobs/{key.replace(':', '/')}", data) for key, data in blobs.items() if key not in without),
        member("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        member("index.json", json.dumps(listed).encode()),
    )


def saved(*, layer: bytes | None) -> bytes:
    """As ``docker save`` writes it, with the secret's configuration; without its layer if that is None."""
    config = SECRET.blobs[CONFIG_DIGEST]
    listed = [{"Config": "config.json", "RepoTags": ["docker.io/library/app:1"], "Layers": ["layer.tar"]}]
    layers = [member("layer.tar", layer)] if layer is not None else []
    return tar(*layers, member("config.json", config), member("manifest.json", json.dumps(listed).encode()))


@pytest.mark.parametrize("missing", [CONFIG_DIGEST, LAYER_DIGEST, SECRET.digest])
async def test_an_archive_has_to_bring_what_its_project_has_not(stand: RegistryStand, missing: str) -> None:
    with pytest.raises(IsolaError, match="incomplete"):
        await load(stand, layout(top=SECRET, without=(missing,)))
    assert await load(stand, layout(top=SECRET))
    assert await load(stand, layout(top=SECRET, without=(LAYER_DIGEST,))), "its own by now"


async def test_an_archive_of_docker_has_to_bring_its_layers(stand: RegistryStand) -> None:
    plain = gzip.decompress(SECRET.blobs[LAYER_DIGEST])
    with pytest.raises(IsolaError, match="incomplete"):
        await load(stand, saved(layer=None))
    with pytest.raises(IsolaError, match="does not match"):
        await load(stand, saved(layer=plain[:-512]))
    [made] = await load(stand, saved(layer=plain))
    assert made.layers[0].digest == digest_of(plain)


async def test_the_project_that_has_a_layer_need_not_send_it(stand: RegistryStand) -> None:
    assert [each.fingerprint for each in await load(stand, saved(layer=None), "default")]
    assert await load(stand, layout(top=SECRET, without=(LAYER_DIGEST,)), "default")


@pytest.mark.parametrize("how", ["index", "subject"])
async def test_what_a_loaded_document_names_is_not_served(stand: RegistryStand, how: str) -> None:
    own = image("own") if how == "index" else image("own", subject=SECRET.described)
    top = index(own, SECRET, platforms=("amd64", "arm64")) if how == "index" else own
    await load(stand, layout(own, top=top, without=(SECRET.digest, *SECRET.blobs), name="library/app"))
    client, found = stand.client, "/v2/project/blue/docker.io/library/app"
    assert (await client.ask("GET", f"{found}/manifests/{own.digest}")).status == 200
    assert (await client.ask("GET", f"{found}/manifests/{SECRET.digest}")).status == 404
    for digest in SECRET.blobs:
        assert (await client.ask("GET", f"{found}/blobs/{digest}")).status == 404
        mounted = await client.ask(
            "POST", f"/v2/{BLUE}/blobs/uploads/?mount={digest}&from=project/blue/docker.io/library/app"
        )
        assert mounted.status == 202
    again = await client.put(BLUE, SECRET, "1")
    assert (again.status, again.code) == (404, "MANIFEST_BLOB_UNKNOWN")


async def test_the_index_of_another_project_is_not_served(stand: RegistryStand) -> None:
    """Both projects have the image, each out of an index of its own or none."""
    both = image("both")
    whole = index(both, image("other", architecture="arm64"))
    await load(stand, layout(top=both))
    await stand.client.push("team/app", whole, "2")
    status = (await stand.client.ask("GET", f"/v2/team/app/manifests/{whole.digest}")).status
    assert status == 200
    assert (await stand.client.ask("GET", f"/v2/{BLUE_LOADED}/manifests/{both.digest}")).status == 200
    assert (await stand.client.ask("GET", f"/v2/{BLUE_LOADED}/manifests/{whole.digest}")).status == 404


async def test_a_push_sends_no_image_of_another_project(stand: RegistryStand) -> None:
    registry = stand.rest.world.host.http.servers[URL] = FakeRegistry(URL)
    own = image("own")
    top = index(own, SECRET, platforms=("amd64", "arm64"))
    [made] = await load(stand, layout(own, top=top, without=(SECRET.digest, *SECRET.blobs)))
    push = stand.services.images.registries.start_push(made.ref, parse("registry.example/team/app:1"))
    await stand.services.operations.finish(push)
    assert {digest for _, digest in registry.blobs} == {*own.blobs}
    assert push.metadata["left_out"] == top.digest


async def test_an_index_from_elsewhere_gives_away_nothing_of_its_own_project(stand: RegistryStand) -> None:
    """Who pulls it, makes it public, and pushes it to the next registry, does so with its own images alone."""
    registry = stand.rest.world.host.http.servers[URL] = FakeRegistry(URL)
    own = image("own")
    top = index(own, SECRET, platforms=("amd64", "arm64"), subject=SECRET.described)
    for content in (own, top):
        registry.add_manifest("evil/app", content.digest, content.data, content.media_type)
    registry.add_manifest("evil/app", "1", top.data, INDEX)
    registry.blobs |= {("evil/app", digest): data for digest, data in own.blobs.items()}
    images, operations = stand.services.images, stand.services.operations
    await operations.finish(images.registries.start_pull(parse("registry.example/evil/app:1"), public=True))
    views, home = stand.services.repositories.views, Ref.default("registry.example/evil/app")
    for public in (True, False):
        assert views.has_blob(home, next(iter(own.blobs)), public=public)
        assert views.digest_of(home, "1", public=public) == top.digest
        assert not any(views.has_blob(home, digest, public=public) for digest in (SECRET.digest, *SECRET.blobs))
    made = images.get(Ref.default(own.digest[7:]))
    push = images.registries.start_push(made.ref, parse("registry.example/evil/back:1"))
    await operations.finish(push)
    assert {digest for name, digest in registry.blobs if name == "evil/back"} == {*own.blobs}


async def test_layers_that_registries_do_not_have_make_no_image(stand: RegistryStand) -> None:
    config = SECRET.blobs[CONFIG_DIGEST]
    layers = [blob(SECRET.blobs[LAYER_DIGEST], ELSEWHERE)]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config, CONFIG), "layers": layers}
    content = Content(json.dumps(document).encode(), MANIFEST, {CONFIG_DIGEST: config})
    assert (await stand.client.push(BLUE, content, "1")).status == 201
    assert not [each for each in stand.services.images if each.project == "blue"]
    assert (await stand.client.ask("GET", f"/v2/{BLUE}/blobs/{LAYER_DIGEST}")).status == 404
    assert (await stand.client.push_blob(BLUE, LAYER_DIGEST, SECRET.blobs[LAYER_DIGEST])).status == 201
    assert (await stand.client.put(BLUE, content, "1")).status == 201
    assert [each.project for each in stand.services.images].count("blue") == 1


async def test_a_registry_has_to_send_what_its_manifest_names(stand: RegistryStand) -> None:
    registry = stand.rest.world.host.http.servers[URL] = FakeRegistry(URL)
    images, operations = stand.services.images, stand.services.operations
    registry.add_manifest("team/app", "1", SECRET.data, MANIFEST)
    registry.blobs["team/app", CONFIG_DIGEST] = SECRET.blobs[CONFIG_DIGEST]

    async def pull(project: str) -> None:
        await operations.finish(images.registries.start_pull(parse("registry.example/team/app:1"), project=project))

    with pytest.raises(IsolaError):
        await pull("blue")
    assert images.resolve(Ref("blue", SECRET.digest[7:])) is None
    await pull("default")
    registry.blobs["team/app", LAYER_DIGEST] = SECRET.blobs[LAYER_DIGEST]
    await pull("blue")
    assert images.resolve(Ref("blue", SECRET.digest[7:])) is not None
    del registry.blobs["team/app", LAYER_DIGEST]
    await pull("blue")


async def test_a_public_image_is_everybodys(stand: RegistryStand) -> None:
    fingerprint = SECRET.digest[7:]
    status, answer = await stand.rest.ask("PATCH", f"/1.0/images/{fingerprint}", {"public": True})
    assert status == 200, answer
    assert await load(stand, layout(top=SECRET, without=(LAYER_DIGEST,)))


async def test_a_pushed_index_serves_all_its_images_by_every_name(stand: RegistryStand) -> None:
    whole = index(image("one"), image("arm", architecture="arm64"))
    await stand.client.push(BLUE, whole, "1")
    target = image("one").digest[7:]
    status, _ = await stand.rest.ask(
        "POST", "/1.0/images/aliases?project=blue", {"name": "kept/app:1", "target": target}
    )
    assert status in (200, 201)
    for content in (whole, *whole.manifests):
        answer = await stand.client.ask("GET", f"/v2/project/blue/kept/app/manifests/{content.digest}")
        assert answer.status == 200
        for digest in content.blobs:
            assert (await stand.client.ask("GET", f"/v2/project/blue/kept/app/blobs/{digest}")).status == 200


def claiming(claimed: Content, sent: Content) -> Content:
    """The layer of one image, with the configuration of another that names that one's diff id."""
    config, (digest, data) = claimed.blobs[next(iter(claimed.blobs))], list(sent.blobs.items())[1]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(config, CONFIG),
        "layers": [blob(data, LAYER)],
    }
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(config): config, digest: data})


async def launch(stand: RegistryStand, name: str, content: Content, project: str = "default") -> int:
    """The status code of the operation that creates an instance."""
    wanted = {"name": name, "source": {"type": "image", "fingerprint": content.digest[7:]}}
    status, answer = await stand.rest.ask("POST", f"/1.0/instances?project={project}", wanted)
    assert status == 202, answer
    _, answer = await stand.rest.ask("GET", f"{answer['operation']}/wait")
    return int(answer["metadata"]["status_code"])


async def test_an_image_does_not_start_with_a_layer_whose_diff_id_it_claims(stand: RegistryStand) -> None:
    liar = claiming(SECRET, image("own"))
    assert (await stand.client.push("team/liar", liar, "1")).status == 201
    assert await launch(stand, "honest", SECRET) == 200
    assert await launch(stand, "liar", liar) == 400, "though the pool has a layer with this diff id"
    assert await launch(stand, "again", SECRET) == 200
    again = claiming(image("own"), SECRET)
    assert (await stand.client.push("team/again", again, "1")).status == 201
    assert await launch(stand, "other", again) == 400, "also if no layer is there"


async def test_diff_ids_are_noted_until_their_layer_goes(stand: RegistryStand) -> None:
    images = stand.services.images
    assert await launch(stand, "one", SECRET) == 200
    note = images.store.note(LAYER_DIGEST)
    assert note.read_text() == digest_of(gzip.decompress(SECRET.blobs[LAYER_DIGEST]))
    [layer] = images.get(Ref.default(SECRET.digest[7:])).layers
    note.write_text("sha256:cut")
    unpacking = Unpacking(stand.services.host, images.store, lambda: images.limits, lambda: images.disk_limits)
    await unpacking.check([layer])
    note.write_text("sha256:" + "0" * 64)
    fresh = Unpacking(stand.services.host, images.store, lambda: images.limits, lambda: images.disk_limits)
    with pytest.raises(IsolaError, match="does not match"):
        await fresh.check([layer])
    await stand.rest.finish("DELETE", "/1.0/instances/one")
    assert (await stand.client.ask("DELETE", f"/v2/team/app/manifests/{SECRET.digest}")).status == 202
    for digest in SECRET.blobs:
        assert (await stand.client.ask("DELETE", f"/v2/team/app/blobs/{digest}")).status == 202
    await images.collect_garbage()
    assert not note.exists()
