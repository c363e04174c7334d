"""Who may do what in the registry, over real TLS: certificates, login tokens, bearer tokens and no login."""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from urllib.parse import quote

import aiohttp
import pytest
from https_peer import client_context, free_port, pair
from registry_content import artifact, digest_of, image
from registry_door import Answer, Client
from rest_door import Stand, standing

from isola.model.certificate import Certificate
from isola.model.project import Project
from isola.x509 import KeyPair

APP, BLUE = "team/app", "project/blue/app"
CONTENT = image()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as opened:
        await opened.services.projects.create(Project("blue", config={"features.profiles": "false"}))
        yield opened


@pytest.fixture
async def base(stand: Stand) -> str:
    port = free_port()
    status, body = await stand.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    assert status == 200, body
    return f"https://127.0.0.1:{port}"


class Clients:
    """Clients of one registry."""

    def __init__(self, stand: Stand, base: str) -> None:
        self.stand = stand
        self.base = base
        self._sessions: list[aiohttp.ClientSession] = []

    def session(self, shown: KeyPair | None = None, **headers: str) -> Client:
        connector = aiohttp.TCPConnector(ssl=client_context(shown))
        self._sessions.append(aiohttp.ClientSession(connector=connector))
        return Client(self._sessions[-1], self.base, headers)

    async def token(self, name: str, **more: object) -> Client:
        """A client with basic authentication."""
        _, secret = await self.stand.services.login_tokens.create(name, **more)  # type: ignore[arg-type]
        return self.session(Authorization=basic(name, secret))

    async def certificate(self, name: str, *projects: str) -> Client:
        shown = pair(name)
        added = Certificate("", shown.certificate, name, restricted=bool(projects), projects=projects)
        await self.stand.services.certificates.add(added)
        return self.session(shown)

    async def close(self) -> None:
        for session in self._sessions:
            await session.close()


@pytest.fixture
async def clients(stand: Stand, base: str) -> AsyncIterator[Clients]:
    found = Clients(stand, base)
    yield found
    await found.close()


def basic(name: str, secret: str) -> str:
    return f"Basic {base64.b64encode(f'{name}:{secret}'.encode()).decode()}"


def challenge(answer: Answer) -> dict[str, str]:
    """The parts of the challenge."""
    assert answer.status == 401 and answer.code == "UNAUTHORIZED"
    text = answer.headers["WWW-Authenticate"]
    assert text.startswith("Bearer ")
    return dict(re.findall(r'(\w+)="([^"]*)"', text))


async def bearer(client: Client, *scopes: str, **headers: str) -> str:
    query = "&".join(f"scope={quote(scope)}" for scope in scopes)
    answer = await client.ask("GET", f"/v2/token?service=x&{query}", headers=headers)
    assert answer.status == 200, answer
    return f"Bearer {answer.json['token']}"


async def may(client: Client, repository: str, **headers: str) -> str:
    """What the client may do with a repository that has a manifest ``1``: some of the letters r, w and d."""
    path, found = f"/v2/{repository}", ""
    if (await client.ask("GET", f"{path}/manifests/1", headers=headers)).status == 200:
        found += "r"
    if (await client.ask("POST", f"{path}/blobs/uploads/", headers=headers)).status == 202:
        found += "w"
    if (await client.ask("DELETE", f"{path}/manifests/none", headers=headers)).status == 404:
        found += "d"
    return found


async def test_without_a_login_there_is_only_the_challenge(clients: Clients, base: str) -> None:
    client = clients.session()
    parts = challenge(await client.ask("GET", "/v2/"))
    assert parts == {"realm": f"{base}/v2/token", "service": base.removeprefix("https://")}
    for method, path, scope in (
        ("GET", f"/v2/{APP}/manifests/1", f"repository:{APP}:pull"),
        ("HEAD", f"/v2/{APP}/blobs/{digest_of(b'')}", None),
        ("GET", f"/v2/{APP}/tags/list", f"repository:{APP}:pull"),
        ("GET", f"/v2/{APP}/referrers/{digest_of(b'')}", f"repository:{APP}:pull"),
        ("PUT", f"/v2/{APP}/manifests/1", f"repository:{APP}:pull,push"),
        ("POST", f"/v2/{APP}/blobs/uploads/", f"repository:{APP}:pull,push"),
        ("DELETE", f"/v2/{APP}/manifests/1", f"repository:{APP}:delete"),
        ("GET", "/v2/_catalog", "registry:catalog:*"),
    ):
        answer = await client.ask(method, path)
        assert answer.status == 401, path
        if scope is not None:
            assert challenge(answer)["scope"] == scope
    mount = f"/v2/{APP}/blobs/uploads/?mount={digest_of(b'')}&from=other"
    assert challenge(await client.ask("POST", mount))["scope"] == f"repository:{APP}:pull,push repository:other:pull"
    assert (await client.ask("GET", "/v2/token?scope=repository:team/app:pull")).status == 401


