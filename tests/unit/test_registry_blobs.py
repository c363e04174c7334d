"""Blobs of the registry: pushing in every way, reading, mounting and deleting, as the specification has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from registry_content import digest_of, image
from registry_door import Client, registry_standing

ONE, TWO = "conformance/one", "conformance/two"
DATA = bytes(range(256)) * 8
DIGEST = digest_of(DATA)
MISSING = digest_of(b"missing")
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with registry_standing() as stand:
        yield stand.client


async def there(client: Client, repository: str, digest: str, data: bytes) -> None:
    path = f"/v2/{repository}/blobs/{digest}"
    head, got = await client.ask("HEAD", path), await client.ask("GET", path)
    assert (head.status, got.status, got.body, head.body) == (200, 200, data, b"")
    for answer in (head, got):
        assert answer.headers["Content-Length"] == str(len(data))
        assert answer.headers["Docker-Content-Digest"] == digest
        assert answer.headers["ETag"] == f'"{digest}"'
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


async def test_the_version_check(client: Client) -> None:
    for path in ("/v2/", "/v2"):
        answer = await client.ask("GET", path)
        assert (answer.status, answer.json) == (200, {})
        assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


async def test_missing_blobs(client: Client) -> None:
    answer = await client.ask("GET", f"/v2/{ONE}/blobs/{MISSING}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    assert (await client.ask("HEAD", f"/v2/{ONE}/blobs/{MISSING}")).status == 404
    assert (await client.ask("DELETE", f"/v2/{ONE}/blobs/{MISSING}")).status == 404
    answer = await client.ask("GET", f"/v2/{ONE}/blobs/sha256:short")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    answer = await client.ask("GET", f"/v2/{ONE}/blobs/uploads/none")
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


@ALGORITHMS
@pytest.mark.parametrize("data", [DATA, b"", b"{}"])
async def test_one_request(client: Client, algorithm: str, data: bytes) -> None:
    digest = digest_of(data, algorithm)
    answer = await client.push_blob(ONE, digest, data)
    assert answer.status == 201 and answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Location"] == f"/v2/{ONE}/blobs/{digest}"
    await there(client, ONE, digest, data)


@ALGORITHMS
async def test_post_and_put(client: Client, algorithm: str) -> None:
    digest = digest_of(DATA, algorithm)
    path = await client.begin(ONE)
    answer = await client.ask("PUT", f"{path}?digest={digest}", DATA)
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/{ONE}/blobs/{digest}")
    await there(client, ONE, digest, DATA)
    assert (await client.ask("GET", path)).status == 404


@pytest.mark.parametrize("last_by_put", [False, True])
async def test_pieces(client: Client, last_by_put: bool) -> None:
    path = await client.begin(ONE)
    for start in (0, 800, 1600):
        piece = DATA[start : start + 800]
        headers = {"Content-Range": f"{start}-{start + len(piece) - 1}"}
        wrong = await client.ask("PATCH", path, piece, {"Content-Range": f"{start + 1}-{start + len(piece)}"})
        assert (wrong.status, wrong.code) == (416, "BLOB_UPLOAD_INVALID")
        assert wrong.headers["Range"] == f"0-{max(start - 1, 0)}" and wrong.headers["Location"] == path
        status = await client.ask("GET", path)
        assert (status.status, status.headers["Range"]) == (204, f"0-{max(start - 1, 0)}")
        assert status.headers["Docker-Upload-UUID"] in path
        if last_by_put and start == 1600:
            wrong = await client.ask("PUT", f"{path}?digest={DIGEST}", piece, {"Content-Range": "0-447"})
            assert wrong.status == 416
            answer = await client.ask("PUT", f"{path}?digest={DIGEST}", piece, headers)
            assert answer.status == 201
        else:
            answer = await client.ask("PATCH", path, piece, headers)
            assert (answer.status, answer.headers["Range"]) == (202, f"0-{start + len(piece) - 1}")
            path = answer.headers["Location"]
    if not last_by_put:
        assert (await client.ask("PUT", f"{path}?digest={DIGEST}")).status == 201
    await there(client, ONE, DIGEST, DATA)


async def test_a_stream_without_length(client: Client) -> None:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(DATA), 100):
            yield DATA[start : start + 100]

    path = await client.begin(ONE)
    answer = await client.ask("PATCH", path, body())
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(DATA) - 1}")
    assert (await client.ask("PUT", f"{answer.headers['Location']}?digest={DIGEST}")).status == 201
    await there(client, ONE, DIGEST, DATA)


async def test_malformed_pieces(client: Client) -> None:
    path = await client.begin(ONE)
    assert (await client.ask("PATCH", path, b"abc", {"Content-Range": "pieces"})).status == 400
    assert (await client.ask("PATCH", path, b"abc", {"Content-Range": "5-2"})).status == 416
    answer = await client.ask("PATCH", path, b"abc", {"Content-Range": "0-9"})
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")
    assert (await client.ask("GET", path)).headers["Range"] == "0-0"
    answer = await client.ask("PUT", path)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    assert (await client.ask("PUT", f"{path}?digest={digest_of(b'abc')}", b"abc")).status == 201


@ALGORITHMS
async def test_wrong_digests_are_refused(client: Client, algorithm: str) -> None:
    digest = digest_of(DATA, algorithm)
    flipped = DATA[:-1] + b"x"
    answer = await client.push_blob(ONE, digest, flipped)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    path = await client.begin(ONE)
    assert (await client.ask("PUT", f"{path}?digest={digest}", flipped)).code == "DIGEST_INVALID"
    path = await client.begin(ONE)
    assert (await client.ask("PATCH", path, flipped)).status == 202
    assert (await client.ask("PUT", f"{path}?digest={digest}")).status == 400
    assert (await client.ask("GET", path)).status == 404
    assert (await client.ask("HEAD", f"/v2/{ONE}/blobs/{digest}")).status == 404
    assert (await client.push_blob(ONE, "md5:" + "0" * 32, DATA)).code == "DIGEST_INVALID"


async def test_cancelled_uploads(client: Client) -> None:
    path = await client.begin(ONE)
    await client.ask("PATCH", path, DATA)
    assert (await client.ask("DELETE", path)).status == 204
    for method in ("GET", "DELETE", "PATCH", "PUT"):
        answer = await client.ask(method, f"{path}?digest={DIGEST}", DATA if method in ("PATCH", "PUT") else None)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    other = await client.begin(ONE)
    assert (await client.ask("GET", other.replace(ONE, TWO))).status == 404


@ALGORITHMS
async def test_mounts(client: Client, algorithm: str) -> None:
    digest = digest_of(DATA, algorithm)
    mount = f"/v2/{ONE}/blobs/uploads/?mount={digest}"
    for query in (f"&from={TWO}", "", "&from=Impossible"):
        answer = await client.ask("POST", mount + query)
        assert answer.status == 202 and "/blobs/uploads/" in answer.headers["Location"]
    await client.push_blob(TWO, digest, DATA)
    answer = await client.ask("POST", f"{mount}&from={TWO}")
    assert (answer.status, answer.headers["Location"]) == (201, f"/v2/{ONE}/blobs/{digest}")
    await there(client, ONE, digest, DATA)
    await client.ask("DELETE", f"/v2/{ONE}/blobs/{digest}")
    assert (await client.ask("POST", mount)).status == 201
    await there(client, ONE, digest, DATA)


@pytest.mark.parametrize(
    ("wanted", "part", "shown"),
    [
        ("bytes=500-1499", slice(500, 1500), "bytes 500-1499/2048"),
        ("bytes=500-", slice(500, None), "bytes 500-2047/2048"),
        ("bytes=-500", slice(-500, None), "bytes 1548-2047/2048"),
        ("bytes=2000-5000", slice(2000, None), "bytes 2000-2047/2048"),
        ("bytes=0-0", slice(0, 1), "bytes 0-0/2048"),
    ],
)
async def test_ranges(client: Client, wanted: str, part: slice, shown: str) -> None:
    await client.push_blob(ONE, DIGEST, DATA)
    answer = await client.ask("GET", f"/v2/{ONE}/blobs/{DIGEST}", headers={"Range": wanted})
    assert (answer.status, answer.body) == (206, DATA[part])
    assert answer.headers["Content-Range"] == shown
    assert answer.headers["Content-Length"] == str(len(DATA[part]))


@pytest.mark.parametrize("wanted", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=x", "lines=1-2"])
async def test_impossible_ranges(client: Client, wanted: str) -> None:
    await client.push_blob(ONE, DIGEST, DATA)
    answer = await client.ask("GET", f"/v2/{ONE}/blobs/{DIGEST}", headers={"Range": wanted})
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */2048")


async def test_ranges_that_are_left_to_the_server(client: Client) -> None:
    """Several ranges are answered with the whole blob, and HEAD knows none."""
    await client.push_blob(ONE, DIGEST, DATA)
    several = await client.ask("GET", f"/v2/{ONE}/blobs/{DIGEST}", headers={"Range": "bytes=0-1,5-6"})
    assert (several.status, several.body) == (200, DATA)
    head = await client.ask("HEAD", f"/v2/{ONE}/blobs/{DIGEST}", headers={"Range": "bytes=0-1"})
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(DATA)))


async def test_conditions(client: Client) -> None:
    await client.push_blob(ONE, DIGEST, DATA)
    path = f"/v2/{ONE}/blobs/{DIGEST}"
    assert (await client.ask("GET", path, headers={"If-None-Match": f'"{DIGEST}"'})).status == 304
    part = {"Range": "bytes=1-2"}
    assert (await client.ask("GET", path, headers={**part, "If-Range": f'"{DIGEST}"'})).status == 206
    assert (await client.ask("GET", path, headers={**part, "If-Range": '"other"'})).status == 200


async def test_deletion(client: Client) -> None:
    await client.push_blob(ONE, DIGEST, DATA)
    assert (await client.ask("DELETE", f"/v2/{ONE}/blobs/{DIGEST}")).status == 202
    assert (await client.ask("HEAD", f"/v2/{ONE}/blobs/{DIGEST}")).status == 404
    content = image()
    await client.push(ONE, content, "1")
    answer = await client.ask("DELETE", f"/v2/{ONE}/blobs/{next(iter(content.blobs))}")
    assert (answer.status, answer.code) == (405, "UNSUPPORTED")


async def test_impossible_names_and_methods(client: Client) -> None:
    for name in ("Upper", "a..b", "-a", "a/", "a%2F%2Fb", "a" * 256, "%C3%A4"):
        answer = await client.ask("POST", f"/v2/{name}/blobs/uploads/")
        assert answer.status in (400, 404) and answer.code in ("NAME_INVALID", "NAME_UNKNOWN"), name
    assert (await client.ask("POST", "/v2/project/none/app/blobs/uploads/")).code == "NAME_UNKNOWN"
    refused = await client.ask("POST", f"/v2/{ONE}/blobs/{DIGEST}")
    assert (refused.status, refused.headers["Allow"]) == (405, "DELETE, GET")
    assert (await client.ask("GET", "/v2/nothing")).status == 404


async def test_an_upload_that_breaks_off_goes_on(client: Client) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:1000]
        raise RuntimeError("the client goes away")

    path = await client.begin(ONE)
    with pytest.raises((aiohttp.ClientError, RuntimeError)):
        await client.ask("PATCH", path, broken())
    async with asyncio.timeout(60):
        while (status := await client.ask("GET", path)).headers["Range"] != "0-999":
            assert status.status == 204
            await asyncio.sleep(0.01)
    rest = {"Content-Range": f"1000-{len(DATA) - 1}"}
    assert (await client.ask("PATCH", path, DATA[1000:], rest)).status == 202
    assert (await client.ask("PUT", f"{path}?digest={DIGEST}")).status == 201


async def test_uploads_have_a_limit() -> None:
    async with registry_standing() as stand:
        await stand.services.server.update(lambda config: {**config, "registry.upload_limit": "1KiB"})
        answer = await stand.client.push_blob(ONE, DIGEST, DATA)
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")
