"""Images through the Docker door: pulled from a registry in memory, named, listed, shown, pushed, removed."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
from docker_door import DockerStand, docker_standing

from isola.images.registry.endpoints import HUB_HOST
from isola.model.image_reference import HUB_INDEX
from isola.testing.registry import FakeRegistry

HUB = f"https://{HUB_HOST}"
OTHER = "https://registry.example"
APP = "registry.example/team/app"


class Bench:
    """A door, Docker Hub with one image, and another registry."""

    def __init__(self, stand: DockerStand) -> None:
        self.stand = stand
        self.servers = stand.rest.world.host.http.servers
        self.hub = self.servers[HUB] = FakeRegistry(HUB)
        self.other = self.servers[OTHER] = FakeRegistry(OTHER)
        labels = {"Labels": {"tier": "web"}, "Entrypoint": ["/app"], "ExposedPorts": {"80/tcp": {}}}
        self.digest = self.hub.add_image(
            "library/app", "1", {"bin/app": b"app" * 999}, more=[{"a": b"a"}], config=labels
        )

    async def stream(self, path: str, **headers: str) -> tuple[int, list[dict[str, Any]]]:
        async with self.stand.session.post(f"http://docker/v1.50{path}", headers=headers) as answer:
            return answer.status, [json.loads(line) for line in (await answer.text()).splitlines() if line]

    async def pull(self, name: str = "app", tag: str = "1") -> list[dict[str, Any]]:
        status, lines = await self.stream(f"/images/create?fromImage={name}&tag={tag}")
        assert status == 200, lines
        return lines

    async def tags(self) -> list[str]:
        return sorted(tag for image in await self.stand.get("/images/json") for tag in image["RepoTags"])


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with docker_standing() as stand:
        yield Bench(stand)


def auth(**fields: str) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()


async def test_a_pull_shows_what_docker_shows(bench: Bench) -> None:
    lines = await bench.pull()
    statuses = [line["status"] for line in lines]
    assert lines[0] == {"status": "Pulling from library/app", "id": "1"}
    assert statuses.count("Pulling fs layer") == statuses.count("Pull complete") == 2
    assert statuses[-2:] == [f"Digest: {bench.digest}", "Status: Downloaded newer image for app:1"]
    downloads = [line for line in lines if line["status"] == "Downloading"]
    assert all(len(line["id"]) == 12 and line["progressDetail"]["total"] for line in downloads)
    lines = await bench.pull()
    assert [line["status"] for line in lines].count("Already exists") == 2
    assert lines[-1]["status"] == "Status: Image is up to date for app:1"


async def test_errors_before_the_stream_have_dockers_texts(bench: Bench) -> None:
    for query, status, text in (
        ("fromImage=app&tag=9", 404, "manifest for app:9 not found: manifest unknown: manifest unknown"),
        ("fromImage=APP&tag=1", 400, "repository name (library/APP) must be lowercase"),
        ("fromImage=a..b", 400, "invalid reference format"),
        ("fromImage=app&tag=.x", 400, "invalid tag format"),
        ("fromImage=app&tag=1&platform=a%20b", 400, '"a b" is an invalid OS component of "a b"'),
        ("fromImage=app&tag=1&platform=linux/arm64", 501, "not available for linux/arm64"),
    ):
        found, lines = await bench.stream(f"/images/create?{query}")
        assert (found, text in lines[0]["message"]) == (status, True), lines[0]


async def test_an_error_within_the_stream_is_its_last_line(bench: Bench) -> None:
    bench.hub.flipped = {digest for _, digest in list(bench.hub.blobs)[1:]}
    status, lines = await bench.stream("/images/create?fromImage=app&tag=1")
    assert status == 200
    assert "does not match its digest" in lines[-1]["error"]
    assert lines[-1]["errorDetail"]["message"] == lines[-1]["error"]
    assert "app:1" not in await bench.tags()


async def test_credentials_of_the_header(bench: Bench) -> None:
    bench.hub.users = {"ann": "secret"}
    status, lines = await bench.stream("/images/create?fromImage=app&tag=1")
    assert status == 404
    assert lines[0]["message"].startswith("pull access denied for app, repository does not exist or may require")
    header = auth(username="ann", password="secret", serveraddress="x")
    status, lines = await bench.stream("/images/create?fromImage=app&tag=1", **{"X-Registry-Auth": header})
    assert status == 200
    assert (await bench.stream("/images/create?fromImage=app&tag=1", **{"X-Registry-Auth": "%%%"}))[0] == 404


async def test_a_client_that_disconnects_cancels_its_pull(bench: Bench) -> None:
    layer = os.urandom(4 << 20)
    bench.hub.add_image("library/app", "big", {"a": layer})
    bench.hub.breaks = [1 << 30, *[1 << 20] * 9]  # retried after a pause, for which the clock of the test stands still
    async with bench.stand.session.post("http://docker/v1.50/images/create?fromImage=app&tag=big") as answer:
        assert b"Pulling from" in await answer.content.readline()
    [pull] = [each for each in bench.stand.services.operations if each.description == "Pulling image"]
    async with asyncio.timeout(60):
        while not pull.status.final:
            await bench.stand.rest.world.host.clock.advance(60)
            await asyncio.sleep(0.01)
    assert pull.status.name == "CANCELLED"


async def test_all_tags(bench: Bench) -> None:
    bench.hub.add_image("library/app", "2", {"b": b"b"})
    lines = await bench.pull(tag="")
    assert [line["id"] for line in lines if line["status"].startswith("Pulling from")] == ["1", "2"]
    assert lines[-1]["status"] == "Status: Downloaded newer image for app"
    assert {"app:1", "app:2"} <= {*await bench.tags()}


async def test_by_digest(bench: Bench) -> None:
    await bench.pull(tag=bench.digest)
    image = await bench.stand.get(f"/images/app@{bench.digest}/json")
    assert (image["RepoTags"], image["RepoDigests"]) == ([], [f"app@{bench.digest}"])
    status, removed = await bench.stand.ask("DELETE", f"/images/app@{bench.digest}")
    assert (status, removed[-1]) == (200, {"Deleted": bench.digest})


async def test_inspect_and_history(bench: Bench) -> None:
    await bench.pull()
    for name in ("app:1", "docker.io/library/app:1", bench.digest, bench.digest[7:19], bench.digest[7:]):
        image = await bench.stand.get(f"/images/{name}/json")
        assert image["Id"] == bench.digest
    assert (image["RepoTags"], image["RepoDigests"]) == (["app:1"], [f"app@{bench.digest}"])
    assert (image["Os"], image["Architecture"], image["Created"]) == ("linux", "amd64", "2024-01-02T03:04:05Z")
    assert image["Config"]["Entrypoint"] == ["/app"]
    assert image["Config"]["Cmd"] == ["/bin/sh"]
    assert image["Config"]["ExposedPorts"] == {"80/tcp": {}}
    assert image["Config"]["Labels"] == {"tier": "web"}
    assert image["Config"]["Env"] == ["A=1"]
    assert len(image["RootFS"]["Layers"]) == 2
    manifest, _ = bench.hub.manifests["library/app", "1"]
    assert (image["Descriptor"]["digest"], image["Descriptor"]["size"]) == (bench.digest, len(manifest))
    steps = await bench.stand.get("/images/app:1/history")
    assert [step["CreatedBy"] for step in steps] == ["step 1", "step 0"]
    assert (steps[0]["Id"], steps[0]["Tags"], steps[1]["Id"]) == (bench.digest, ["app:1"], "<missing>")
    assert (await bench.stand.ask("GET", "/images/none/json")) == (404, {"message": "No such image: none:latest"})


async def test_an_image_of_another_platform_is_not_shown(bench: Bench) -> None:
    await bench.pull()
    for platform, status in (
        ('{"os":"linux","architecture":"amd64"}', 200),
        ('{"os":"linux","architecture":"amd64","variant":"v1"}', 200),
        ('{"os":"linux","architecture":"x86_64"}', 200),
        ('{"os":"linux","architecture":"arm64"}', 404),
        ("arm64", 400),
    ):
        for path in ("json", "history", "get"):
            url = f"http://docker/v1.50/images/app:1/{path}"
            async with bench.stand.session.get(url, params={"platform": platform}) as answer:
                assert answer.status == status
                text = await answer.text(errors="replace")
            assert status != 404 or "app:1 was found but does not provide the specified platform (linux/arm64)" in text


async def test_an_archive_has_images_of_one_platform(bench: Bench) -> None:
    await bench.pull()
    both = [("platform", f'{{"os":"linux","architecture":"{name}"}}') for name in ("amd64", "arm64")]
    for method, path in (("GET", "app:1/get"), ("GET", "get?names=app:1"), ("POST", "load")):
        async with bench.stand.session.request(method, f"http://docker/v1.50/images/{path}", params=both) as answer:
            assert (answer.status, (await answer.json())["message"]) == (
                400,
                "multiple platform parameters not supported",
            )


async def test_platforms_of_imports(bench: Bench) -> None:
    for platform, text in (
        ("   ", '"   " is an invalid OS component of "   ": OSAndVersion specifier component must match "^([A-Za-z'),
        ("/", '"" is an invalid OS component of "/"'),
        ("linux/am d", '"am d" is an invalid component of "linux/am d": platform specifier component must match'),
        ("macos", "operating system is not supported"),
        ("windows/amd64", "operating system is not supported"),
        ("nintendo64", "unknown operating system or architecture"),
    ):
        url = "http://docker/v1.50/images/create"
        async with bench.stand.session.post(url, params={"fromSrc": "-", "platform": platform}) as answer:
            message = (await answer.json())["message"]
            assert (answer.status, text in message) == (400, True), message


async def test_names_that_cannot_be_names(bench: Bench) -> None:
    for method, name, text in (
        ("GET", "UPPER/json", "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("DELETE", "a%20b", "invalid reference format"),
    ):
        assert await bench.stand.ask(method, f"/images/{name}") == (400, {"message": text})


async def test_a_digest_names_an_image_in_its_repositories_only(bench: Bench) -> None:
    await bench.pull()
    await bench.stand.ask("POST", "/images/app:1/tag?repo=mine")
    assert (await bench.stand.get(f"/images/mine@{bench.digest}/json"))["Id"] == bench.digest
    assert (await bench.stand.ask("GET", f"/images/other@{bench.digest}/json"))[0] == 404
    removed = await bench.stand.ask("DELETE", f"/images/mine@{bench.digest}")
    assert removed == (200, [{"Untagged": "mine:latest"}])
    assert (await bench.stand.get("/images/app:1/json"))["RepoTags"] == ["app:1"]


async def test_images_of_the_native_door_are_there(bench: Bench) -> None:
    assert await bench.tags() == ["tiny:latest"]
    assert (await bench.stand.get("/images/tiny/json"))["RepoTags"] == ["tiny:latest"]


async def test_lists_are_filtered(bench: Bench) -> None:
    await bench.pull()

    async def found(**filters: list[str]) -> list[str]:
        text = json.dumps({name.replace("_", "!"): values for name, values in filters.items()})
        async with bench.stand.session.get("http://docker/v1.50/images/json", params={"filters": text}) as answer:
            return sorted(tag for image in await answer.json() for tag in image["RepoTags"])

    assert await found(reference=["ap*"]) == await found(reference=["app:1"]) == ["app:1"]
    await bench.stand.ask("POST", "/images/app:1/tag?repo=mine")
    assert await found(reference=["ap*"]) == ["app:1"]
    await bench.stand.ask("DELETE", "/images/mine")
    assert await found(reference=["*:2"]) == []
    assert await found(label=["tier"]) == await found(label=["tier=web"]) == ["app:1"]
    assert await found(label=["tier=db"]) == await found(dangling=["true"]) == []
    assert await found(dangling=["false"]) == ["app:1", "tiny:latest"]
    assert await found(before=["app:1"]) == await found(until=["2024-01-01"]) == ["tiny:latest"]
    assert await found(since=["tiny"]) == ["app:1"]
    for filters in ('{"odd":["x"]}', '{"dangling":["x"]}', "[]"):
        async with bench.stand.session.get("http://docker/v1.50/images/json", params={"filters": filters}) as answer:
            assert answer.status == 400


async def test_the_shape_of_a_list_follows_the_version(bench: Bench) -> None:
    async with bench.stand.session.get("http://docker/v1.43/images/json") as answer:
        [old] = await answer.json()
    [new] = await bench.stand.get("/images/json?manifests=1&shared-size=1")
    assert old["VirtualSize"] == old["Size"]
    assert "VirtualSize" not in new and new["Containers"] == -1
    assert new["Manifests"][0]["Kind"] == "image"


async def test_the_container_of_an_image_is_shown_to_those_that_need_it(bench: Bench) -> None:
    async def shown(version: str, program: str) -> bool:
        url = f"http://docker/v{version}/images/tiny/json"
        async with bench.stand.session.get(url, headers={"User-Agent": program}) as answer:
            found = await answer.json()
            return "ContainerConfig" in found and found["ContainerConfig"].items() >= found["Config"].items()

    assert await shown("1.44", "x") and await shown("1.50", "docker-compose/1.29.2 docker-py/5.0.3")
    assert not await shown("1.45", "x") and not await shown("1.50", "docker-compose/2.40 (linux)")


async def test_tags_are_given_and_moved(bench: Bench) -> None:
    await bench.pull()
    assert (await bench.stand.ask("POST", f"/images/app:1/tag?repo={APP}&tag=2"))[0] == 201
    assert (await bench.stand.ask("POST", "/images/tiny/tag?repo=mine"))[0] == 201
    assert await bench.tags() == ["app:1", "mine:latest", f"{APP}:2", "tiny:latest"]
    assert (await bench.stand.ask("POST", "/images/app:1/tag?repo=mine"))[0] == 201
    assert (await bench.stand.get("/images/mine/json"))["Id"] == bench.digest
    for query, text in (
        ("repo=UP", "must be lowercase"),
        ("repo=", "at least one"),
        (f"repo=a@{bench.digest}", "digest"),
        ("repo=sha256&tag=1", "refusing to create an ambiguous tag using digest algorithm as name"),
    ):
        status, body = await bench.stand.ask("POST", f"/images/app:1/tag?{query}")
        assert (status, text in body["message"]) == (400, True)
    assert (await bench.stand.ask("POST", "/images/none/tag?repo=x"))[0] == 404


async def test_events_name_images_as_docker_does(bench: Bench) -> None:
    await bench.pull()
    await bench.stand.ask("POST", "/images/app:1/tag?repo=mine")
    await bench.stand.ask("DELETE", "/images/mine")
    async with bench.stand.session.get("http://docker/v1.50/images/app:1/get") as answer:
        await answer.read()
    async with bench.stand.session.get("http://docker/v1.50/events?since=1&until=9999999999") as answer:
        lines = [json.loads(await answer.content.readline()) for _ in range(5)]
    told = [(line["Action"], line["Actor"]["ID"], line["Actor"]["Attributes"]["name"]) for line in lines]
    assert ("tag", bench.digest, "mine:latest") in told and ("untag", bench.digest, "mine:latest") in told
    assert told[-1] == ("save", bench.digest, bench.digest)
    wrong = await bench.stand.ask("GET", "/events?since=2&until=1")
    assert wrong == (400, {"message": "`since` time (2) cannot be after `until` time (1)"})


async def test_a_push_shows_what_docker_shows(bench: Bench) -> None:
    await bench.pull()
    await bench.stand.ask("POST", f"/images/app:1/tag?repo={APP}&tag=2")
    status, lines = await bench.stream(f"/images/{APP}/push?tag=2")
    statuses = [line.get("status", "") for line in lines]
    assert status == 200
    assert statuses[0] == f"The push refers to repository [{APP}]"
    assert statuses.count("Preparing") == statuses.count("Pushed") == 2  # the configuration is no layer
    assert statuses[-2].startswith(f"2: digest: {bench.digest} size: ")
    assert lines[-1]["aux"]["Tag"] == "2" and lines[-1]["aux"]["Digest"] == bench.digest
    assert ("team/app", "2") in bench.other.manifests
    _, lines = await bench.stream(f"/images/{APP}/push?tag=2")
    assert "Layer already exists" in [line.get("status") for line in lines]
    await bench.stand.ask("POST", f"/images/app:1/tag?repo={APP}-copy&tag=2")
    _, lines = await bench.stream(f"/images/{APP}-copy/push")
    assert "Mounted from team/app" in [line.get("status") for line in lines]


async def test_a_push_of_what_is_not_there(bench: Bench) -> None:
    for path in (f"/images/{APP}/push?tag=9", f"/images/{APP}/push"):
        _, lines = await bench.stream(path)
        assert lines[-1]["error"] == f"An image does not exist locally with the tag: {APP}"
    await bench.stand.ask("POST", f"/images/tiny/tag?repo={APP}&tag=2")
    _, lines = await bench.stream(f"/images/{APP}/push?tag=9")
    assert lines[-1]["error"] == f"tag does not exist: {APP}:9"


# --- removing ------------------------------------------------------------------------------------------------------


async def test_removing_names_and_images(bench: Bench) -> None:
    await bench.pull()
    await bench.stand.ask("POST", "/images/app:1/tag?repo=mine")
    assert await bench.stand.ask("DELETE", "/images/mine") == (200, [{"Untagged": "mine:latest"}])
    status, removed = await bench.stand.ask("DELETE", "/images/app:1")
    assert status == 200
    assert removed == [{"Untagged": "app:1"}, {"Untagged": f"app@{bench.digest}"}, {"Deleted": bench.digest}]
    assert await bench.tags() == ["tiny:latest"]
    assert (await bench.stand.ask("DELETE", "/images/app:1"))[0] == 404


async def test_an_id_with_several_names_needs_force(bench: Bench) -> None:
    await bench.pull()
    await bench.stand.ask("POST", "/images/app:1/tag?repo=mine")
    short = bench.digest[7:19]
    status, body = await bench.stand.ask("DELETE", f"/images/{short}")
    message = f"conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories"
    assert (status, body["message"]) == (409, message)
    status, removed = await bench.stand.ask("DELETE", f"/images/{short}?force=1")
    assert (status, removed[-1]) == (200, {"Deleted": bench.digest})


async def test_images_in_use_are_kept(bench: Bench) -> None:
    world = bench.stand.rest.world
    instance = await world.create("c1")
    image, container = instance.image[:12], instance.id[:12]
    status, body = await bench.stand.ask("DELETE", "/images/tiny")
    assert (status, body["message"]) == (
        409,
        f'conflict: unable to remove repository reference "tiny:latest" (must force) - container {container} is using '
        f"its referenced image {image}",
    )
    status, body = await bench.stand.ask("DELETE", f"/images/{image}")
    assert (status, body["message"]) == (
        409,
        f"conflict: unable to delete {image} (must be forced) - image is being used by stopped container {container}",
    )
    await world.create("c2", start=True)
    status, body = await bench.stand.ask("DELETE", f"/images/{image}?force=1")
    assert (status, "(cannot be forced) - image is being used by running container" in body["message"]) == (409, True)
    status, removed = await bench.stand.ask("DELETE", "/images/tiny?force=1")
    assert (status, removed[0]) == (200, {"Untagged": "tiny:latest"})
    assert [each["RepoTags"] for each in await bench.stand.get("/images/json")] == [[]]


async def test_prune(bench: Bench) -> None:
    await bench.pull()
    pruned = await bench.stand.ask("POST", "/images/prune")
    assert pruned == (200, {"ImagesDeleted": None, "SpaceReclaimed": 0})
    bench.hub.add_image("library/app", "1", {"c": b"c"})
    await bench.pull()
    status, body = await bench.stand.ask("POST", "/images/prune")
    assert (status, body["ImagesDeleted"]) == (200, [{"Deleted": bench.digest}])
    assert body["SpaceReclaimed"] > 0
    await bench.stand.rest.world.create("c1")
    status, body = await bench.stand.ask("POST", '/images/prune?filters={"dangling":["false"]}')
    assert {"Untagged": "app:1"} in body["ImagesDeleted"]
    assert await bench.tags() == ["tiny:latest"]


# --- registries ----------------------------------------------------------------------------------------------------


async def test_login(bench: Bench) -> None:
    bench.other.users = {"ann": "secret"}
    wanted = {"username": "ann", "password": "secret", "serveraddress": "https://registry.example/v2/"}
    status, body = await bench.stand.ask("POST", "/auth", wanted)
    assert (status, body["Status"]) == (200, "Login Succeeded")
    status, body = await bench.stand.ask("POST", "/auth", {**wanted, "password": "wrong"})
    assert (status, "unauthorized" in body["message"]) == (401, True)
    assert (await bench.stand.ask("POST", "/auth", {**wanted, "serveraddress": "a b"}))[0] == 400


async def test_search(bench: Bench) -> None:
    found = await bench.stand.get("/images/search?term=registry.example/te")
    assert found == []
    await bench.pull()
    await bench.stand.ask("POST", f"/images/app:1/tag?repo={APP}&tag=2")
    await bench.stream(f"/images/{APP}/push?tag=2")
    [found] = await bench.stand.get("/images/search?term=registry.example/te")
    assert (found["name"], found["is_official"]) == (APP, False)
    assert (await bench.stand.ask("GET", "/images/search?term=x&limit=1000"))[0] == 400


async def test_search_of_docker_hub(bench: Bench) -> None:
    from isola.testing.http import Received, Reply

    def hub(request: Received) -> Reply:
        results = [{"name": "nginx", "description": "A server", "star_count": 7, "is_official": True}, {"name": "x/y"}]
        return Reply(body=json.dumps({"results": results}).encode())

    bench.servers[f"https://{HUB_INDEX}"] = hub
    names = [each["name"] for each in await bench.stand.get("/images/search?term=n")]
    assert names == ["nginx", "x/y"]
    [found] = await bench.stand.get('/images/search?term=n&filters={"is-official":["true"],"stars":["3"]}')
    assert found == {
        "name": "nginx",
        "description": "A server",
        "star_count": 7,
        "is_official": True,
        "is_automated": False,
    }


async def test_distribution(bench: Bench) -> None:
    found = await bench.stand.get("/distribution/app:1/json")
    assert found["Descriptor"]["digest"] == bench.digest
    assert found["Platforms"] == [{"architecture": "amd64", "os": "linux"}]
    index = bench.hub.add_index("library/app", "many", {"linux/amd64": bench.digest})
    found = await bench.stand.get("/distribution/app:many/json")
    assert (found["Descriptor"]["digest"], len(found["Platforms"])) == (index, 1)
    assert (await bench.stand.ask("GET", "/distribution/none/json"))[0] == 404
