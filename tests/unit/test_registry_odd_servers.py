"""Registries and token servers that answer in ways which the specification allows, or which are met all the same."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from isola.errors import HostFailure, InvalidInput, IsolaError
from isola.images.registry.credentials import Credentials
from isola.model.image_reference import parse
from isola.model.reference import Ref
from isola.testing.clock import FakeClock
from isola.testing.http import Received, Reply
from isola.testing.parts import World
from isola.testing.registry import FakeRegistry

URL, CDN = "https://registry.example", "https://cdn.example"
NAME = "registry.example/team/app:1"
ANN = Credentials("ann", "secret")
Change = Callable[[Received, Reply], Reply]


class Bench:
    """A daemon, and a registry with one image whose answers ``change`` changes."""

    def __init__(self) -> None:
        self.world = World()
        self.registry = FakeRegistry(URL)
        self.registry.add_image("team/app", "1", {"bin/app": b"x" * 100})
        self.change: Change = lambda request, reply: reply
        self.refuse: Callable[[Received], Reply | None] = lambda request: None
        self.world.host.http.servers[URL] = self.answer

    def answer(self, request: Received) -> Reply:
        return self.refuse(request) or self.change(request, self.registry(request))

    async def pull(self, credentials: Credentials = ANN) -> None:
        registries = self.world.parts.services.images.registries
        await self.world.finish(registries.start_pull(parse(NAME), credentials=credentials))

    async def push(self) -> None:
        """The image that was pulled, under another name."""
        images = self.world.parts.services.images
        image = images.resolve(Ref.default(NAME))
        assert image is not None
        to = parse("registry.example/other/app:2")
        await self.world.finish(images.registries.start_push(image.ref, to, credentials=ANN))

    @property
    def seconds(self) -> float:
        clock = self.world.host.clock
        assert isinstance(clock, FakeClock)
        return clock.monotonic()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    await bench.world.start()
    yield bench
    await bench.world.parts.close()
    bench.world.forget()


def limited(times: int, status: int = 429, **headers: str) -> Change:
    """Refuses the first requests for manifests."""
    left = [times]

    def change(request: Received, reply: Reply) -> Reply:
        if "/manifests/" in request.url and left[0]:
            left[0] -= 1
            return Reply(status, headers={name.replace("_", "-"): text for name, text in headers.items()})
        return reply

    return change


@pytest.mark.parametrize("status", [429, 503])
async def test_a_registry_that_says_when_to_come_again_is_asked_again(bench: Bench, status: int) -> None:
    bench.change = limited(2, status, Retry_After="7")
    before = bench.seconds
    await bench.pull()
    assert 14 <= bench.seconds - before < 30


async def test_the_time_may_be_a_date(bench: Bench) -> None:
    bench.change = limited(1, Retry_After="Thu, 01 Jan 1970 00:00:00 GMT")
    await bench.pull()


@pytest.mark.parametrize("when", ["3600", "soon", "", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT", "-5"])
async def test_no_time_or_too_long_a_one_is_an_error_at_once(bench: Bench, when: str) -> None:
    bench.change = limited(100, Retry_After=when)
    before = bench.seconds
    with pytest.raises(HostFailure, match="limits the number of requests"):
        await bench.pull()
    assert bench.seconds == before


async def test_a_registry_is_not_asked_for_ever(bench: Bench) -> None:
    bench.change = limited(100, Retry_After="60")
    with pytest.raises(HostFailure, match="limits the number of requests"):
        await bench.pull()
    assert len([each for each in bench.world.host.http.requests if "/manifests/" in each.url]) == 4


@pytest.mark.parametrize(
    ("fields", "good"),
    [
        ({"access_token": "token-0"}, True),
        ({"token": "", "access_token": "token-0", "expires_in": None}, True),
        ({"token": "token-0", "expires_in": 0, "issued_at": "yesterday"}, True),
        ({"token": "token-0", "access_token": "other", "expires_in": 1}, True),
        ({}, False),
        ({"token": ["token-0"]}, False),
        ({"token": "token-0\r\nX-Evil: 1"}, False),
        ({"token": "t" * 100_000}, False),
        ([], False),
    ],
)
async def test_answers_of_token_servers(bench: Bench, fields: object, good: bool) -> None:
    bench.registry.users = {"ann": "secret"}

    def change(request: Received, reply: Reply) -> Reply:
        if "/token" not in request.url:
            return reply
        bench.registry.tokens.add("token-0")
        return Reply(body=json.dumps(fields).encode())

    bench.change = change
    if good:
        await bench.pull()
        return
    with pytest.raises(IsolaError):
        await bench.pull()


async def test_a_push_goes_on_with_a_new_token(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    await bench.pull()
    refused: list[str] = []

    def refuse(request: Received) -> Reply | None:
        if request.method == "PUT" and len(refused) < 2 and request.url not in refused:
            refused.append(request.url)
            challenge = f'Bearer realm="{URL}/token",service="x",scope="repository:other/app:pull,push"'
            return Reply(401, headers={"WWW-Authenticate": challenge})
        return None

    bench.refuse = refuse
    await bench.push()
    assert len(refused) == 2 and ("other/app", "2") in bench.registry.manifests


async def test_uploads_at_another_server_get_no_credentials(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    await bench.pull()

    def change(request: Received, reply: Reply) -> Reply:
        where = reply.headers.get("Location", "")
        return replace(reply, headers={**reply.headers, "Location": f"{CDN}{where}&signed=1"}) if where else reply

    def elsewhere(request: Received) -> Reply:
        assert "signed=1" in request.url and "digest=" in request.url
        users, bench.registry.users = bench.registry.users, {}
        try:
            return bench.registry(replace(request, url=request.url.replace(CDN, URL)))
        finally:
            bench.registry.users = users

    bench.change = change
    bench.world.host.http.servers[CDN] = elsewhere
    await bench.push()
    sent = [each.headers for each in bench.world.host.http.requests if each.url.startswith(CDN)]
    assert sent and not any("authorization" in headers for headers in sent)
    assert ("other/app", "2") in bench.registry.manifests


@pytest.mark.parametrize("method", ["GET", "PUT"])
async def test_a_digest_of_a_manifest_that_is_wrong(bench: Bench, method: str) -> None:
    lie = {"Docker-Content-Digest": "sha256:" + "0" * 64}
    if method == "PUT":
        await bench.pull()
    bench.change = lambda request, reply: (
        replace(reply, headers={**reply.headers, **lie})
        if "/manifests/" in request.url and request.method == method
        else reply
    )
    with pytest.raises(InvalidInput):
        await (bench.pull() if method == "GET" else bench.push())


async def test_a_server_that_fails_now_and_then(bench: Bench) -> None:
    """Blobs are asked for again; the name is not, since its user can."""
    failed: list[str] = []

    def change(request: Received, reply: Reply) -> Reply:
        if "/blobs/" in request.url and failed.count(request.url) < 3:
            failed.append(request.url)
            return Reply(502, b"<html>Bad Gateway</html>")
        return reply

    bench.change = change
    await bench.pull()
    assert len(failed) == 6
    bench.change = lambda request, reply: Reply(502) if "/manifests/" in request.url else reply
    with pytest.raises(HostFailure, match="failed at"):
        await bench.pull()
