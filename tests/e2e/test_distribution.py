"""The OCI distribution specification 1.1 from end to end: every endpoint, status and error code, every kind of content.

The content walks what the conformance tests of the specification walk, with the same kinds of manifests.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from registry_client import Answer, RegistryClient
from registry_content import (
    CONFIG,
    DOCKER_MANIFEST,
    EMPTY,
    EXAMPLE,
    INDEX,
    LAYER,
    MANIFEST,
    Content,
    artifact,
    blob,
    digest_of,
    image,
    index,
)
from registry_host import RegistryHost
from tiny_daemon import tiny_daemon

ONE, TWO, NOWHERE = "spec/one", "spec/two", "project/none/app"
ABSENT = digest_of(b"absent")
ENDPOINTS = {
    "end-1": {200, 401},
    "end-2": {200, 206, 404, 416},
    "end-3": {200, 404},
    "end-4a": {202, 404},
    "end-4b": {201, 400, 404},
    "end-5": {202, 400, 404, 416},
    "end-6": {201, 400, 404, 416},
    "end-7": {201, 400, 403, 404, 413},
    "end-8a": {200, 404},
    "end-8b": {200, 400, 404},
    "end-9": {202, 400, 404, 405},
    "end-10": {202, 404, 405},
    "end-11": {201, 202, 404},
    "end-12a": {200, 400},
    "end-12b": {200, 400},
    "end-13": {204, 404},
    "end-14": {204, 404},
}
"""The rows of the specification's table, and the answers that each has to be seen with."""
CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED", "DENIED",
    "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryHost]:
    place = tmp_path_factory.mktemp("registry")
    with tiny_daemon(place) as daemon:
        yield RegistryHost(daemon, place)


@pytest.fixture(scope="module")
def client(registry: RegistryHost) -> Iterator[RegistryClient]:
    client = RegistryClient(registry)
    yield client
    client.close()


@pytest.fixture
def repository() -> str:
    """The name of one that does not exist."""
    return f"spec/{uuid.uuid4().hex[:12]}"


# --- every row of the table ---------------------------------------------------------------------------------------


@dataclass
class Walk:
    """Sends requests for one endpoint after the other, and notes the answers."""

    client: RegistryClient
    registry: RegistryHost
    seen: dict[str, set[int]] = field(default_factory=dict)
    codes: set[str] = field(default_factory=set)

    def __call__(
        self, end: str, expected: int, method: str, path: str, data: Any = None, *, code: str = "", **more: Any
    ) -> Answer:
        """``code``: that of the error."""
        client: RegistryClient = more.pop("client", self.client)
        answer = client.ask(method, path, data, more.pop("headers", None))
        assert (answer.status, answer.code) == (expected, code), (method, path, answer)
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        self.seen.setdefault(end, set()).add(answer.status)
        self.codes.add(answer.code)
        return answer


def version(walk: Walk) -> None:
    walk("end-1", 200, "GET", "/v2/")
    unknown = RegistryClient(walk.registry, "")
    answer = walk("end-1", 401, "GET", "/v2/", code="UNAUTHORIZED", client=unknown)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
    unknown.close()
    guesser = RegistryClient(walk.registry, "ci:wrong", source="127.0.0.9")
    for _ in range(5):
        walk("end-1", 401, "GET", "/v2/", code="UNAUTHORIZED", client=guesser)
    walk("", 429, "GET", "/v2/", code="TOOMANYREQUESTS", client=guesser)
    guesser.close()


