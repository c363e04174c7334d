"""Lists of containers, parts of which are kept: each change is seen in the next list."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.testing.clock import FakeClock

NAMES = ("web1", "web2", "web3")


@pytest.fixture
async def docker() -> AsyncIterator[DockerStand]:
    async with docker_standing() as made:
        for name in NAMES:
            await clock_of(made).advance(1)
            await ask(made, "POST", f"/containers/create?name={name}", {"Image": "tiny", "Cmd": ["sleep", "9"]})
        yield made


def clock_of(docker: DockerStand) -> FakeClock:
    clock = docker.services.host.clock
    assert isinstance(clock, FakeClock)
    return clock


async def ask(docker: DockerStand, method: str, path: str, body: object = None) -> Any:
    status, answer = await docker.ask(method, path, body)
    assert status < 300, answer
    return answer


async def listed(docker: DockerStand, query: str = "all=1") -> dict[str, Any]:
    """By the first name; the newest is the first."""
    return {each["Names"][0].removeprefix("/"): each for each in await docker.get(f"/containers/json?{query}")}


async def changed(docker: DockerStand, *verbs: tuple[str, str, object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The lists before and after some requests, each asked for twice: the second one is kept whole."""
    before = await listed(docker)
    assert await listed(docker) == before and list(before) == [*reversed(NAMES)]
    for method, path, body in verbs:
        await ask(docker, method, path, body)
    after = await listed(docker)
    assert await listed(docker) == after
    return before, after


async def test_names_and_the_set_of_containers(docker: DockerStand) -> None:
    before, after = await changed(
        docker, ("POST", "/containers/web1/rename?name=app", None), ("DELETE", "/containers/web2", None)
    )
    assert list(after) == ["web3", "app"] and after["web3"] == before["web3"]
    networks = after["app"]["NetworkSettings"]
    assert after["app"] == before["web1"] | {"Names": ["/app"], "NetworkSettings": networks}
    assert networks["Networks"]["bridge"]["DNSNames"] == ["app", after["app"]["Id"][:12]]


async def test_the_state_and_for_how_long(docker: DockerStand) -> None:
    before, after = await changed(docker, ("POST", "/containers/web1/start", None))
    assert (before["web1"]["State"], before["web1"]["Status"]) == ("created", "Created")
    assert (after["web1"]["State"], after["web1"]["Status"]) == ("running", "Up Less than a second")
    assert after["web2"] == before["web2"]
    assert after["web1"]["NetworkSettings"]["Networks"]["bridge"]["EndpointID"]
    assert list(await listed(docker, "")) == ["web1"]
    await clock_of(docker).advance(7)
    later = await listed(docker)
    assert later["web1"] == after["web1"] | {"Status": "Up 7 seconds"}
    await ask(docker, "POST", "/containers/web1/pause")
    paused = (await listed(docker))["web1"]
    assert (paused["State"], paused["Status"]) == ("paused", "Up 7 seconds (Paused)")
    await ask(docker, "POST", "/containers/web1/unpause")
    await ask(docker, "POST", "/containers/web1/stop?t=0")
    await clock_of(docker).advance(90)
    stopped = (await listed(docker))["web1"]
    assert stopped["State"] == "exited" and stopped["Status"].endswith("About a minute ago")
    assert await listed(docker, "") == {}


async def test_names_by_links_of_others(docker: DockerStand) -> None:
    before = await listed(docker)
    body = {"Image": "tiny", "HostConfig": {"Links": ["web1:db"]}}
    await ask(docker, "POST", "/containers/create?name=front", body)
    after = await listed(docker)
    assert after["web1"] == before["web1"] | {"Names": ["/web1", "/front/db"]}
    await ask(docker, "DELETE", "/containers/front/db?link=1")
    assert (await listed(docker))["web1"] == before["web1"]


async def test_images_under_other_names(docker: DockerStand) -> None:
    name = (await listed(docker))["web1"]["Image"]
    before, after = await changed(
        docker, ("POST", f"/images/{name}/tag?repo=other&tag=1", None), ("DELETE", f"/images/{name}", None)
    )
    assert before["web1"]["Image"] == name and after["web1"]["Image"] == after["web1"]["ImageID"]


async def test_networks(docker: DockerStand) -> None:
    await ask(docker, "POST", "/networks/create", {"Name": "inside"})
    _, after = await changed(docker, ("POST", "/networks/inside/connect", {"Container": "web1"}))
    assert set(after["web1"]["NetworkSettings"]["Networks"]) == {"bridge", "inside"}
    assert set(after["web2"]["NetworkSettings"]["Networks"]) == {"bridge"}
    await ask(docker, "POST", "/containers/web1/start")
    before = await listed(docker)
    assert before["web1"]["NetworkSettings"]["Networks"]["bridge"]["Gateway"] == "10.87.155.1"
    await docker.rest.ask("PATCH", "/1.0/networks/isolabr0", {"config": {"ipv4.address": "10.87.155.254/24"}})
    assert (await listed(docker))["web1"]["NetworkSettings"]["Networks"]["bridge"]["Gateway"] == "10.87.155.254"


async def test_profiles_of_the_other_door(docker: DockerStand) -> None:
    before = await listed(docker)
    profile = await docker.rest.get("/1.0/profiles/default")
    wanted = {"config": {**profile["config"], "user.tier": "gold"}, "devices": profile["devices"], "description": ""}
    await docker.rest.ask("PUT", "/1.0/profiles/default", wanted)
    after = await listed(docker)
    assert [each["Labels"] for each in after.values()] == [{"tier": "gold"}] * 3
    assert before["web1"]["Labels"] == {}


async def test_volumes(docker: DockerStand) -> None:
    body = {"Image": "tiny", "HostConfig": {"Binds": ["data:/data"]}}
    await ask(docker, "POST", "/containers/create?name=store", body)
    [mount] = (await listed(docker))["store"]["Mounts"]
    volume = await docker.get("/volumes/data")
    assert (mount["Name"], mount["Source"]) == ("data", volume["Mountpoint"])


async def test_sizes_and_versions_have_fields_of_their_own(docker: DockerStand) -> None:
    plain = await listed(docker)
    sized = await listed(docker, "all=1&size=1")
    assert {*sized["web1"]} - {*plain["web1"]} == {"SizeRw", "SizeRootFs"}
    assert {name: {key: each[key] for key in plain[name]} for name, each in sized.items()} == plain
    async with docker.session.get("http://docker/v1.41/containers/json?all=1") as answer:
        older = {each["Names"][0].removeprefix("/"): each for each in await answer.json()}
    assert {*plain["web1"]} - {*older["web1"]} == {"ImageManifestDescriptor"}
    assert await listed(docker) == plain


async def test_of_more_versions_than_are_kept(docker: DockerStand) -> None:
    plain = await listed(docker)
    for minor in range(24, 52):
        async with docker.session.get(f"http://docker/v1.{minor}/containers/json?limit=1") as answer:
            assert [each["Names"] for each in await answer.json()] == [["/web3"]]
    assert await listed(docker) == plain
