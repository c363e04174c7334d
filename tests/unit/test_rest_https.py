"""The REST door over the network: real TLS on the loopback interface, over a daemon in memory."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest
from https_peer import START, client_context, der_of, free_port, pair, peer, token_of
from rest_door import Stand, standing

from isola.daemon.doors import open_doors
from isola.errors import InvalidInput
from isola.host.link_kinds import Bridge
from isola.model.project import Project
from isola.x509 import KeyPair, fingerprint, make, parse


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        await open_door.world.parts.records.projects.add("blue", Project("blue"))
        yield open_door


async def configure(stand: Stand, address: str) -> tuple[int, Any]:
    return await stand.ask("PATCH", "/1.0", {"config": {"core.https_address": address}})


@pytest.fixture
async def port(stand: Stand) -> int:
    port = free_port()
    status, body = await configure(stand, f"127.0.0.1:{port}")
    assert status == 200, body
    return port


async def trust(stand: Stand, shown: KeyPair, **more: object) -> str:
    status, body = await stand.ask("POST", "/1.0/certificates", {"type": "client", "certificate": der_of(shown)} | more)
    assert status == 201, body
    return parse(shown.certificate).fingerprint


def connects(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_listener_follows_the_configuration(stand: Stand, port: int) -> None:
    environment = (await stand.get("/1.0"))["environment"]
    assert environment["addresses"] == [f"127.0.0.1:{port}"]
    assert parse(environment["certificate"]).fingerprint == environment["certificate_fingerprint"]
    moved = free_port()
    assert (await configure(stand, f"127.0.0.1:{moved}"))[0] == 200
    assert connects(moved) and not connects(port)
    assert (await configure(stand, ""))[0] == 200
    assert not connects(moved)
    environment = (await stand.get("/1.0"))["environment"]
    assert environment["addresses"] == [] and environment["certificate"]


async def test_one_address_becomes_all_on_the_same_port(stand: Stand, port: int) -> None:
    await stand.world.host.links.create_bridge(Bridge("br7", ("192.0.2.7/24", "2001:db8::7/64")))
    assert (await configure(stand, f":{port}"))[0] == 200
    assert connects(port)
    addresses = (await stand.get("/1.0"))["environment"]["addresses"]
    assert {f"192.0.2.7:{port}", f"[2001:db8::7]:{port}"} <= set(addresses)
    async with peer(port, None, "[::1]") as client:
        assert (await client.get("/1.0"))["auth"] == "untrusted"


async def test_an_address_in_use_changes_nothing(stand: Stand, port: int) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        status, body = await configure(stand, f"127.0.0.1:{taken}")
        assert status == 400 and "in use" in body["error"], body
    for wrong in ("nowhere:1", "192.0.2.1:8443", ":70000"):
        status, body = await configure(stand, wrong)
        assert status in (400, 500) and body["metadata"]["field"] == "config.core.https_address"
    assert (await stand.get("/1.0"))["config"] == {"core.https_address": f"127.0.0.1:{port}"}
    assert connects(port)


async def test_untrusted_clients_see_the_server_only(stand: Stand, port: int, caplog: pytest.LogCaptureFixture) -> None:
    for shown in (None, pair("untrusted")):
        async with peer(port, shown) as client:
            found = await client.get("/1.0")
            assert found["auth"] == "untrusted" and found["auth_methods"] == ["tls"]
            assert not {"config", "environment", "auth_user_name"} & set(found)
            with caplog.at_level(logging.WARNING):
                assert (await client.ask("GET", "/1.0/instances"))[0] == 403
            assert client.fingerprint in caplog.records[-1].getMessage()
            assert "127.0.0.1:" in caplog.records[-1].getMessage()


async def test_a_trusted_certificate_has_the_permissions_of_its_record(stand: Stand, port: int) -> None:
    shown = pair("ada")
    fingerprint = await trust(stand, shown)
    async with peer(port, shown) as ada:
        found = await ada.get("/1.0")
        assert (found["auth"], found["auth_user_name"], found["auth_user_method"]) == ("trusted", fingerprint, "tls")
        assert found["config"] == {"core.https_address": f"127.0.0.1:{port}"}
        assert await ada.get("/1.0/instances") == []
        await stand.ask("PATCH", f"/1.0/certificates/{fingerprint[:10]}", {"restricted": True, "projects": ["blue"]})
        assert (await ada.get("/1.0"))["config"] == {}
        assert (await ada.ask("GET", "/1.0/instances"))[0] == 403
        assert (await ada.ask("GET", "/1.0/instances?project=blue"))[0] in (200, 404)
        assert (await ada.ask("PATCH", "/1.0", {"config": {"user.x": "1"}}))[0] == 403
        assert (await stand.ask("DELETE", f"/1.0/certificates/{fingerprint}"))[0] == 200
        assert (await ada.get("/1.0"))["auth"] == "untrusted"


async def test_the_connections_of_a_client_end_with_its_trust(stand: Stand, port: int) -> None:
    shown = pair()
    fingerprint = await trust(stand, shown)
    async with peer(port, shown) as client, client.session.ws_connect(f"{client.url}/1.0/events") as events:
        await stand.ask("DELETE", f"/1.0/certificates/{fingerprint}")
        message = await asyncio.wait_for(events.receive(), 60)
        while not events.closed:
            message = await asyncio.wait_for(events.receive(), 60)
        assert message.type.name in ("CLOSED", "CLOSE", "ERROR")


async def test_a_client_adds_itself_with_a_token_once(stand: Stand, port: int) -> None:
    asked = {"token": True, "type": "client", "name": "laptop", "restricted": True, "projects": ["default"]}
    status, body = await stand.ask("POST", "/1.0/certificates", asked)
    assert status == 202, body
    operation = body["metadata"]
    assert operation["class"] == "token"
    assert (await stand.get(f"/1.0/operations/{operation['id']}"))["status"] == "Running"
    assert operation["metadata"]["addresses"] == [f"127.0.0.1:{port}"]
    token = token_of(operation)
    async with peer(port, pair()) as client, peer(port, pair()) as late, peer(port, None) as bare:
        assert (await bare.ask("POST", "/1.0/certificates", {"trust_token": token}))[0] == 403
        raised = {"type": "client", "password": token, "name": "me", "restricted": False, "projects": []}
        status, body = await client.ask("POST", "/1.0/certificates", raised)
        assert status == 201, body
        [certificate] = await stand.get("/1.0/certificates?recursion=1")
        assert certificate["fingerprint"] == client.fingerprint
        assert (certificate["name"], certificate["restricted"], certificate["projects"]) == (
            "laptop",
            True,
            ["default"],
        ), "permissions are those of the token, not those requested by the client"
        assert await client.get("/1.0/instances") == []
        assert (await late.ask("POST", "/1.0/certificates", {"type": "client", "trust_token": token}))[0] == 403
        ended = await stand.get(f"/1.0/operations/{operation['id']}/wait?timeout=5")
        assert ended["status"] == "Success"


async def test_an_untrusted_client_finds_a_public_image_by_its_alias(stand: Stand, port: int) -> None:
    fingerprint = (await stand.get("/1.0/images/aliases/tiny"))["target"]
    async with peer(port, None) as bare:
        for path in ("/1.0/images/aliases/tiny", "/1.0/images/aliases/tiny?project=none"):
            assert (await bare.ask("GET", path))[0] == 404
        await stand.ask("PATCH", f"/1.0/images/{fingerprint}", {"public": True})
        assert (await bare.get("/1.0/images/aliases/tiny"))["target"] == fingerprint
        assert (await bare.ask("GET", "/1.0/images/aliases"))[0] == 403
        assert (await bare.ask("GET", "/1.0/images/aliases/none"))[0] == 404


async def test_a_trusted_client_gets_the_message_that_clients_expect(stand: Stand, port: int) -> None:
    shown = pair()
    await trust(stand, shown)
    async with peer(port, shown) as client:
        for asked in ({"type": "client", "password": "any"}, {"type": "client", "certificate": der_of(shown)}):
            status, body = await client.ask("POST", "/1.0/certificates", asked)
            assert (status, body["error"]) == (409, "Certificate already in trust store")


async def test_a_client_without_the_key_cannot_add_another_certificate(stand: Stand, port: int) -> None:
    """A client that sends another client's certificate in the body adds the one of its TLS connection."""
    trusted = pair("trusted")
    async with peer(port, pair()) as client:
        _, body = await stand.ask("POST", "/1.0/certificates", {"token": True, "name": "x"})
        claim = {"type": "client", "certificate": der_of(trusted), "trust_token": token_of(body["metadata"])}
        assert (await client.ask("POST", "/1.0/certificates", claim))[0] == 201
        [certificate] = await stand.get("/1.0/certificates?recursion=1")
        assert certificate["fingerprint"] == client.fingerprint