def uploads(walk: Walk) -> None:
    data = bytes(range(256)) * 12
    digest, third = digest_of(data), len(data) // 3
    begin, whole = f"/v2/{ONE}/blobs/uploads/", f"/v2/{ONE}/blobs/{digest}"
    walk("end-4a", 404, "POST", f"/v2/{NOWHERE}/blobs/uploads/", code="NAME_UNKNOWN")
    walk("", 400, "POST", "/v2/Spec/blobs/uploads/", code="NAME_INVALID")
    walk("end-4b", 404, "POST", f"/v2/{NOWHERE}/blobs/uploads/?digest={digest}", data, code="NAME_UNKNOWN")
    walk("end-4b", 400, "POST", f"{begin}?digest={digest}", data + b"x", code="DIGEST_INVALID")
    walk("end-4b", 400, "POST", f"{begin}?digest=sha256:baddigeststring", data, code="DIGEST_INVALID")
    answer = walk("end-4b", 201, "POST", f"{begin}?digest={digest}", data)
    assert (answer.headers["Location"], answer.headers["Docker-Content-Digest"]) == (whole, digest)
    walk("end-10", 202, "DELETE", whole)

    upload = walk("end-4a", 202, "POST", begin).headers["Location"]
    late = {"Content-Range": f"{third}-{2 * third - 1}"}
    answer = walk("end-5", 416, "PATCH", upload, data[third : 2 * third], headers=late, code="BLOB_UPLOAD_INVALID")
    assert (answer.headers["Location"], answer.headers["Range"]) == (upload, "0-0")
    shorter = {"Content-Range": f"0-{third}"}
    walk("end-5", 400, "PATCH", upload, data[:third], headers=shorter, code="SIZE_INVALID")
    walk("end-5", 400, "PATCH", upload, b"abc", headers={"Content-Range": "x"}, code="BLOB_UPLOAD_INVALID")
    answer = walk("end-5", 202, "PATCH", upload, data[:third], headers={"Content-Range": f"0-{third - 1}"})
    assert answer.headers["Range"] == f"0-{third - 1}"
    answer = walk("end-13", 204, "GET", upload)
    assert (answer.headers["Location"], answer.headers["Range"]) == (upload, f"0-{third - 1}")
    walk("end-5", 202, "PATCH", upload, data[third : 2 * third], headers=late)
    rest = {"Content-Range": f"{2 * third}-{len(data) - 1}"}
    done = f"{upload}?digest={digest}"
    walk("end-6", 416, "PUT", done, data[:third], headers=shorter, code="BLOB_UPLOAD_INVALID")
    walk("end-6", 400, "PUT", upload, code="DIGEST_INVALID")
    answer = walk("end-6", 201, "PUT", done, data[2 * third :], headers=rest)
    assert (answer.headers["Location"], answer.headers["Docker-Content-Digest"]) == (whole, digest)
    walk("end-6", 404, "PUT", done, code="BLOB_UPLOAD_UNKNOWN")
    for end, method in (("end-5", "PATCH"), ("end-13", "GET"), ("end-14", "DELETE")):
        walk(end, 404, method, upload, b"x" if method == "PATCH" else None, code="BLOB_UPLOAD_UNKNOWN")
    upload = walk("end-4a", 202, "POST", begin).headers["Location"]
    walk("end-14", 204, "DELETE", upload)
    walk("end-13", 404, "GET", upload, code="BLOB_UPLOAD_UNKNOWN")


def blobs(walk: Walk) -> None:
    data = bytes(range(256)) * 12
    digest = digest_of(data)
    path = f"/v2/{ONE}/blobs/{digest}"
    for method in ("GET", "HEAD"):
        answer = walk("end-2", 200, method, path)
        assert (answer.headers["Docker-Content-Digest"], answer.headers["Content-Length"]) == (digest, str(len(data)))
        assert answer.body == (data if method == "GET" else b"")
    walk("end-2", 404, "HEAD", f"/v2/{ONE}/blobs/{ABSENT}")
    walk("end-2", 404, "GET", f"/v2/{ONE}/blobs/{ABSENT}", code="BLOB_UNKNOWN")
    answer = walk("end-2", 206, "GET", path, headers={"Range": "bytes=500-1499"})
    assert (answer.body, answer.headers["Content-Range"]) == (data[500:1500], f"bytes 500-1499/{len(data)}")
    walk("end-2", 416, "GET", path, headers={"Range": "bytes=500-0"}, code="RANGE_INVALID")

    mount = f"/v2/{TWO}/blobs/uploads/?mount={digest}&from="
    answer = walk("end-11", 201, "POST", f"{mount}{ONE}")
    assert answer.headers["Location"] == f"/v2/{TWO}/blobs/{digest}"
    assert walk("end-2", 200, "GET", answer.headers["Location"]).body == data
    walk("end-10", 202, "DELETE", answer.headers["Location"])
    walk("end-11", 201, "POST", mount.removesuffix("&from="))
    walk("end-11", 202, "POST", f"/v2/{TWO}/blobs/uploads/?mount={ABSENT}&from={ONE}")
    walk("end-11", 404, "POST", f"/v2/{NOWHERE}/blobs/uploads/?mount={digest}&from={ONE}", code="NAME_UNKNOWN")
    for repository in (ONE, TWO):
        walk("end-10", 202, "DELETE", f"/v2/{repository}/blobs/{digest}")
        walk("end-2", 404, "HEAD", f"/v2/{repository}/blobs/{digest}")
    walk("end-10", 404, "DELETE", path, code="BLOB_UNKNOWN")


