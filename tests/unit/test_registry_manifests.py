"""Manifests, tags, referrers and lists of the registry, as the specification has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from interleaving import Interleaver
from registry_content import (
    CONFIG,
    EXAMPLE,
    INDEX,
    MANIFEST,
    Content,
    artifact,
    blob,
    digest_of,
    image,
    index,
)
from registry_door import Client, registry_standing

from isola.model.image import Image
from isola.model.reference import Ref

APP = "conformance/app"
ARM = image("arm", architecture="arm64")
LARGE = {f"large-{number}": "A" * 10_000 for number in range(390)}
LAYER_ELSEWHERE = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"


def elsewhere() -> Content:
    """An image with a layer that no registry has."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": blob(config, CONFIG),
        "layers": [blob(b"elsewhere", LAYER_ELSEWHERE) | {"urls": ["https://store.invalid/blob"]}],
    }
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(config): config})


CONTENTS = {
    "image": image(),
    "docker": image(docker=True),
    "sha512": image(algorithm="sha512"),
    "other platform": ARM,
    "no layers": image(layers=[]),
    "large": image(annotations=LARGE),
    "unknown fields": image(extra={"a": [1]}),
    "data in descriptors": image("data", config=blob(b"{}", CONFIG) | {"data": "e30="}),
    "elsewhere": elsewhere(),
    "index": index(image(), ARM),
    "index of sha512": index(image(algorithm="sha512")),
    "empty index": index(),
    "index of indexes": index(index(image(), ARM), index(image("other")), platforms=("", "")),
    "artifact": artifact(),
    "artifact without layers": artifact("{}"),
    "index of artifacts": index(artifact(), artifactType=EXAMPLE),
    "attached": artifact(subject=image()),
    "attached index": index(image("attached"), subject=image().described),
}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with registry_standing() as stand:
        yield stand.client


async def there(client: Client, content: Content, reference: str, repository: str = APP) -> None:
    path, accept = f"/v2/{repository}/manifests/{reference}", {"Accept": f"{INDEX}, {content.media_type}"}
    head, got = await client.ask("HEAD", path, headers=accept), await client.ask("GET", path, headers=accept)
    assert (head.status, got.status, got.body) == (200, 200, content.data)
    for answer in (head, got):
        assert answer.headers["Content-Type"] == content.media_type
        assert answer.headers["Content-Length"] == str(len(content.data))
        assert answer.headers["ETag"] == f'"{answer.headers["Docker-Content-Digest"]}"'


