"""Images of registries through the REST door: pulled, launched, refreshed and pushed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from rest_door import Stand, standing

from isola.testing.registry import FakeRegistry

URL = "https://registry.example"
NAME = "registry.example/team/app:1"


class Bench:
    """A door, and a registry with one image."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.registry = stand.world.host.http.servers[URL] = FakeRegistry(URL)
        self.digest = self.registry.add_image("team/app", "1", {"bin/app": b"app"})

    async def run(self, path: str, body: object, status: int = 202) -> dict[str, object]:
        """Start an operation and wait for it; returns it."""
        found, answer = await self.stand.ask("POST", path, body)
        assert found == status, answer
        if status != 202:
            return dict(answer)
        _, ended = await self.stand.ask("GET", f"{answer['operation']}/wait")
        return dict(ended["metadata"])

    async def pull(self, status: int = 202, **source: object) -> dict[str, object]:
        wanted = {"type": "image", "mode": "pull", "protocol": "oci", "alias": "team/app:1", "server": URL, **source}
        return await self.run("/1.0/images", {"source": wanted}, status)

    async def aliases(self) -> dict[str, str]:
        _, answer = await self.stand.ask("GET", "/1.0/images/aliases?recursion=1")
        return {each["name"]: each["target"] for each in answer["metadata"]}


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    async with standing() as stand:
        yield Bench(stand)


async def test_a_pull_as_incus_asks_for_it(bench: Bench) -> None:
    ended = await bench.pull()
    assert ended["status"] == "Success", ended
    assert ended["metadata"]["digest"] == bench.digest  # type: ignore[index]
    assert (await bench.aliases())[NAME] == bench.digest.removeprefix("sha256:")
    _, answer = await bench.stand.ask("GET", f"/1.0/images/{bench.digest[7:19]}")
    assert answer["metadata"]["source"]["reference"] == NAME


async def test_aliases_platforms_and_flags(bench: Bench) -> None:
    source = {"type": "image", "protocol": "oci", "alias": NAME, "options": {"platform": "linux/amd64"}}
    ended = await bench.run("/1.0/images", {"source": source, "aliases": [{"name": "mine"}], "public": True})
    assert ended["status"] == "Success"
    assert "mine" in await bench.aliases() and NAME not in await bench.aliases()
    _, answer = await bench.stand.ask("GET", f"/1.0/images/{bench.digest[7:19]}")
    assert answer["metadata"]["public"] is True
    ended = await bench.run("/1.0/images", {"source": {**source, "options": {"platform": "linux/arm64"}}})
    assert "not available for linux/arm64" in str(ended["err"])


async def test_credentials_are_used_and_not_shown(bench: Bench) -> None:
    bench.registry.users = {"ann": "secret"}
    assert "requires authentication" in str((await bench.pull())["err"])
    ended = await bench.pull(credentials={"username": "ann", "password": "secret"})
    assert ended["status"] == "Success"
    _, answer = await bench.stand.ask("GET", f"/1.0/images/{bench.digest[7:19]}")
    assert "secret" not in str(answer) + str(ended)
    await bench.pull(400, credentials={"username": "a\nb"})


async def test_names_that_lead_nowhere(bench: Bench) -> None:
    assert "has no registry" in str(await bench.pull(400, server=""))
    assert "Invalid registry" in str(await bench.pull(400, server="https://a b/"))
    assert "lowercase" in str(await bench.pull(400, alias="UP"))
    assert "does not have" in str((await bench.pull(alias="team/none"))["err"])


async def test_an_instance_of_a_registry(bench: Bench) -> None:
    source = {"type": "image", "mode": "pull", "protocol": "oci", "server": URL, "alias": "team/app:1"}
    ended = await bench.run("/1.0/instances", {"name": "c1", "source": source})
    assert ended["status"] == "Success", ended
    assert NAME in await bench.aliases()


async def test_a_refresh_pulls_again(bench: Bench) -> None:
    await bench.pull()
    new = bench.registry.add_image("team/app", "1", {"bin/app": b"new"})
    ended = await bench.run(f"/1.0/images/{bench.digest[7:19]}/refresh", {})
    assert ended["status"] == "Success"
    assert (await bench.aliases())[NAME] == new.removeprefix("sha256:")
    tiny = (await bench.aliases())["tiny"]
    assert "refreshed" in str(await bench.run(f"/1.0/images/{tiny}/refresh", {}, 501))


async def test_a_push(bench: Bench) -> None:
    tiny = (await bench.aliases())["tiny"]
    wanted = {"reference": "registry.example/team/tiny:1"}
    ended = await bench.run(f"/1.0/images/{tiny[:12]}/push", wanted)
    assert ended["status"] == "Success", ended
    assert ("team/tiny", "1") in bench.registry.manifests
    bench.registry.users = {"ann": "secret"}
    assert "requires authentication" in str((await bench.run(f"/1.0/images/{tiny}/push", wanted))["err"])
    login = {"credentials": {"auth": "YW5uOnNlY3JldA=="}}
    assert (await bench.run(f"/1.0/images/{tiny}/push", wanted | login))["status"] == "Success"
    await bench.run("/1.0/images/none/push", wanted, 404)
    await bench.run(f"/1.0/images/{tiny}/push", {"reference": "UP"}, 400)
