"""``isola registry`` and its routes, over a daemon in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from registry_content import artifact, image, index
from registry_door import RegistryStand, registry_standing

APP = "/1.0/isola/registry/repositories/team/app"
TOKENS = "/1.0/isola/registry/tokens"


@pytest.fixture
async def stand() -> AsyncIterator[RegistryStand]:
    async with registry_standing() as opened:
        yield opened


async def test_repositories_are_listed_with_their_tags(stand: RegistryStand) -> None:
    whole = index(image(), image("arm", architecture="arm64"))
    await stand.client.push("team/app", whole, "1")
    await stand.client.push("team/app", artifact(), "sbom")
    assert APP in await stand.rest.get("/1.0/isola/registry/repositories")
    listed = await stand.rest.get("/1.0/isola/registry/repositories?recursion=1")
    assert {each["name"]: each["tag_count"] for each in listed} == {"team/app": 2, "tiny": 1}
    found = await stand.rest.get(APP)
    assert found["path"] == "team/app"
    tags = {each["tag"]: each for each in found["manifests"] if each["tag"]}
    assert tags["1"]["digest"] == whole.digest
    assert tags["1"]["image"] == f"/1.0/images/{image().digest[7:]}"
    assert (tags["sbom"]["artifact_type"], tags["sbom"]["image"]) == ("application/vnd.example.v1", "")
    assert len([each for each in found["manifests"] if not each["tag"]]) == 2
    [tiny] = (await stand.rest.get("/1.0/isola/registry/repositories/tiny"))["manifests"]
    assert tiny["tag"] == "latest" and tiny["size"] > 0
    assert (await stand.rest.ask("GET", "/1.0/isola/registry/repositories/none"))[0] == 404


async def test_tags_manifests_and_repositories_are_deleted(stand: RegistryStand) -> None:
    content = image()
    await stand.client.push("team/app", content, "1")
    await stand.client.push("team/app", artifact(), "2")
    assert (await stand.rest.ask("DELETE", f"{APP}?tag=1&digest={content.digest}"))[0] == 400
    assert (await stand.rest.ask("DELETE", f"{APP}?tag=1"))[0] == 200
    assert (await stand.rest.ask("DELETE", f"{APP}?tag=1"))[0] == 404
    assert (await stand.client.ask("GET", f"/v2/team/app/manifests/{content.digest}")).status == 200
    assert (await stand.rest.ask("DELETE", f"{APP}?digest={content.digest}"))[0] == 200
    assert (await stand.client.ask("GET", f"/v2/team/app/manifests/{content.digest}")).status == 404
    assert (await stand.rest.ask("DELETE", APP))[0] == 200
    assert (await stand.rest.ask("DELETE", APP))[0] == 404
    assert await stand.rest.get("/1.0/isola/registry/repositories") == ["/1.0/isola/registry/repositories/tiny"]


async def test_login_tokens_are_made_and_removed(stand: RegistryStand) -> None:
    await stand.rest.ask("POST", "/1.0/projects", {"name": "blue"})
    wanted = {"name": "ci", "project": "blue", "read_only": True, "expires": "30d"}
    status, answer = await stand.rest.ask("POST", TOKENS, wanted)
    made = answer["metadata"]
    assert status == 201 and len(made.pop("secret")) == 64
    assert made == await stand.rest.get(f"{TOKENS}/ci")
    assert (made["project"], made["read_only"]) == ("blue", True)
    assert made["expires_at"].startswith("2026-01-31")
    assert await stand.rest.get(TOKENS) == [f"{TOKENS}/ci"]
    assert await stand.rest.get(f"{TOKENS}?recursion=1") == [made]
    assert (await stand.rest.ask("POST", TOKENS, wanted))[0] == 409
    for wrong in ({}, {"name": "a/b"}, {"name": "x", "expires": "soon"}, {"name": "x", "project": "none"}):
        assert (await stand.rest.ask("POST", TOKENS, wrong))[0] == 400, wrong
    assert (await stand.rest.ask("DELETE", f"{TOKENS}/ci"))[0] == 200
    assert (await stand.rest.ask("DELETE", f"{TOKENS}/ci"))[0] == 404


async def test_repositories_belong_to_projects(stand: RegistryStand) -> None:
    await stand.rest.ask("POST", "/1.0/projects", {"name": "blue", "config": {"features.profiles": "false"}})
    await stand.client.push("project/blue/app", image(), "1")
    assert await stand.rest.get("/1.0/isola/registry/repositories") == ["/1.0/isola/registry/repositories/tiny"]
    [shown] = await stand.rest.get("/1.0/isola/registry/repositories?project=blue&recursion=1")
    assert shown == {"name": "app", "project": "blue", "path": "project/blue/app", "tag_count": 1}
    every = await stand.rest.get("/1.0/isola/registry/repositories?all-projects=true")
    assert "/1.0/isola/registry/repositories/app?project=blue" in every
    assert every[0] in (await stand.rest.get("/1.0/projects/blue"))["used_by"]
    assert (await stand.rest.ask("DELETE", "/1.0/projects/blue"))[0] == 400
    assert (await stand.rest.ask("DELETE", "/1.0/isola/registry/repositories/app?project=blue"))[0] == 200
    assert (await stand.rest.ask("DELETE", "/1.0/projects/blue"))[0] == 200