def manifests(walk: Walk) -> None:
    content = image("walked")
    _, layer = content.blobs
    path, tag = f"/v2/{ONE}/manifests/{content.digest}", f"/v2/{ONE}/manifests/1"
    kind = {"Content-Type": MANIFEST}
    walk("end-7", 404, "PUT", tag, content.data, headers=kind, code="MANIFEST_BLOB_UNKNOWN")
    for digest, data in content.blobs.items():
        walk("end-4b", 201, "POST", f"/v2/{ONE}/blobs/uploads/?digest={digest}", data)
    for wrong, code in ((b"{", "MANIFEST_INVALID"), (b"{}", "MANIFEST_INVALID")):
        walk("end-7", 400, "PUT", tag, wrong, headers=kind, code=code)
    walk("end-7", 400, "PUT", f"/v2/{ONE}/manifests/{ABSENT}", content.data, headers=kind, code="DIGEST_INVALID")
    walk("end-7", 413, "PUT", tag, bytes(5 << 20), headers=kind, code="MANIFEST_INVALID")
    reader = RegistryClient(walk.registry, f"reader:{walk.registry.token('reader', read_only=True)}")
    walk("end-7", 403, "PUT", tag, content.data, headers=kind, code="DENIED", client=reader)
    reader.close()
    for each in (path, tag):
        answer = walk("end-7", 201, "PUT", each, content.data, headers=kind)
        assert (answer.headers["Location"], answer.headers["Docker-Content-Digest"]) == (path, content.digest)
        for method in ("GET", "HEAD"):
            answer = walk("end-3", 200, method, each)
            assert answer.headers["Docker-Content-Digest"] == content.digest
            assert answer.headers["Content-Length"] == str(len(content.data))
            assert answer.headers["Content-Type"] == MANIFEST
            assert answer.body == (content.data if method == "GET" else b"")
    for absent in (ABSENT, "absent", ".INVALID_MANIFEST_NAME"):
        walk("end-3", 404, "GET", f"/v2/{ONE}/manifests/{absent}", code="MANIFEST_UNKNOWN")
        walk("end-3", 404, "HEAD", f"/v2/{ONE}/manifests/{absent}")
    walk("end-10", 405, "DELETE", f"/v2/{ONE}/blobs/{layer}", code="UNSUPPORTED")
    referrers(walk, content)
    walk("end-9", 400, "DELETE", f"/v2/{ONE}/manifests/sha256:bad", code="DIGEST_INVALID")
    walk("end-9", 405, "DELETE", f"/v2/{ONE}/tags/list", code="UNSUPPORTED")
    walk("end-9", 404, "DELETE", f"/v2/{ONE}/manifests/absent", code="MANIFEST_UNKNOWN")
    walk("end-9", 202, "DELETE", path)
    walk("end-9", 404, "DELETE", path, code="MANIFEST_UNKNOWN")
    walk("end-3", 404, "HEAD", tag)