@pytest.mark.parametrize("text", ["", "wrong", "eyJzZWNyZXQiOiAxfQ==", "W10=", "a" * 1000])
async def test_invalid_tokens_are_refused(stand: Stand, port: int, text: str) -> None:
    async with peer(port, pair()) as client:
        for field in ("password", "trust_token"):
            assert (await client.ask("POST", "/1.0/certificates", {"type": "client", field: text}))[0] == 403
    assert await stand.get("/1.0/certificates") == []


async def test_only_admins_see_and_revoke_tokens(stand: Stand, port: int) -> None:
    shown = pair()
    await trust(stand, shown, restricted=True, projects=["default"])
    _, body = await stand.ask("POST", "/1.0/certificates", {"token": True, "name": "x"})
    path = f"/1.0/operations/{body['metadata']['id']}"
    async with peer(port, shown) as restricted:
        assert "running" not in await restricted.get("/1.0/operations?recursion=1")
        assert "running" in await stand.get("/1.0/operations?recursion=1")
        assert (await restricted.ask("GET", path))[0] == 404
        assert (await restricted.ask("DELETE", path))[0] == 404
        assert (await restricted.ask("POST", "/1.0/certificates", {"token": True, "name": "y"}))[0] == 403
        assert (await restricted.ask("POST", "/1.0/certificates", {"certificate": der_of(pair())}))[0] == 403
    assert (await stand.ask("DELETE", path))[0] == 200
    async with peer(port, pair()) as client:
        token = {"type": "client", "trust_token": token_of(body["metadata"])}
        assert (await client.ask("POST", "/1.0/certificates", token))[0] == 403


