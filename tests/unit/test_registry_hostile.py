"""Hostile requests to the registry: refused with a code of the specification, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest
from https_peer import client_context, free_port
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_content import CONFIG, LAYER, MANIFEST, Content, blob, digest_of, image, index
from registry_door import RegistryStand, registry_standing

from isola.model.reference import Ref

PARTS = st.sampled_from(
    [
        "v2",
        "",
        "a",
        "..",
        ".",
        "%2e%2e",
        "%00",
        "%ff",
        "blobs",
        "uploads",
        "manifests",
        "tags",
        "list",
        "_catalog",
        "token",
        "referrers",
        "sha256:",
        "sha256:" + "0" * 64,
        "sha512:" + "f" * 128,
        "project",
        "x" * 300,
        "é",
        "a:b@c",
    ]
)
QUERY = st.sampled_from(
    [
        "",
        "?",
        "?n=",
        "?n=1e9",
        "?n=-1",
        "?last=%00",
        "?digest=",
        "?digest=sha256:x",
        "?mount=x&from=y",
        "?tag=&tag=..",
        "?mount=sha256:" + "0" * 64,
        "?artifactType=%ff",
        "?scope=repository:a:b scope=",
        "?" + "a=b&" * 100,
    ]
)


async def tidy(stand: RegistryStand) -> None:
    """Nothing is left of what was refused."""
    store = stand.services.images.store
    assert await store.host.files.names(store.scratch) == ()
    assert await stand.services.images.unknown() == {}


def asked(method: str, path: str, data: bytes) -> None:
    async def ask() -> None:
        async with registry_standing() as stand:
            for each in path.split("\n"):
                if method == "HEAD" and (" " in each or not each.isascii()):
                    continue  # no HTTP: the server cannot know that the error may have no body
                answer = await stand.client.ask(method, each, data)
                assert answer.status < 500, (method, each, answer)
                if answer.status >= 400 and method != "HEAD":
                    assert answer.code

    asyncio.run(ask())


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE", "BREW"]),
    st.lists(st.tuples(st.lists(PARTS, max_size=6), QUERY), min_size=40, max_size=40),
    st.sampled_from([b"", b"{}", b"\0" * 100, b'{"schemaVersion":2,"manifests":[]}']),
)
def test_no_request_is_an_internal_error(method: str, paths: list[tuple[list[str], str]], data: bytes) -> None:
    asked(method, "\n".join("/v2/" + "/".join(parts) + query for parts, query in paths), data)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": [{}] * 2000},
        {"layers": [blob(b"x", LAYER) | {"digest": "sha256:../../../etc/passwd"}]},
        {"layers": [blob(b"x", LAYER) | {"size": -1}]},
        {"config": blob(b"x", CONFIG) | {"digest": ["a"]}},
        {"config": None},
        {"annotations": {"a": {"b": 1}}},
        {"subject": {"digest": "x"}},
        {"subject": []},
        {"mediaType": "text/html"},
        {"schemaVersion": 10**30},
        {"manifests": []},
    ],
)
async def test_hostile_manifests_are_refused(change: dict[str, object]) -> None:
    async with registry_standing() as stand:
        content = image()
        await stand.client.push("a", content)
        before = set(await stand.services.images.store.digests())
        changed = json.dumps(json.loads(content.data) | change).encode()
        answer = await stand.client.ask("PUT", "/v2/a/manifests/1", changed, {"Content-Type": MANIFEST})
        assert (answer.status, answer.code) == (400, "MANIFEST_INVALID"), answer
        assert set(await stand.services.images.store.digests()) == before
        await tidy(stand)


@pytest.mark.parametrize(
    "config",
    [
        b"",
        b"not json",
        b"[" * 200_000,
        b'{"os":"windows","architecture":"amd64"}',
        b'{"os":"linux","architecture":"vax"}',
        b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["x"]}}',
        b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}',
        b'{"os":"linux","architecture":"amd64","config":{"Env":5}}',
        b"x" * (5 << 20),
    ],
)
async def test_an_image_with_a_hostile_configuration_is_stored_and_does_not_run(config: bytes) -> None:
    async with registry_standing() as stand:
        document = json.loads(image().data) | {"config": blob(config, CONFIG)}
        blobs = {**image().blobs, digest_of(config): config}
        content = Content(json.dumps(document).encode(), MANIFEST, blobs)
        assert (await stand.client.push("a", content, "1")).status == 201
        assert stand.services.images.find_alias(Ref.default("a:1")) is None
        assert (await stand.client.ask("GET", "/v2/a/manifests/1")).body == content.data


async def test_an_index_that_names_itself_or_lies_about_sizes_is_harmless() -> None:
    async with registry_standing() as stand:
        inner = image()
        await stand.client.push("a", inner)
        for entry in (inner.described | {"size": 1}, inner.described | {"mediaType": LAYER}):
            document = json.loads(index(inner).data) | {"manifests": [entry]}
            whole = Content(json.dumps(document).encode(), index().media_type)
            assert (await stand.client.put("a", whole, "lies")).status in (201, 400, 404)
        await tidy(stand)


async def test_untrusted_clients_cannot_fill_the_disk() -> None:
    """A body that is sent without a login is not stored."""
    async with registry_standing() as stand:
        port = free_port()
        await stand.rest.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
        connector = aiohttp.TCPConnector(ssl=client_context(None))
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://127.0.0.1:{port}/v2/a/blobs/uploads/?digest={digest_of(b'x')}"
            for _ in range(3):
                try:
                    async with session.post(url, data=b"x" * (4 << 20)) as answer:
                        assert answer.status == 401
                except aiohttp.ClientError:
                    pass  # the connection is closed before all of it was sent
        store = stand.services.images.store
        assert await store.host.files.names(store.directory / "uploads") == ()
        await tidy(stand)