async def test_certificates_have_the_roles_of_the_daemon(clients: Clients) -> None:
    admin, blue = await clients.certificate("admin"), await clients.certificate("blue", "blue")
    for path in (APP, BLUE):
        assert (await admin.push(path, CONTENT, "1")).status == 201
    assert (await may(admin, APP), await may(admin, BLUE)) == ("rwd", "rwd")
    assert (await may(blue, APP), await may(blue, BLUE)) == ("", "rwd")
    assert (await blue.ask("GET", f"/v2/{APP}/manifests/1")).code == "DENIED"
    assert (await blue.ask("GET", "/v2/_catalog")).json == {"repositories": [BLUE]}
    assert (await admin.ask("GET", "/v2/_catalog")).json == {"repositories": [BLUE, APP, "tiny"]}
    mount = f"/v2/{BLUE}/blobs/uploads/?mount={digest_of(b'other')}&from={APP}"
    await admin.push_blob(APP, digest_of(b"other"), b"other")
    assert (await blue.ask("POST", mount)).status == 202, "a blob of a project that it may not read"
    without = mount.partition("&")[0]
    assert (await blue.ask("POST", without)).status == 202
    assert (await admin.ask("POST", mount)).status == 201


async def test_login_tokens(clients: Clients) -> None:
    every, blue = await clients.token("ci"), await clients.token("blue", project="blue")
    reader = await clients.token("reader", read_only=True)
    assert (await every.ask("GET", "/v2/")).status == 200
    for path in (APP, BLUE):
        assert (await every.push(path, CONTENT, "1")).status == 201
    found = [(await may(each, APP), await may(each, BLUE)) for each in (every, blue, reader)]
    assert found == [("rwd", "rwd"), ("", "rwd"), ("r", "r")]
    await clients.stand.services.login_tokens.remove("ci")
    assert challenge(await every.ask("GET", "/v2/"))
    assert (await every.ask("GET", "/1.0/instances")).status == 403, "the other API does not know login tokens"


async def test_wrong_logins_are_refused_and_limited(clients: Clients) -> None:
    good = await clients.token("ci")
    client = clients.session()
    for header in ("Basic", "Basic ???", "Basic aXQ=", "Bearer", "Bearer x.y", "Bearer é".encode().decode("latin-1")):
        answer = await client.ask("GET", "/v2/", headers={"Authorization": header})
        assert answer.status == 401, header
    answers = [
        await client.ask("GET", path, headers={"Authorization": basic("ci", "wrong")})
        for path in ("/v2/", "/v2/token", "/v2/", "/v2/", "/v2/", "/v2/", "/v2/")
    ]
    statuses = [answer.status for answer in answers]
    assert set(statuses) == {401, 429} and statuses == sorted(statuses)
    assert answers[-1].code == "TOOMANYREQUESTS"
    assert (await good.ask("GET", "/v2/")).status == 429, "the same address"
    await clients.stand.world.host.clock.advance(120)
    assert (await good.ask("GET", "/v2/")).status == 200


async def test_bearer_tokens_are_for_their_scopes(clients: Clients) -> None:
    login, client = await clients.token("ci"), clients.session()
    assert (await login.push(APP, CONTENT, "1")).status == 201
    pull = await bearer(login, f"repository:{APP}:pull")
    push = await bearer(login, f"repository:{APP}:pull,push")
    every = await bearer(login, f"repository:{APP}:*")
    found = [await may(client, APP, Authorization=token) for token in (pull, push, every)]
    assert found == ["r", "rw", "rwd"]
    refused = await client.ask("POST", f"/v2/{APP}/blobs/uploads/", headers={"Authorization": pull})
    parts = challenge(refused)
    assert (parts["error"], parts["scope"]) == ("insufficient_scope", f"repository:{APP}:pull,push")
    assert await may(client, BLUE, Authorization=every) == ""
    for token in (pull, every):  # neither for more, nor for longer
        widening = await client.ask("GET", f"/v2/token?scope=repository:{APP}:*", headers={"Authorization": token})
        assert widening.json.keys() == {"errors"} and challenge(widening)["service"]
    assert (await client.ask("GET", "/v2/", headers={"Authorization": pull})).status == 200
    mount = f"/v2/{APP}/blobs/uploads/?mount={digest_of(b'x')}&from=other"
    await login.push_blob("other", digest_of(b"x"), b"x")
    assert challenge(await client.ask("POST", mount, headers={"Authorization": push}))["error"] == "insufficient_scope"
    both = await bearer(login, f"repository:{APP}:pull,push repository:other:pull")
    assert (await client.ask("POST", mount, headers={"Authorization": both})).status == 201


