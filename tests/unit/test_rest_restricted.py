"""Attempts of a restricted client to change shared resources, or keys that affect the host."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from https_peer import Peer, client_context, der_of, free_port, pair, peer
from rest_door import Stand, standing
from sftp_client import upgraded

from isola.errors import Forbidden
from isola.model.project import Project
from isola.model.reference import Ref

NETWORK = "/1.0/networks/isolabr0"


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        records = open_door.world.parts.records.projects
        for name in ("blue", "red"):
            own = {"features.profiles": "false", "features.images": "false", "features.networks": "false"}
            await records.add(name, Project(name, config=own))
        yield open_door


async def restricted(stand: Stand, *projects: str) -> tuple[int, object]:
    """The port, and a trusted key pair that is restricted to these projects."""
    port, shown = free_port(), pair()
    status, _ = await stand.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    assert status == 200
    wanted = {"type": "client", "certificate": der_of(shown), "restricted": True, "projects": list(projects)}
    assert (await stand.ask("POST", "/1.0/certificates", wanted))[0] == 201
    return port, shown


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[Peer]:
    """Restricted to the default project, whose networks it may change."""
    port, shown = await restricted(stand, "default")
    async with peer(port, shown) as found:  # type: ignore[arg-type]
        yield found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("raw.dnsmasq", "log-facility=/etc/cron.d/x"),
        ("security.metadata", "true"),
        ("ipv4.firewall", "false"),
        ("ipv6.firewall", "false"),
        ("ipv4.nat.address", "192.0.2.1"),
        ("ipv4.address", "203.0.113.1/24"),
        ("ipv6.address", "2001:db8:1:2::1/64"),
    ],
)
async def test_keys_of_networks_that_affect_the_host(stand: Stand, client: Peer, key: str, value: str) -> None:
    before = await stand.get(NETWORK)
    for method in ("PATCH", "PUT"):
        status, body = await client.ask(method, NETWORK, {"config": before["config"] | {key: value}})
        assert status == 403 and key in body["error"], body
    status, body = await client.ask("POST", "/1.0/networks", {"name": "lab", "config": {key: value}})
    assert status == 403 and key in body["error"], body
    assert await stand.get(NETWORK) == before
    assert (await stand.ask("POST", "/1.0/networks", {"name": "lab", "config": {key: value}}))[0] == 201
    left_out = {one: text for one, text in (await stand.get("/1.0/networks/lab"))["config"].items() if one != key}
    if "address" not in key:
        status, body = await client.ask("PUT", "/1.0/networks/lab", {"config": left_out})
        assert status == 403 and key in body["error"], "nor may it remove a key that an administrator has set"
    same = {"config": {"dns.domain": "lab.example"}}
    assert (await client.ask("PATCH", "/1.0/networks/lab", same))[0] == 200, "unchanged keys are accepted"


async def test_a_network_with_chosen_subnets_is_created(client: Peer) -> None:
    assert (await client.ask("POST", "/1.0/networks", {"name": "lab", "config": {"ipv4.address": "auto"}}))[0] == 201
    assert (await client.ask("PATCH", "/1.0/networks/lab", {"config": {"ipv6.address": "none"}}))[0] == 200
    assert (await client.ask("DELETE", "/1.0/networks/lab"))[0] == 200


async def test_leases_of_an_instance_of_the_same_name_are_another_s(stand: Stand) -> None:
    addresses = {}
    for where in ("blue", "red"):
        body = {"name": "web1", "source": {"type": "image", "alias": "tiny"}, "profiles": ["default"]}
        status, answer = await stand.ask("POST", f"/1.0/instances?project={where}", body)
        assert status == 202
        assert (await stand.get(f"{answer['operation']}/wait"))["status_code"] == 200
        config = (await stand.get(f"/1.0/instances/web1?project={where}"))["config"]
        addresses[where] = config["volatile.eth0.hwaddr"]
    everybody = {lease["hwaddr"] for lease in await stand.get(f"{NETWORK}/leases")}
    assert {*addresses.values()} <= everybody
    port, shown = await restricted(stand, "blue")
    async with peer(port, shown) as blue:  # type: ignore[arg-type]
        seen = await blue.get(f"{NETWORK}/leases?project=blue")
    assert {lease["hwaddr"] for lease in seen if lease["type"] != "gateway"} == {addresses["blue"]}


@pytest.mark.parametrize("change", ["removed", "restricted"])
async def test_a_command_ends_when_its_callers_trust_ends(stand: Stand, change: str) -> None:
    """Its channels may be connected with their secrets, with or without a certificate."""
    await stand.create("web1", start=True)
    port, shown = await restricted(stand, "default")
    async with peer(port, shown) as owner, peer(port, None) as anonymous:  # type: ignore[arg-type]
        body = {"command": ["cat"], "wait-for-websocket": True, "interactive": True}
        status, answer = await owner.ask("POST", "/1.0/instances/web1/exec", body)
        assert status == 202
        secrets = answer["metadata"]["metadata"]["fds"]
        address = f"{anonymous.url}{answer['operation']}/websocket?secret="
        async with (
            anonymous.session.ws_connect(address + secrets["0"]) as terminal,
            anonymous.session.ws_connect(address + secrets["control"]),
        ):
            await terminal.send_bytes(b"hello\n")
            assert await asyncio.wait_for(terminal.receive_bytes(), 60)
            certificate = f"/1.0/certificates/{owner.fingerprint}"
            if change == "removed":
                assert (await stand.ask("DELETE", certificate))[0] == 200
            else:
                assert (await stand.ask("PATCH", certificate, {"projects": ["blue"]}))[0] == 200
            async with asyncio.timeout(60):
                while not terminal.closed:
                    await terminal.receive()
    ended = await stand.get(f"{answer['operation']}/wait?timeout=5")
    assert ended["status_code"] in (200, 400, 401)


async def test_sftp_sessions_end_when_the_callers_trust_ends(stand: Stand) -> None:
    await stand.create("web1", start=True)
    port, shown = await restricted(stand, "default")
    head, reader, writer = await upgraded(port, "web1", tls=client_context(shown))  # type: ignore[arg-type]
    assert head.startswith("HTTP/1.1 101 ")
    async with peer(port, shown) as owner:  # type: ignore[arg-type]
        assert (await stand.ask("DELETE", f"/1.0/certificates/{owner.fingerprint}"))[0] == 200
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    writer.close()


async def test_a_volume_is_not_moved_to_a_forbidden_project(stand: Stand) -> None:
    """Project green shares the volumes of the default project, which the client may not change."""
    records = stand.world.parts.records.projects
    await records.add("green", Project("green", config={"features.storage.volumes": "false"}))
    await records.change("blue", lambda found: replace(found, config={"features.storage.volumes": "true"}))
    port, shown = await restricted(stand, "blue", "green")
    volumes = "/1.0/storage-pools/default/volumes/custom"
    async with peer(port, shown) as client:  # type: ignore[arg-type]
        assert (await client.ask("POST", f"{volumes}?project=blue", {"name": "data"}))[0] == 201
        status, body = await client.ask("POST", f"{volumes}/data?project=blue", {"name": "data", "project": "green"})
        assert status == 403, body
        assert await stand.get(volumes) == []
        status, _ = await client.ask("POST", f"{volumes}/data?project=blue", {"name": "data", "project": "default"})
        assert status == 404


async def test_volumes_are_limited_to_the_pools_of_their_project(stand: Stand) -> None:
    pools = {"name": "fast", "driver": "dir"}
    status, body = await stand.ask("POST", "/1.0/storage-pools", pools)
    assert status == 201, body
    rules = {"restricted": "true", "restricted.storage-pools.access": "default", "features.storage.volumes": "true"}
    await stand.world.parts.records.projects.change("blue", lambda found: replace(found, config=rules))
    port, shown = await restricted(stand, "blue")
    async with peer(port, shown) as client:  # type: ignore[arg-type]
        at = "/1.0/storage-pools/{}/volumes/custom{}?project=blue"
        status, body = await client.ask("POST", at.format("fast", ""), {"name": "data"})
        assert status == 403 and "restricted.storage-pools.access" in body["error"], body
        assert (await client.ask("POST", at.format("default", ""), {"name": "data"}))[0] == 201
        status, body = await client.ask("POST", at.format("default", "/data"), {"name": "data", "pool": "fast"})
        assert status == 403 and "restricted.storage-pools.access" in body["error"], body


async def test_volumes_of_paths_of_the_host_are_limited_like_disks(stand: Stand) -> None:
    at = "/1.0/storage-pools/default/volumes/custom?project=blue"
    rules = {"restricted": "true", "features.storage.volumes": "true"}
    await stand.world.parts.records.projects.change("blue", lambda found: replace(found, config=rules))
    port, shown = await restricted(stand, "blue")
    async with peer(port, shown) as client:  # type: ignore[arg-type]
        wanted = {"name": "site", "config": {"mount.source": "/srv"}}
        status, body = await client.ask("POST", at, wanted)
        assert status == 403 and "restricted.devices.disk of the project" in body["error"], body
        rules |= {"restricted.devices.disk": "allow", "restricted.devices.disk.paths": "/srv/web"}
        await stand.world.parts.records.projects.change("blue", lambda found: replace(found, config=rules))
        status, body = await client.ask("POST", at, wanted)
        assert status == 403 and "restricted.devices.disk.paths" in body["error"], body
        wanted = {"name": "site", "config": {"mount.source": "/srv/web/a"}}
        assert (await client.ask("POST", at, wanted))[0] == 201
        change = {"config": {"mount.source": "/etc"}}
        status, body = await client.ask("PATCH", at.replace("custom", "custom/site"), change)
        assert status == 403, body


async def test_shared_volumes_of_paths_of_the_host_are_limited_like_disks(stand: Stand) -> None:
    """Project blue shares the volumes of the default project, where an administrator has made one of a directory."""
    await stand.world.host.files.make_directory(Path("/srv"))
    at = "/1.0/storage-pools/default/volumes/custom"
    assert (await stand.ask("POST", at, {"name": "site", "config": {"mount.source": "/srv"}}))[0] == 201
    assert (await stand.ask("POST", at, {"name": "data"}))[0] == 201
    rules = {"restricted": "true", "features.storage.volumes": "false", "features.images": "false"}
    change = stand.world.parts.records.projects.change
    await change("blue", lambda found: replace(found, config=rules))
    port, shown = await restricted(stand, "blue")

    def disk(volume: str) -> dict[str, object]:
        device = {"type": "disk", "path": "/mnt", "pool": "default", "source": volume}
        root = {"type": "disk", "path": "/", "pool": "default"}
        return {"name": "web1", "source": {"type": "image", "alias": "tiny"}, "devices": {"root": root, "d": device}}

    async def create(client: Peer, volume: str) -> str:
        status, answer = await client.ask("POST", "/1.0/instances?project=blue", disk(volume))
        if status == 202:
            answer = {"error": (await client.get(f"{answer['operation']}/wait"))["err"]}
        return str(answer["error"])

    async with peer(port, shown) as client:  # type: ignore[arg-type]
        assert "restricted.devices.disk of the project" in await create(client, "site")
        await change("blue", lambda found: replace(found, config=rules | {"restricted.devices.disk": "allow"}))
        assert await create(client, "site") == ""
        await change("blue", lambda found: replace(found, config=rules))
        with pytest.raises(Forbidden):
            async with stand.services.instances.place(Ref("blue", "web1"), "/mnt/secret"):
                pass
        started = await client.ask("PUT", "/1.0/instances/web1/state?project=blue", {"action": "start"})
        failed = (await client.get(f"{started[1]['operation']}/wait"))["err"] if started[0] == 202 else started[1]
        assert "restricted.devices.disk of the project" in str(failed), "also when it has it already"


async def test_a_project_with_a_volume_of_a_path_of_the_host_is_not_restricted_before_it_is_gone(stand: Stand) -> None:
    at = "/1.0/storage-pools/default/volumes/custom?project=pink"
    assert (await stand.ask("POST", "/1.0/projects", {"name": "pink"}))[0] == 201
    assert (await stand.ask("POST", at, {"name": "site", "config": {"mount.source": "/srv"}}))[0] == 201
    status, body = await stand.ask("PATCH", "/1.0/projects/pink", {"config": {"restricted": "true"}})
    assert status == 403 and "restricted.devices.disk" in body["error"], body
    assert (await stand.ask("DELETE", at.replace("custom", "custom/site")))[0] == 200
    assert (await stand.ask("PATCH", "/1.0/projects/pink", {"config": {"restricted": "true"}}))[0] == 200


async def test_an_image_of_another_project_is_copied_only_with_its_secret(stand: Stand) -> None:
    for name, features in (("green", "true"), ("pink", "true")):
        record = Project(name, config={"features.images": features})
        await stand.world.parts.records.projects.add(name, record)
    port, shown = await restricted(stand, "green")
    fingerprint = (await stand.get("/1.0/images?recursion=1"))[0]["fingerprint"]
    certificate = (await stand.services.identity.ensure()).certificate
    source = {"type": "image", "protocol": "lxd", "certificate": certificate, "fingerprint": fingerprint}
    async with peer(port, shown) as client:  # type: ignore[arg-type]
        for secret in ("", "wrong"):
            body = {"source": source | {"project": "default", "secret": secret}}
            assert (await client.ask("POST", "/1.0/images?project=green", body))[0] == 404
        status, lent = await stand.ask("POST", f"/1.0/images/{fingerprint}/secret")
        assert status == 202
        body = {"source": source | {"project": "default", "secret": lent["metadata"]["metadata"]["secret"]}}
        assert (await client.ask("POST", "/1.0/images?project=pink", body))[0] in (403, 404)
        status, begun = await client.ask("POST", "/1.0/images?project=green", body)
        assert status == 202, begun
        assert (await stand.get(f"{begun['operation']}/wait"))["status"] == "Success"
        assert (await client.ask("GET", f"/1.0/images/{fingerprint}?project=green"))[0] == 200