def referrers(walk: Walk, subject: Content) -> None:
    attached = [artifact(f"text {each}", kind, subject) for each, kind in enumerate((EXAMPLE, EXAMPLE, "text/other"))]
    for each in attached:
        answer = walk.client.push(ONE, each)
        assert (answer.status, answer.headers["OCI-Subject"]) == (201, subject.digest)
    path = f"/v2/{ONE}/referrers/{subject.digest}"
    answer = walk("end-12a", 200, "GET", path)
    assert answer.headers["Content-Type"] == INDEX
    found = answer.json
    assert (found["schemaVersion"], found["mediaType"]) == (2, INDEX)
    assert {each["digest"] for each in found["manifests"]} == {each.digest for each in attached}
    answer = walk("end-12b", 200, "GET", f"{path}?artifactType=text%2Fother")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    [only] = answer.json["manifests"]
    assert (only["digest"], only["artifactType"], only["size"]) == (
        attached[2].digest, "text/other", len(attached[2].data)
    )  # fmt: skip
    assert walk("end-12a", 200, "GET", f"/v2/{ONE}/referrers/{ABSENT}").json["manifests"] == []
    assert walk("end-12a", 200, "GET", f"/v2/spec/empty/referrers/{ABSENT}").json["manifests"] == []
    for end, query in (("end-12a", ""), ("end-12b", "?artifactType=a")):
        walk(end, 400, "GET", f"/v2/{ONE}/referrers/sha256:bad{query}", code="DIGEST_INVALID")
    for each in attached:
        walk("end-9", 202, "DELETE", f"/v2/{ONE}/manifests/{each.digest}")
    assert walk("end-12a", 200, "GET", path).json["manifests"] == []


def tags(walk: Walk) -> None:
    walk("end-8a", 404, "GET", "/v2/spec/empty/tags/list", code="NAME_UNKNOWN")
    walk("end-8b", 404, "GET", "/v2/spec/empty/tags/list?n=2", code="NAME_UNKNOWN")
    names = [f"v{each}" for each in range(5)]
    for each in names:
        assert walk.client.push(TWO, image("tagged"), each).status == 201
    assert walk("end-8a", 200, "GET", f"/v2/{TWO}/tags/list").json == {"name": TWO, "tags": names}
    walk("end-8b", 400, "GET", f"/v2/{TWO}/tags/list?n=x", code="PAGINATION_NUMBER_INVALID")
    found, path = [], f"/v2/{TWO}/tags/list?n=2"
    while path:
        answer = walk("end-8b", 200, "GET", path)
        found.append(answer.json["tags"])
        link = answer.headers["Link"] or ""
        assert not link or link.endswith('>; rel="next"')
        path = link.partition(">")[0].removeprefix("<")
    assert found == [names[:2], names[2:4], names[4:]]
    for each in names:
        walk("end-9", 202, "DELETE", f"/v2/{TWO}/manifests/{each}")
        walk("end-3", 404, "HEAD", f"/v2/{TWO}/manifests/{each}")


def test_every_endpoint_answers_as_the_table_says(registry: RegistryHost, client: RegistryClient) -> None:
    walk = Walk(client, registry)
    steps: tuple[Callable[[Walk], None], ...] = (version, uploads, blobs, manifests, tags)
    for step in steps:
        step(walk)
    walk.seen.pop("")
    assert walk.seen == ENDPOINTS
    assert walk.codes >= CODES


# --- every way to push, every kind of content ---------------------------------------------------------------------


def in_one_request(client: RegistryClient, repository: str, digest: str, data: bytes) -> Answer:
    return client.push_blob(repository, digest, data)


def by_post_and_put(client: RegistryClient, repository: str, digest: str, data: bytes) -> Answer:
    return client.ask("PUT", f"{client.begin(repository)}?digest={digest}", data)


def streamed(client: RegistryClient, repository: str, digest: str, data: bytes) -> Answer:
    answer = client.ask("PATCH", client.begin(repository), iter([data]) if data else b"")
    assert answer.status == 202, answer
    return client.ask("PUT", f"{answer.headers['Location']}?digest={digest}")


def in_pieces(
    client: RegistryClient, repository: str, digest: str, data: bytes, *, last_by_put: bool = False
) -> Answer:
    path, size = client.begin(repository), len(data) // 3 + 1
    for start in range(0, len(data), size):
        end = min(start + size, len(data))
        part = {"Content-Range": f"{start}-{end - 1}"}
        if last_by_put and end == len(data):
            return client.ask("PUT", f"{path}?digest={digest}", data[start:end], part)
        wrong = {"Content-Range": f"{start + 1}-{end}"}
        assert client.ask("PATCH", path, data[start:end], wrong).status == 416
        answer = client.ask("PATCH", path, data[start:end], part)
        assert answer.status == 202, answer
        path = answer.headers["Location"]
    return client.ask("PUT", f"{path}?digest={digest}")