async def gone(client: Client, reference: str) -> None:
    answer = await client.ask("GET", f"/v2/{APP}/manifests/{reference}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("name", CONTENTS)
async def test_the_life_of_a_manifest(client: Client, name: str) -> None:
    content = CONTENTS[name]
    if name == "data in descriptors":
        await client.push_blob(APP, digest_of(b"{}"), b"{}")
    answer = await client.push(APP, content)
    assert answer.status == 201, answer
    assert answer.headers["Location"] == f"/v2/{APP}/manifests/{content.digest}"
    assert answer.headers["Docker-Content-Digest"] == content.digest
    subject = json.loads(content.data).get("subject")
    assert answer.headers.get("OCI-Subject") == (subject["digest"] if subject else None)
    answer = await client.put(APP, content, "tag")
    assert answer.status == 201
    tagged = digest_of(content.data)
    assert answer.headers["Docker-Content-Digest"] == tagged
    for reference in (content.digest, tagged, "tag"):
        await there(client, content, reference)
    for digest, data in content.blobs.items():
        assert (await client.ask("GET", f"/v2/{APP}/blobs/{digest}")).body == data
    assert (await client.ask("GET", f"/v2/{APP}/tags/list")).json == {"name": APP, "tags": ["tag"]}
    assert (await client.ask("DELETE", f"/v2/{APP}/manifests/tag")).status == 202
    await gone(client, "tag")
    for digest in {content.digest, tagged}:
        await there(client, content, digest)
        assert (await client.ask("DELETE", f"/v2/{APP}/manifests/{digest}")).status == 202
        await gone(client, digest)
        assert (await client.ask("DELETE", f"/v2/{APP}/manifests/{digest}")).status == 404
    for each in content.manifests:
        assert (await client.ask("DELETE", f"/v2/{APP}/manifests/{each.digest}")).status == 202
    for digest in content.blobs:
        assert (await client.ask("DELETE", f"/v2/{APP}/blobs/{digest}")).status == 202
        assert (await client.ask("HEAD", f"/v2/{APP}/blobs/{digest}")).status == 404


async def test_missing_manifests(client: Client) -> None:
    for reference in ("none", digest_of(b"none"), ".INVALID_MANIFEST_NAME"):
        await gone(client, reference)
        assert (await client.ask("HEAD", f"/v2/{APP}/manifests/{reference}")).status == 404
    answer = await client.ask("GET", f"/v2/{APP}/manifests/sha256:baddigeststring")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    for reference in ("none", digest_of(b"none")):
        assert (await client.ask("DELETE", f"/v2/{APP}/manifests/{reference}")).status == 404


async def test_what_a_manifest_refers_to_must_be_there(client: Client) -> None:
    content = image()
    answer = await client.put(APP, content, "1")
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert answer.json["errors"][0]["detail"]["evidence"] in content.blobs
    answer = await client.put(APP, index(content), "1")
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    await client.push("other/app", content)
    assert (await client.put(APP, content, "1")).status == 404, "blobs of other repositories do not count"


async def test_invalid_manifests_are_refused(client: Client) -> None:
    content = image()
    await client.push(APP, content)
    put = f"/v2/{APP}/manifests/"
    for data, kind in (
        (b"", MANIFEST),
        (b"{", MANIFEST),
        (b"[]", MANIFEST),
        (content.data, INDEX),
        (content.data.replace(b'"schemaVersion": 2', b'"schemaVersion": 1'), MANIFEST),
        (content.data.replace(b'"schemaVersion": 2, ', b""), MANIFEST),
        (content.data, "text/html"),
        (b"[" * 100_000, MANIFEST),
    ):
        answer = await client.ask("PUT", put + "1", data, {"Content-Type": kind})
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), (data[:20], kind)
    answer = await client.ask("PUT", put + "sha256:baddigeststring", content.data, {"Content-Type": MANIFEST})
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    answer = await client.ask("PUT", put + content.digest, content.data + b"  ", {"Content-Type": MANIFEST})
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    large = image(annotations=LARGE | {"more": "x" * 400_000})
    answer = await client.ask("PUT", put + "1", large.data, {"Content-Type": MANIFEST})
    assert (answer.status, answer.code) == (413, "MANIFEST_INVALID")
    for tag in ("-1", "a" * 129, "a%20b"):
        assert (await client.put(APP, content, tag)).status == 400
    assert (await client.ask("PUT", put + "generic", content.data, {"Content-Type": "application/json"})).status == 201


async def test_several_tags_in_one_request(client: Client) -> None:
    content = image()
    await client.push(APP, content)
    answer = await client.put(APP, content, query="?tag=1&tag=1.2&tag=latest")
    assert answer.status == 201
    assert answer.headers["OCI-Tag"].split(", ") == ["1", "1.2", "latest"]
    assert (await client.ask("GET", f"/v2/{APP}/tags/list")).json["tags"] == ["1", "1.2", "latest"]
    large = image(algorithm="sha512")
    await client.push(APP, large)
    assert (await client.put(APP, large, query="?tag=512")).headers["OCI-Tag"] == "512"
    await there(client, large, "512")
    many = "&".join(f"tag={number}" for number in range(20))
    assert (await client.put(APP, content, query=f"?{many}")).code == "TAG_INVALID"


async def test_a_client_without_indexes_gets_the_manifest_for_this_host(client: Client) -> None:
    first = image()
    whole = index(first, ARM)
    await client.push(APP, whole, "1")
    path = f"/v2/{APP}/manifests/"
    assert (await client.ask("GET", path + "1")).body == whole.data
    assert (await client.ask("GET", path + "1", headers={"Accept": "*/*"})).body == whole.data
    assert (await client.ask("GET", path + "1", headers={"Accept": MANIFEST})).body == first.data
    assert (await client.ask("GET", path + whole.digest, headers={"Accept": MANIFEST})).body == whole.data
    assert (await client.ask("GET", path + "1", headers={"If-None-Match": f'"{whole.digest}"'})).status == 304


