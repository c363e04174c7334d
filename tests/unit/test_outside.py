"""Addresses that restricted callers cannot have the daemon connect to, and the doors that say so."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from https_peer import Peer, der_of, free_port, pair, peer
from rest_door import Stand, standing

from isola.model.outside import is_outside
from isola.testing.http import Received, Reply


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.9.1", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.1.1", "224.0.0.1", "::1", "::",
        "fe80::1", "fe80::1%eth0", "ff02::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_inside(address: str) -> None:
    assert not is_outside(address)


@pytest.mark.parametrize(
    "address", ["192.0.2.1", "10.0.0.1", "192.168.1.1", "2001:db8::1", "fd12::1", "::ffff:10.0.0.1"]
)
def test_outside(address: str) -> None:
    assert is_outside(address)


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing() as open_door:
        yield open_door


@pytest.fixture
async def client(stand: Stand) -> AsyncIterator[Peer]:
    """Restricted to the default project."""
    port, shown = free_port(), pair()
    status, _ = await stand.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    assert status == 200
    wanted = {"type": "client", "certificate": der_of(shown), "restricted": True, "projects": ["default"]}
    assert (await stand.ask("POST", "/1.0/certificates", wanted))[0] == 201
    async with peer(port, shown) as found:
        yield found


def metadata_service(request: Received) -> Reply:
    return Reply(200, b"the host's secrets")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1.50/auth", {"serveraddress": "127.0.0.1:22", "username": "u", "password": "p"}),
        ("POST", "/v1.50/images/create?fromImage=127.0.0.1:5000/x&tag=1", None),
        ("GET", "/v1.50/distribution/169.254.169.254%2Fx/json", None),
    ],
)
async def test_a_restricted_client_cannot_look_around_inside(
    stand: Stand, client: Peer, method: str, path: str, body: object
) -> None:
    http = stand.world.host.http
    for origin in ("127.0.0.1:22", "127.0.0.1:5000", "169.254.169.254"):
        http.servers |= {f"{scheme}://{origin}": metadata_service for scheme in ("http", "https")}
    status, found = await client.ask(method, path, body)
    assert 401 <= status <= 404 and "is reached by this host alone" in found["message"], found
    assert http.requests == []
    await stand.ask("PATCH", "/1.0", {"config": {"images.registry.insecure": "127.0.0.0/8, 169.254.169.254"}})
    status, found = await client.ask(method, path, body)
    assert "is reached by this host alone" not in str(found)
    assert http.requests, "an administrator has named it"