def in_pieces_and_put(client: RegistryClient, repository: str, digest: str, data: bytes) -> Answer:
    return in_pieces(client, repository, digest, data, last_by_put=True)


WAYS = [in_one_request, by_post_and_put, streamed, in_pieces, in_pieces_and_put]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_push_a_blob(client: RegistryClient, repository: str, way: Any, algorithm: str) -> None:
    small = [b"{}"] if way in (in_pieces, in_pieces_and_put) else [b"{}", b""]
    for data in [*small, uuid.uuid4().bytes * 256]:
        digest = digest_of(data, algorithm)
        path = f"/v2/{repository}/blobs/{digest}"
        assert client.ask("GET", path).status == 404
        assert way(client, repository, digest, data + b"oh no").status == 400
        assert client.ask("HEAD", path).status == 404
        answer = way(client, repository, digest, data)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, digest)
        assert client.ask("GET", answer.headers["Location"]).body == data
        assert client.ask("HEAD", path).headers["Content-Length"] == str(len(data))
        assert client.ask("DELETE", path).status == 202
        assert client.ask("HEAD", path).status == 404


def changed(content: Content, change: Callable[[dict[str, Any]], None]) -> Content:
    """With another document."""
    document = json.loads(content.data)
    change(document)
    return Content(
        json.dumps(document).encode(), content.media_type, content.blobs, content.manifests, content.algorithm
    )


def with_data(document: dict[str, Any]) -> None:
    document["config"]["data"] = "e30="


def with_unknown_fields(document: dict[str, Any]) -> None:
    document["org.example.unknown"] = {"nested": [1, None, "text"]}
    document["config"]["unknown"] = True


def with_foreign_layers(document: dict[str, Any]) -> None:
    for suffix in ("", "+gzip"):
        kind = f"{LAYER.partition('.tar')[0].replace('.v1', '.nondistributable.v1')}.tar{suffix}"
        elsewhere = blob(suffix.encode() + b"elsewhere", kind)
        document["layers"].append(elsewhere | {"urls": [f"https://store.example.com/{elsewhere['digest']}"]})


def with_large_annotations(document: dict[str, Any]) -> None:
    document["annotations"] = {f"large-{each}": "A" * 10_000 for each in range(390)}


def without_layers() -> Content:
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config, CONFIG), "layers": []}
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(config): config})