async def test_tags_in_pages(client: Client) -> None:
    answer = await client.ask("GET", f"/v2/{APP}/tags/list")
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
    content = artifact()
    await client.push(APP, content)
    for tag in ("b", "A", "C", "a", "d"):
        await client.put(APP, content, tag)
    path, found = f"/v2/{APP}/tags/list?n=2", []
    while path:
        answer = await client.ask("GET", path)
        assert len(answer.json["tags"]) <= 2
        found += answer.json["tags"]
        link = answer.headers.get("Link", "")
        path = link.partition("<")[2].partition(">")[0]
        assert not path or link.endswith('; rel="next"')
    assert found == ["A", "a", "b", "C", "d"], "without regard to case"
    for query, expected in (("n=0", []), ("last=b", ["C", "d"]), ("n=1&last=zz", []), ("n=9&last=A", list("abCd"))):
        assert (await client.ask("GET", f"/v2/{APP}/tags/list?{query}")).json["tags"] == expected
    answer = await client.ask("GET", f"/v2/{APP}/tags/list?n=-1")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


async def test_repositories_in_pages(client: Client) -> None:
    for name in ("b", "a/x", "a", "c"):
        await client.push(name, artifact())
    first = await client.ask("GET", "/v2/_catalog?n=3")
    assert first.json == {"repositories": ["a", "a/x", "b"]}
    following = first.headers["Link"].partition("<")[2].partition(">")[0]
    assert (await client.ask("GET", following)).json == {"repositories": ["c", "tiny"]}


async def test_referrers(client: Client) -> None:
    subject = image()
    path = f"/v2/{APP}/referrers/{subject.digest}"
    empty = await client.ask("GET", path)
    assert (empty.status, empty.headers["Content-Type"]) == (200, INDEX)
    assert empty.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
    signed, listed = artifact("a", subject=subject, annotations={"k": "v"}), artifact("b", "text/sbom", subject)
    plain = image("attached image", subject=subject.described)
    whole = index(image("x"), subject=subject.described, artifactType="text/index")
    for content in (signed, listed, plain, whole):
        assert (await client.push(APP, content)).headers["OCI-Subject"] == subject.digest
    found = {each["digest"]: each for each in (await client.ask("GET", path)).json["manifests"]}
    assert {digest: each["artifactType"] for digest, each in found.items()} == {
        signed.digest: EXAMPLE,
        listed.digest: "text/sbom",
        plain.digest: CONFIG,
        whole.digest: "text/index",
    }
    assert found[signed.digest] == signed.described | {"artifactType": EXAMPLE, "annotations": {"k": "v"}}
    answer = await client.ask("GET", f"{path}?artifactType=text/sbom")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [each["digest"] for each in answer.json["manifests"]] == [listed.digest]
    await client.ask("DELETE", f"/v2/{APP}/manifests/{listed.digest}")
    assert (await client.ask("GET", f"{path}?artifactType=text/sbom")).json["manifests"] == []
    answer = await client.ask("GET", f"/v2/{APP}/referrers/sha256:bad")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_an_image_of_the_store_is_pulled_as_it_is(client: Client) -> None:
    manifest = await client.ask("GET", "/v2/tiny/manifests/latest")
    assert manifest.status == 200
    for each in [manifest.json["config"], *manifest.json["layers"]]:
        got = await client.ask("GET", f"/v2/tiny/blobs/{each['digest']}")
        assert digest_of(got.body) == each["digest"]
    digest = manifest.headers["Docker-Content-Digest"]
    [attached] = (await client.ask("GET", f"/v2/tiny/referrers/{digest}")).json["manifests"]
    assert attached["artifactType"] == "application/vnd.isola.lxd.image.v1"


async def test_what_is_found_by_a_short_name_is_deleted_by_it() -> None:
    """A repository of this name beside that of Docker Hub, whose content is found by the same path."""
    async with registry_standing() as stand:
        client, own, other = stand.client, image("own"), image("of the hub")
        await client.push("team/app", own, "1")
        await client.push("docker.io/team/app", other, "2")
        loose = digest_of(b"loose")
        await client.push_blob("docker.io/team/app", loose, b"loose")
        for path in ("manifests/2", f"manifests/{other.digest}", f"blobs/{loose}"):
            assert (await client.ask("GET", f"/v2/team/app/{path}")).status == 200
            assert (await client.ask("DELETE", f"/v2/team/app/{path}")).status == 202, path
            assert (await client.ask("GET", f"/v2/team/app/{path}")).status == 404
            assert (await client.ask("DELETE", f"/v2/team/app/{path}")).status == 404
        await there(client, own, "1", "team/app")