async def test_restricted_clients_see_their_own_certificate_and_cannot_extend_it(stand: Stand, port: int) -> None:
    shown, other = pair("me"), pair("other")
    own = await trust(stand, shown, restricted=True, projects=["default"])
    foreign = await trust(stand, other)
    async with peer(port, shown) as me:
        assert await me.get("/1.0/certificates") == [f"/1.0/certificates/{own}"]
        assert (await me.ask("GET", f"/1.0/certificates/{foreign}"))[0] == 404
        assert (await me.ask("DELETE", f"/1.0/certificates/{foreign}"))[0] == 404
        whole = await me.get(f"/1.0/certificates/{own}")
        for raised in ({"restricted": False}, {"projects": ["default", "blue"]}, {"name": "root"}):
            assert (await me.ask("PATCH", f"/1.0/certificates/{own}", raised))[0] == 403
            assert (await me.ask("PUT", f"/1.0/certificates/{own}", whole | raised))[0] == 403
        renewed = pair("renewed")
        status, body = await me.ask("PUT", f"/1.0/certificates/{own}", whole | {"certificate": renewed.certificate})
        assert status == 200, body
    async with peer(port, renewed) as me:
        assert (await me.get("/1.0"))["auth"] == "trusted"
        assert (await me.ask("DELETE", f"/1.0/certificates/{me.fingerprint}"))[0] == 200


async def test_certificates_have_etags_filters_and_events(stand: Stand, port: int) -> None:
    async with stand.session.ws_connect("http://isola/1.0/events?type=lifecycle") as events:
        fingerprint = await trust(stand, pair(), name="ada", description="her laptop")
        assert (await events.receive_json())["metadata"]["action"] == "certificate-created"
    async with stand.session.get(f"http://isola/1.0/certificates/{fingerprint}") as answer:
        tag, found = answer.headers["ETag"], (await answer.json())["metadata"]
    assert (found["name"], found["description"], found["type"]) == ("ada", "her laptop", "client")
    put = {key: found[key] for key in ("name", "type", "restricted", "projects", "certificate")}
    path = f"/1.0/certificates/{fingerprint}"
    assert (await stand.ask("PUT", path, put | {"name": "eve"}, headers={"If-Match": tag}))[0] == 200
    assert (await stand.ask("PUT", path, put, headers={"If-Match": tag}))[0] == 412
    assert await stand.get("/1.0/certificates?filter=name%20eq%20eve") == [path]
    assert await stand.get("/1.0/certificates?filter=name%20eq%20ada") == []
    assert (await stand.ask("PUT", path, put | {"type": "server"}))[0] == 400
    assert (await stand.ask("POST", "/1.0/certificates", {"type": "client"}))[0] == 400
    assert (await stand.ask("POST", "/1.0/certificates", {"certificate": "nonsense"}))[0] == 400


async def test_a_token_needs_a_server_on_the_network(stand: Stand) -> None:
    status, body = await stand.ask("POST", "/1.0/certificates", {"token": True, "name": "x"})
    assert status == 409 and "core.https_address" in body["metadata"]["remedy"]


async def test_old_tls_versions_are_refused(port: int) -> None:
    context = client_context(None)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", port, ssl=context)


