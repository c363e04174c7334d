"""The Docker door: its socket, versions, errors, and what has no swarm."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator

import pytest
from docker_door import DockerStand, docker_standing
from https_peer import der_of, free_port, pair, peer


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        yield made


async def test_the_socket_is_for_root_and_the_group(docker: DockerStand) -> None:
    assert stat.S_IMODE(os.stat(docker.rest.path.with_name("docker.sock")).st_mode) == 0o660


@pytest.mark.parametrize("path", ["/_ping", "/v1.24/_ping", "/v1.51/_ping"])
async def test_ping_names_the_newest_version(docker: DockerStand, path: str) -> None:
    async with docker.session.head(f"http://docker{path}") as head:
        assert (head.status, await head.read()) == (200, b"")
    async with docker.session.get(f"http://docker{path}") as found:
        assert (found.status, await found.text(), found.content_type) == (200, "OK", "text/plain")
    for answer in (head, found):
        named = {name: answer.headers[name] for name in ("Api-Version", "Ostype", "Docker-Experimental", "Swarm")}
        assert named == {"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "true", "Swarm": "inactive"}
        assert answer.headers["Builder-Version"] == "1" and answer.headers["Server"].endswith(" (linux)")
        assert "no-store" in answer.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("method", "path", "status", "message"),
    [
        (
            "GET",
            "/v1.23/_ping",
            400,
            "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a "
            "newer version",
        ),
        ("GET", "/v1.99/_ping", 400, "client version 1.99 is too new. Maximum supported API version is 1.51"),
        ("GET", "/v1.50/nothing", 404, "page not found"),
        ("POST", "/v1.50/grpc", 400, "the connection has to be upgraded to h2c"),
        ("POST", "/v1.50/session", 400, "the session has no id or one that is taken, or there are too many"),
        ("GET", "/", 404, "page not found"),
        ("PUT", "/v1.50/_ping", 404, "page not found"),
        ("GET", "/1.0", 404, "page not found"),
        (
            "GET",
            "/v1.50/services",
            503,
            'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to '
            "swarm and try again.",
        ),
        ("POST", "/v1.50/swarm/leave", 503, "This node is not part of a swarm"),
        ("GET", "/v1.50/plugins/vieux/sshfs/json", 404, 'plugin "vieux/sshfs" not found'),
    ],
)
async def test_errors_are_those_of_docker(
    docker: DockerStand, method: str, path: str, status: int, message: str
) -> None:
    async with docker.session.request(method, f"http://docker{path}") as answer:
        assert (answer.status, await answer.json()) == (status, {"message": message})
        assert answer.headers["Api-Version"] == "1.51"


async def test_there_are_no_plugins(docker: DockerStand) -> None:
    assert await docker.get("/plugins") == []


async def test_the_network_listener_serves_it_beside_the_other_door(docker: DockerStand) -> None:
    shown, port = pair(), free_port()
    body = {"type": "client", "certificate": der_of(shown)}
    assert (await docker.rest.ask("POST", "/1.0/certificates", body))[0] == 201
    await docker.rest.ask("PATCH", "/1.0", {"config": {"core.https_address": f"127.0.0.1:{port}"}})
    async with peer(port, shown) as client:
        async with client.session.get(f"{client.url}/v1.50/plugins") as found:
            assert (found.status, await found.json()) == (200, [])
        async with client.session.get(f"{client.url}/_ping") as found:
            assert (found.status, await found.text()) == (200, "OK")
        assert (await client.get("/1.0"))["auth"] == "trusted"
    async with peer(port, None) as unknown, unknown.session.get(f"{unknown.url}/v1.50/plugins") as refused:
        assert (refused.status, await refused.json()) == (403, {"message": "Only trusted callers may do this"})
