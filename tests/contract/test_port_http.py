"""The contract of ``Http``: bodies, redirects, bounds, breaks, certificates; on the fake and on a real server."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from server_certificate import server_certificate

from isola.errors import Forbidden, HostFailure, InvalidInput, TooLarge
from isola.host.http import FileBody, Http, HttpRequest, LinuxHttp, Trust, check_url
from isola.host.outside import limit_to_outside
from isola.host.outside_names import OutsideNames
from isola.testing.files import FakeFiles
from isola.testing.http import FakeHttp, Received, Reply

CONTENT = bytes(range(256)) * 64


class Side:
    """A client, and two servers whose answers a test sets by path."""

    http: Http
    urls: tuple[str, str]
    received: list[Received]

    def __init__(self) -> None:
        self.received = []
        self.replies: dict[str, Reply] = {}

    def answer(self, request: Received) -> Reply:
        self.received.append(request)
        return self.replies.get(request.url.partition("://")[2].partition("/")[2], Reply(404))

    async def write(self, path: Path, data: bytes) -> None:
        raise AssertionError(path)

    async def get(self, path: str, **how: object) -> tuple[int, bytes]:
        request = HttpRequest("GET", f"{self.urls[0]}/{path}", **how)  # type: ignore[arg-type]
        async with self.http.exchange(request) as response:
            return response.status, await response.read(1 << 20)


class FakeSide(Side):
    def __init__(self) -> None:
        super().__init__()
        files = FakeFiles()
        self.files = files
        self.http = fake = FakeHttp(files)
        self.urls = ("https://one.example", "https://two.example")
        fake.servers = dict.fromkeys(self.urls, self.answer)

    async def write(self, path: Path, data: bytes) -> None:
        await self.files.write(path, data)


class LinuxSide(Side):
    """Two addresses of one server on the loopback interface."""

    def __init__(self, http: LinuxHttp, port: int) -> None:
        super().__init__()
        self.http = http
        self.urls = (f"http://127.0.0.1:{port}", f"http://localhost:{port}")

    async def write(self, path: Path, data: bytes) -> None:
        path.write_bytes(data)  # noqa: ASYNC240

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in http.headers.items()}
        url = http.raw_path if "://" in http.raw_path else f"http://{http.host}{http.raw_path}"
        reply = self.answer(Received(http.method, url, headers, await http.read(), Trust()))
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        response.content_length = len(reply.body)
        await response.prepare(http)
        if http.method != "HEAD":
            await response.write(reply.body[: reply.breaks_after])
        if reply.breaks_after is not None and http.transport is not None:
            http.transport.close()
        return response


@asynccontextmanager
async def serving(side: LinuxSide, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    runner = web.ServerRunner(web.Server(side.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@pytest.fixture(params=["fake", "linux"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    if request.param == "fake":
        yield FakeSide()
        return
    linux = LinuxSide(LinuxHttp(), 0)
    async with serving(linux) as port:
        linux.urls = (f"http://127.0.0.1:{port}", f"http://localhost:{port}")
        yield linux
        await linux.http.close()


async def test_a_body_and_headers_go_and_come(side: Side) -> None:
    side.replies["x"] = Reply(201, CONTENT, {"X-Answer": "yes"})
    request = HttpRequest("POST", f"{side.urls[0]}/x", {"X-Question": "what"}, b"body")
    async with side.http.exchange(request) as response:
        assert (response.status, response.headers["x-answer"]) == (201, "yes")
        assert await response.read(1 << 20) == CONTENT
    assert (side.received[0].method, side.received[0].body) == ("POST", b"body")
    assert side.received[0].headers["x-question"] == "what"


async def test_a_part_of_a_file_is_sent(side: Side, tmp_path: Path) -> None:
    side.replies["x"] = Reply(202)
    path = tmp_path / "file" if isinstance(side, LinuxSide) else Path("/file")
    await side.write(path, CONTENT)
    sent: list[int] = []
    body = FileBody(path, 100, 5000, sent.append)
    async with side.http.exchange(HttpRequest("PATCH", f"{side.urls[0]}/x", body=body)) as response:
        assert response.status == 202
    assert side.received[0].body == CONTENT[100:5100]
    assert sum(sent) == 5000


async def test_redirects_are_followed_and_secrets_stay_with_their_server(side: Side) -> None:
    side.replies["here"] = Reply(307, headers={"Location": "/there"})
    side.replies["there"] = Reply(302, headers={"Location": f"{side.urls[1]}/away"})
    side.replies["away"] = Reply(body=CONTENT)
    headers = {"Authorization": "Basic abc", "Range": "bytes=1-"}
    assert await side.get("here", headers=headers) == (200, CONTENT)
    assert ["authorization" in each.headers for each in side.received] == [True, True, False]
    assert all(each.headers["range"] == "bytes=1-" for each in side.received)


async def test_redirects_that_are_not_followed(side: Side) -> None:
    side.replies["x"] = Reply(307, headers={"Location": "/y"})
    async with side.http.exchange(HttpRequest("POST", f"{side.urls[0]}/x", body=b"1")) as response:
        assert (response.status, response.headers["location"]) == (307, "/y")
    side.replies["odd"] = Reply(302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(InvalidInput, match="Invalid address"):
        await side.get("odd")
    side.replies["round"] = Reply(302, headers={"Location": "/round"})
    with pytest.raises(HostFailure, match="without end"):
        await side.get("round")


async def test_answers_are_bounded(side: Side) -> None:
    side.replies["x"] = Reply(body=CONTENT)
    with pytest.raises(TooLarge):
        async with side.http.exchange(HttpRequest("GET", f"{side.urls[0]}/x")) as response:
            await response.read(len(CONTENT) - 1)


async def test_a_broken_connection_is_an_error_after_what_came(side: Side) -> None:
    side.replies["x"] = Reply(body=CONTENT, breaks_after=3000)
    came = bytearray()
    with pytest.raises(HostFailure):
        async with side.http.exchange(HttpRequest("GET", f"{side.urls[0]}/x")) as response:
            async for block in response.blocks:
                came += block
    assert bytes(came) == CONTENT[:3000]


async def test_the_head_of_an_answer_has_no_body(side: Side) -> None:
    side.replies["x"] = Reply(body=CONTENT)
    async with side.http.exchange(HttpRequest("HEAD", f"{side.urls[0]}/x")) as response:
        assert response.headers["content-length"] == str(len(CONTENT))
        assert [block async for block in response.blocks] == []


async def test_no_server(side: Side) -> None:
    with pytest.raises(HostFailure, match="Could not connect"):
        async with side.http.exchange(HttpRequest("GET", "http://127.0.0.1:1/x")):
            raise AssertionError


@pytest.mark.parametrize(
    "url",
    ["", "x", "ftp://a/b", "http://", "http://ann:pw@a/", "http://a:99999/", "http://a/\r\nb", "http://a/ b"],
)
def test_impossible_addresses(url: str) -> None:
    with pytest.raises(InvalidInput):
        check_url(url)


# --- certificates: of the real one only ----------------------------------------------------------------------------


async def test_certificates_are_checked(tmp_path: Path) -> None:
    side = LinuxSide(LinuxHttp(), 0)
    side.replies["x"] = Reply(body=b"secret")
    authority, key = server_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    async with serving(side, context) as port:
        side.urls = (f"https://127.0.0.1:{port}", "")
        with pytest.raises(HostFailure, match=r"not trusted.*certs\.d"):
            await side.get("x")
        trust = Trust(authorities=(authority,))
        assert await side.get("x", trust=trust) == (200, b"secret")
        assert await side.get("x", trust=replace(trust, authorities=(), verify=False)) == (200, b"secret")
        authority.write_bytes(b"no certificate")  # a file that has changed is read again
        with pytest.raises(HostFailure, match="cannot be read"):
            await side.get("x", trust=trust)
        await side.http.close()


async def test_a_redirect_does_not_lead_out_of_encryption() -> None:
    side = FakeSide()
    side.replies["x"] = Reply(302, headers={"Location": "http://one.example/y"})
    with pytest.raises(HostFailure, match="without encryption"):
        await side.get("x")


async def test_proxies_are_those_of_the_environment(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(side, FakeSide):
        return
    monkeypatch.setenv("http_proxy", side.urls[0])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    side.replies["x"] = Reply(body=b"direct")
    assert await side.get("x") == (200, b"direct")
    async with side.http.exchange(HttpRequest("GET", "http://registry.example/x")) as response:
        assert response.status == 200
    assert side.received[-1].headers["host"] == "registry.example"


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]"]
)
async def test_what_only_this_host_can_reach_is_refused_to_those_who_are_limited(side: Side, host: str) -> None:
    port = side.urls[0].rpartition(":")[2] if isinstance(side, LinuxSide) else "443"
    request = HttpRequest("GET", f"http://{host}:{port}/x")
    limit_to_outside(True)
    try:
        with pytest.raises(Forbidden, match="is reached by this host alone"):
            async with side.http.exchange(request):
                pass
        with suppress(HostFailure):  # that of an administrator: what answers there is no HTTP
            async with side.http.exchange(replace(request, named=True)):
                pass
    finally:
        limit_to_outside(False)


async def test_redirects_do_not_lead_inside_those_who_are_limited() -> None:
    side = FakeSide()
    side.replies["x"] = Reply(302, headers={"Location": "https://127.0.0.1/secret"})
    limit_to_outside(True)
    with pytest.raises(Forbidden):
        await side.get("x")
    limit_to_outside(False)
    with pytest.raises(HostFailure, match="Could not connect"):
        await side.get("x")


async def test_names_are_resolved_to_addresses_outside_alone() -> None:
    names = OutsideNames()
    with pytest.raises(Forbidden):
        await names.resolve("localhost", 80)
    assert [each["host"] for each in await names.resolve("192.0.2.1", 80)] == ["192.0.2.1"]
    await names.close()