def of_wrong_layers() -> Content:
    """The configuration says the same diff id for two layers, and that is not theirs."""
    one, two = b"a tar", b"another tar"
    nothing = digest_of(b"")
    rootfs = {"type": "layers", "diff_ids": [nothing, nothing]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    layers = [blob(each, LAYER.removesuffix("+gzip")) for each in (one, two)]
    document = {"schemaVersion": 2, "mediaType": MANIFEST, "config": blob(config, CONFIG), "layers": layers}
    return Content(json.dumps(document).encode(), MANIFEST, {digest_of(each): each for each in (config, one, two)})


def both(text: str, **more: Any) -> Content:
    return index(image(f"{text} amd"), image(f"{text} arm", architecture="arm64"), **more)


def attached(subject: Content) -> list[Content]:
    """The subject, and what is attached to it: a plain image, two artifacts and an index."""
    return [
        subject,
        image("attached", subject=subject.described),
        artifact("first", EXAMPLE, subject, annotations={"org.example.note": "hello"}),
        artifact("second", "application/vnd.example.v2", subject),
        both("attached index", subject=subject.described, artifactType=EXAMPLE, annotations={"a": "b"}),
    ]


EMPTY_LAYER = changed(
    artifact("no layers"), lambda document: document.update(layers=[blob(b"{}", EMPTY)])
)  # an artifact without payload
KINDS: Mapping[str, list[Content]] = {
    "image": [image("plain")],
    "docker image": [image("of docker", docker=True)],
    "large manifest": [changed(image("large"), with_large_annotations)],
    "index": [both("index")],
    "nested index": [index(both("inner one"), both("inner two"), platforms=("amd64", "arm64"))],
    "empty index": [index()],
    "artifact": [artifact("artifact")],
    "index of artifacts": [index(artifact("first in it"), artifact("second in it"), artifactType=EXAMPLE)],
    "artifact without layers": [EMPTY_LAYER],
    "artifacts with a subject": attached(image("subject")),
    "index with a subject": attached(both("subject")),
    "a missing subject": [artifact("lonely", EXAMPLE, image("never pushed"))],
    "descriptors with data": [changed(image("data"), with_data)],
    "foreign layers": [changed(image("foreign"), with_foreign_layers)],
    "unknown fields": [changed(image("unknown"), with_unknown_fields)],
    "no layers": [without_layers()],
    "wrong layers": [of_wrong_layers()],
    "sha512": [index(image("long digests", algorithm="sha512"), image("as well", algorithm="sha512"))],
}


def parts_of(content: Content) -> Iterator[Content]:
    yield content
    for each in content.manifests:
        yield from parts_of(each)


def shown_as(content: Content) -> dict[str, Any]:
    """Its entry in a list of referrers."""
    document = json.loads(content.data)
    kind = document.get("artifactType") or document.get("config", {}).get("mediaType", "")
    notes = document.get("annotations")
    return content.described | ({"artifactType": kind} if kind else {}) | ({"annotations": notes} if notes else {})


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_content_is_pushed_listed_pulled_and_deleted(
    client: RegistryClient, repository: str, kind: str
) -> None:
    names = {f"t{number}": each for number, each in enumerate(KINDS[kind])}
    everything = {part.digest: part for each in names.values() for part in parts_of(each)}
    subjects: dict[str, list[Content]] = {}
    for tag, each in names.items():
        answer = client.push(repository, each)
        assert (answer.status, answer.headers["Docker-Content-Digest"]) == (201, each.digest), answer
        subject = json.loads(each.data).get("subject", {}).get("digest")
        assert answer.headers["OCI-Subject"] == subject
        subjects.setdefault(subject or "", []).append(each)
        query = f"?tag={tag}" if each.algorithm == "sha512" else ""  # a tag alone is known by SHA-256
        answer = client.put(repository, each, "" if query else tag, query)
        assert (answer.status, answer.headers["OCI-Tag"]) == (201, tag if query else None), answer
        assert client.ask("GET", answer.headers["Location"]).body == each.data
    assert client.ask("GET", f"/v2/{repository}/tags/list").json["tags"] == sorted(names)
    accept = {"Accept": f"{INDEX}, {MANIFEST}, {DOCKER_MANIFEST}"}
    references = {**{part.digest: part for part in everything.values()}, **names}
    for reference, part in references.items():
        for method in ("GET", "HEAD"):
            answer = client.ask(method, f"/v2/{repository}/manifests/{reference}", headers=accept)
            assert (answer.status, answer.headers["Content-Type"]) == (200, part.media_type), (reference, answer)
            assert answer.headers["Docker-Content-Digest"] == part.digest
            assert answer.headers["Content-Length"] == str(len(part.data))
        for digest, data in part.blobs.items():
            assert client.ask("GET", f"/v2/{repository}/blobs/{digest}").body == data
    for subject, entries in subjects.items():
        if subject:
            found = client.ask("GET", f"/v2/{repository}/referrers/{subject}").json["manifests"]
            expected = sorted((shown_as(each) for each in entries), key=lambda entry: str(entry["digest"]))
            assert found == expected
    for reference in [*names, *reversed(everything)]:
        assert client.ask("DELETE", f"/v2/{repository}/manifests/{reference}").status in (202, 404), reference
        assert client.ask("HEAD", f"/v2/{repository}/manifests/{reference}").status == 404
    for digest in {digest for part in everything.values() for digest in part.blobs}:
        assert client.ask("DELETE", f"/v2/{repository}/blobs/{digest}").status in (202, 404)
        assert client.ask("HEAD", f"/v2/{repository}/blobs/{digest}").status == 404
    assert client.ask("GET", f"/v2/{repository}/tags/list").status == 404