async def test_silent_and_non_tls_connections_delay_no_others(stand: Stand, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /1.0 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"HTTP" not in await asyncio.wait_for(reader.read(), 60)
    writer.close()
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
    await asyncio.sleep(0.2)
    cut = []
    for each in silent:
        each.setblocking(False)
        try:
            cut.append(each.recv(1) == b"")
        except BlockingIOError:
            cut.append(False)
        except ConnectionError:
            cut.append(True)
    assert cut.count(True) == 8, "32 connections of one address may wait for their handshake"
    assert await stand.get("/1.0/certificates") == []
    for each in silent:
        each.close()


async def test_connections_of_many_addresses_do_not_lock_out_trusted_clients(stand: Stand, port: int) -> None:
    shown = pair()
    await trust(stand, shown)
    async with peer(port, shown, "localhost") as client:
        silent = []
        try:
            for number in range(2, 14):
                for _ in range(32):
                    address = (f"127.0.0.{number}", 0)
                    silent.append(socket.create_connection(("127.0.0.1", port), source_address=address))
                await asyncio.sleep(0)
            assert (await client.get("/1.0"))["auth"] == "trusted"
            assert (await client.get("/1.0"))["auth"] == "trusted"
        finally:
            for each in silent:
                each.close()


async def test_large_and_small_bodies_are_accepted(stand: Stand, port: int) -> None:
    shown = pair()
    await trust(stand, shown)
    async with peer(port, shown) as client:
        large = {f"user.k{number}": "x" * 200_000 for number in range(8)}
        assert (await client.ask("PATCH", "/1.0", {"config": large}))[0] == 200
        found = (await client.get("/1.0"))["config"]
        assert {key: found[key] for key in large} == large


async def test_it_listens_again_after_a_restart_of_the_door(stand: Stand, port: int) -> None:
    before = (await stand.get("/1.0"))["environment"]["certificate_fingerprint"]
    await stand.doors.close()
    assert not connects(port)
    doors = await open_doors(stand.services, stand.path.parent)
    try:
        assert connects(port)
        assert (await stand.get("/1.0"))["environment"]["certificate_fingerprint"] == before
    finally:
        await doors.close()


async def test_another_certificate_of_the_server_is_shown_to_all_who_connect_later(stand: Stand, port: int) -> None:
    files, place, identity = stand.world.host.files, stand.world.context.directory, stand.services.identity
    before, fresh = await shown_at(port), make("another", START, server=True)
    assert before == identity.fingerprint
    await files.write(place / "server.crt", fresh.certificate.encode())
    for damaged in (await files.read(place / "server.key"), b"\xff", b"no key"):
        await files.write(place / "server.key", damaged)
        with pytest.raises(InvalidInput):
            await stand.doors.https.reload()
        assert await shown_at(port) == identity.fingerprint == before, "all goes on with the one before"
    await files.write(place / "server.key", fresh.key.encode())
    for _ in range(2):
        await stand.doors.https.reload()
        assert await shown_at(port) == identity.fingerprint == parse(fresh.certificate).fingerprint
    environment = (await stand.get("/1.0"))["environment"]
    assert environment["certificate"] == fresh.certificate


async def shown_at(port: int) -> str:
    """Fingerprint of the certificate that the server shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(None))
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return fingerprint(found)


async def test_closing_the_port_ends_the_connections_after_their_answer(stand: Stand, port: int) -> None:
    shown = pair()
    await trust(stand, shown)
    async with peer(port, shown) as admin, admin.session.ws_connect(f"{admin.url}/1.0/events") as events:
        status, _ = await admin.ask("PATCH", "/1.0", {"config": {"core.https_address": ""}})
        assert status == 200
        while not events.closed:
            await asyncio.wait_for(events.receive(), 60)
    assert not connects(port)


async def test_used_by_lists_only_visible_users(stand: Stand, port: int) -> None:
    await stand.create("web1")
    shown = pair()
    await trust(stand, shown, restricted=True, projects=["blue"])
    [pool] = await stand.get("/1.0/storage-pools?recursion=1")
    assert pool["used_by"]
    async with peer(port, shown) as restricted:
        [seen] = await restricted.get("/1.0/storage-pools?recursion=1")
        assert seen["used_by"] == [] and seen["name"] == pool["name"]
        assert (await restricted.get(f"/1.0/storage-pools/{pool['name']}"))["used_by"] == []
        assert (await restricted.ask("DELETE", f"/1.0/storage-pools/{pool['name']}"))[0] == 403


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"trust_token": 1}', b"\xff", b'{"password": "' + b"x" * 70_000 + b'"}']
)
async def test_bodies_of_untrusted_clients_are_limited(stand: Stand, port: int, body: bytes) -> None:
    async with peer(port, pair()) as client:
        async with client.session.post(f"{client.url}/1.0/certificates", data=body) as answer:
            assert 400 <= answer.status < 500
        assert (await client.get("/1.0"))["auth"] == "untrusted"


async def test_access_ends_with_the_project(stand: Stand, port: int) -> None:
    shown = pair()
    fingerprint = await trust(stand, shown, restricted=True, projects=["blue"])
    _, body = await stand.ask("POST", "/1.0/certificates", {"token": True, "name": "x", "projects": ["blue"]})
    async with peer(port, shown) as client:
        assert (await client.ask("GET", "/1.0/instances?project=blue"))[0] == 200
        assert await client.get("/1.0/projects") == ["/1.0/projects/blue"]
        assert (await stand.finish("POST", "/1.0/projects/blue", {"name": "red"}))["status"] == "Success"
        assert (await client.ask("GET", "/1.0/instances?project=red"))[0] == 200
        assert (await stand.ask("DELETE", "/1.0/projects/red"))[0] == 200
        assert (await stand.ask("POST", "/1.0/projects", {"name": "red"}))[0] == 201
        assert (await client.ask("GET", "/1.0/instances?project=red"))[0] == 403
    assert (await stand.get(f"/1.0/certificates/{fingerprint}"))["projects"] == []
    async with peer(port, pair()) as late:
        token = {"trust_token": token_of(body["metadata"])}
        assert (await late.ask("POST", "/1.0/certificates", token))[0] == 403


PASSWORD = "correct horse"


async def with_password(stand: Stand) -> None:
    status, body = await stand.ask("PATCH", "/1.0", {"config": {"core.trust_password": PASSWORD}})
    assert status == 200, body


async def test_a_client_adds_itself_by_the_trust_password(stand: Stand, port: int) -> None:
    await with_password(stand)
    assert (await stand.get("/1.0"))["config"]["core.trust_password"] == "true"
    asked = {"type": "client", "password": PASSWORD, "name": "laptop", "certificate": der_of(pair("other"))}
    async with peer(port, pair()) as client, peer(port, None) as bare:
        assert "config" not in await client.get("/1.0")
        assert (await client.ask("POST", "/1.0/certificates", asked | {"password": "wrong horse"}))[0] == 403
        assert (await bare.ask("POST", "/1.0/certificates", asked))[0] == 403
        status, body = await client.ask("POST", "/1.0/certificates", asked)
        assert status == 201, body
        [certificate] = await stand.get("/1.0/certificates?recursion=1")
        assert (certificate["fingerprint"], certificate["name"]) == (client.fingerprint, "laptop")
        assert not certificate["restricted"]
        assert (await client.get("/1.0"))["config"]["core.trust_password"] == "true"


async def test_wrong_passwords_delay_the_right_one(stand: Stand, port: int) -> None:
    await with_password(stand)
    async with peer(port, pair()) as client:
        wrong = [{"type": "client", "password": f"wrong horse {number}"} for number in range(8)]
        answers = await asyncio.gather(*(client.ask("POST", "/1.0/certificates", each) for each in wrong))
        assert {status for status, _ in answers} == {403}
        assert sum("Too many" in body["error"] for _, body in answers) == 3
        status, body = await client.ask("POST", "/1.0/certificates", {"type": "client", "password": PASSWORD})
        assert status == 403 and "Too many wrong passwords" in body["error"]
        _, body = await stand.ask("POST", "/1.0/certificates", {"token": True, "name": "x"})
        token = {"type": "client", "trust_token": token_of(body["metadata"])}
        status, body = await client.ask("POST", "/1.0/certificates", token)
        assert status == 403 and "Too many wrong tokens" in body["error"], "both are counted together"
        await stand.world.host.clock.advance(120)
        status, body = await client.ask("POST", "/1.0/certificates", {"type": "client", "password": PASSWORD})
        assert status == 201, body


async def test_without_a_password_all_are_refused(stand: Stand, port: int) -> None:
    await with_password(stand)
    assert (await stand.ask("PATCH", "/1.0", {"config": {"core.trust_password": ""}}))[0] == 200
    async with peer(port, pair()) as client:
        for password in (PASSWORD, "", "true"):
            asked = {"type": "client", "password": password}
            assert (await client.ask("POST", "/1.0/certificates", asked))[0] == 403
    assert await stand.get("/1.0/certificates") == []