async def test_a_repository_whose_last_alias_was_removed_elsewhere_goes_with_its_last_blob() -> None:
    async with registry_standing() as stand:
        client, content = stand.client, image()
        await client.push("team/app", content, "1")
        await stand.rest.ask("POST", "/1.0/images/aliases", {"name": "kept", "target": content.digest[7:]})
        await stand.rest.ask("DELETE", "/1.0/images/aliases/team/app:1")
        assert (await client.ask("DELETE", f"/v2/team/app/manifests/{content.digest}")).status == 202
        for digest in content.blobs:
            assert (await client.ask("DELETE", f"/v2/team/app/blobs/{digest}")).status == 202
        assert (await client.ask("GET", "/v2/team/app/tags/list")).status == 404
        assert (await client.ask("GET", "/v2/kept/manifests/latest")).status == 200


async def test_manifests_that_are_pushed_again_outlive_the_image_that_they_were() -> None:
    """A client has pushed the manifests of its next index while another client deletes the image of these."""
    async with registry_standing() as stand:
        client, one = stand.client, image()
        whole = index(one, ARM)
        await client.push(APP, one, "1")
        await client.push(APP, whole, "2")
        await client.push(APP, artifact(subject=one))
        await stand.rest.ask("POST", "/1.0/images/aliases", {"name": "kept", "target": one.digest[7:]})
        for tag in ("1", "2"):
            await stand.rest.ask("DELETE", f"/1.0/images/aliases/{APP}:{tag}")
        await stand.services.host.clock.advance(1)  # type: ignore[attr-defined]
        assert (await client.put(APP, one)).status == 201
        await stand.rest.finish("DELETE", f"/1.0/images/{one.digest[7:]}")
        assert (await client.ask("GET", f"/v2/{APP}/manifests/{whole.digest}")).status == 404
        assert (await client.ask("GET", f"/v2/{APP}/manifests/{ARM.digest}")).status == 404
        await there(client, one, one.digest)
        assert len((await client.ask("GET", f"/v2/{APP}/referrers/{one.digest}")).json["manifests"]) == 1
        assert (await client.put(APP, index(one), "3")).status == 201
        await there(client, one, one.digest)


async def test_an_image_that_is_dropped_while_it_gets_a_name_keeps_that() -> None:
    """Whatever the deletion has done when the push of the same image arrives."""
    async with registry_standing() as stand:
        await stand.client.push("team/one", image(), "1")
        library, interleaver = stand.services.images, Interleaver()
        one, two = Ref.default("team/one:1"), Ref.default("team/two:1")
        for at in interleaver.suspensions():
            pushed = library.resolve(one)
            assert pushed is not None
            await library.remove_alias(one)

            async def drop(gone: Image = pushed) -> None:
                await asyncio.create_task(library.drop(gone))

            async def name(again: Image = pushed) -> bool:
                await library.record_pushed(again, two)
                return True

            await interleaver.run(drop(), name, at)
            if interleaver.struck is not None:
                found = library.resolve(two)
                assert found is not None and library.names_of(found) == [library.alias(two)], f"at suspension {at}"
                await library.remove_alias(two)
            await library.record_pushed(pushed, one)
        assert at > 3


async def test_a_pushed_image_is_seen_by_the_rest_api() -> None:
    async with registry_standing() as stand:
        content = image()
        await stand.client.push("team/app", content, "1")
        found = await stand.rest.get("/1.0/images/aliases/team/app:1")
        assert found["target"] == content.digest[7:]
        shown = await stand.rest.get(f"/1.0/images/{found['target']}")
        assert shown["aliases"][0]["name"] == "team/app:1"
        await stand.rest.ask("DELETE", "/1.0/images/aliases/team/app:1")
        assert (await stand.client.ask("GET", "/v2/team/app/manifests/1")).status == 404
        await there(stand.client, content, content.digest, "team/app")