async def test_a_bearer_token_never_has_more_than_its_login(clients: Clients) -> None:
    reader, client = await clients.token("reader", read_only=True, project="blue"), clients.session()
    admin = await clients.certificate("admin")
    for path in (APP, BLUE):
        await admin.push(path, CONTENT, "1")
    token = await bearer(reader, f"repository:{APP}:pull,push", f"repository:{BLUE}:pull,push,delete")
    assert (await may(client, APP, Authorization=token), await may(client, BLUE, Authorization=token)) == ("", "r")
    await clients.stand.services.login_tokens.remove("reader")
    answer = await client.ask("GET", f"/v2/{BLUE}/manifests/1", headers={"Authorization": token})
    assert challenge(answer)["error"] == "invalid_token"
    token = await bearer(admin, f"repository:{APP}:pull")
    assert await may(client, APP, Authorization=token) == "r"
    await clients.stand.world.host.clock.advance(901)
    assert await may(client, APP, Authorization=token) == ""


async def test_the_form_of_oauth(clients: Clients) -> None:
    _, secret = await clients.stand.services.login_tokens.create("ci")
    client = clients.session()
    form = {"grant_type": "password", "username": "ci", "password": secret, "scope": f"repository:{APP}:pull,push"}
    answer = await client.ask("POST", "/v2/token", form)
    assert answer.status == 200 and answer.json["expires_in"] > 60
    token = f"Bearer {answer.json['access_token']}"
    assert await may(client, APP, Authorization=token) == "w"
    assert (await client.ask("POST", "/v2/token", form | {"password": "wrong"})).status == 401
    assert (await client.ask("POST", "/v2/token", {"grant_type": "refresh_token"})).status == 400


async def test_a_token_for_one_repository_does_not_list_the_others(clients: Clients) -> None:
    admin = await clients.certificate("admin")
    for path in (APP, BLUE):
        await admin.push(path, CONTENT, "1")
    narrow, wide = await bearer(admin, f"repository:{APP}:pull"), await bearer(admin, "registry:catalog:*")
    client = clients.session()
    refused = await client.ask("GET", "/v2/_catalog", headers={"Authorization": narrow})
    assert refused.status == 401
    assert challenge(refused)["scope"] == "registry:catalog:*"
    shown = await client.ask("GET", "/v2/_catalog", headers={"Authorization": wide})
    assert shown.json == {"repositories": [BLUE, APP, "tiny"]}
    assert await may(client, APP, Authorization=wide) == ""


async def test_public_images_can_be_pulled_by_everybody_if_a_setting_says_so(clients: Clients) -> None:
    admin, client = await clients.certificate("admin"), clients.session()
    hidden, library = image("hidden"), clients.stand.services.images
    await admin.push(APP, CONTENT, "1")
    await admin.push(APP, hidden, "2")
    await admin.push(APP, artifact(subject=CONTENT), "3")
    [shown] = [each for each in library if each.manifest == CONTENT.digest]
    await library.update(shown.ref, lambda found: replace(found, public=True))
    assert await may(client, APP) == ""
    await clients.stand.services.server.update(lambda config: {**config, "registry.anonymous_pull": "true"})
    challenge(await client.ask("GET", "/v2/"))
    token = await bearer(client, f"repository:{APP}:pull,push")
    for headers in ({}, {"Authorization": token}):
        assert await may(client, APP, **headers) == "r"
        assert (await client.ask("GET", f"/v2/{APP}/tags/list", headers=headers)).json["tags"] == ["1"]
        for digest, data in CONTENT.blobs.items():
            assert (await client.ask("GET", f"/v2/{APP}/blobs/{digest}", headers=headers)).body == data
        for path in (f"manifests/{hidden.digest}", "manifests/2", f"blobs/{next(iter(hidden.blobs))}"):
            challenge(await client.ask("GET", f"/v2/{APP}/{path}", headers=headers))
        assert (await client.ask("GET", "/v2/_catalog", headers=headers)).json == {"repositories": [APP]}
    assert (await client.ask("GET", "/v2/", headers={"Authorization": token})).status == 200
    assert (await admin.ask("GET", f"/v2/{APP}/manifests/2")).status == 200


async def test_a_project_that_shares_its_images(clients: Clients) -> None:
    await clients.stand.services.projects.create(Project("green", config={"features.images": "false"}))
    admin, green = await clients.certificate("admin"), await clients.certificate("green", "green")
    await admin.push(APP, CONTENT, "1")
    path = f"project/green/{APP}"
    assert await may(green, path) == "r"
    assert (await green.ask("POST", f"/v2/{path}/blobs/uploads/")).code == "DENIED"
    assert await may(admin, path) == "rwd"


async def test_the_challenge_names_no_impossible_host(clients: Clients) -> None:
    answer = await clients.session().ask("GET", "/v2/", headers={"Host": 'evil",x="'})
    assert "evil" not in answer.headers["WWW-Authenticate"]
