"""A concurrent change at every ``await`` of a verb is neither lost nor reported with a wrong ETag."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from interleaving import Interleaver

from isola.daemon.doors import open_doors
from isola.doors.rest.answers import tag_of
from isola.model.storage import Volume
from isola.state import Step
from isola.testing.parts import World
from isola.testing.store import FakeStore

KEY, OTHER = "user.ours", "user.theirs"


class PausingStore(FakeStore):
    """Commits take a moment, as on a disk."""

    async def commit(self, *steps: Step) -> int:
        await asyncio.sleep(0)
        revision = await super().commit(*steps)
        await asyncio.sleep(0)
        return revision


@dataclass
class Client:
    """A client of a daemon in memory."""

    world: World
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None, tag: str = "") -> tuple[int, Any, str]:
        """Status, metadata and ETag; operations are waited for."""
        headers = {"If-Match": tag} if tag else {}
        async with self.session.request(method, f"http://isola{path}", json=body, headers=headers) as answer:
            status, told = answer.status, await answer.json()
        if status == 202:
            operation = (await self.ask("GET", f"{told['operation']}/wait"))[1]
            return (200 if operation["status_code"] == 200 else 400), operation, ""
        return status, told["metadata"], answer.headers.get("ETag", "")


@dataclass(frozen=True)
class Noun:
    """An object that several clients change, and the path of its free keys."""

    path: str
    holder: str = "config"
    writable: tuple[str, ...] = ("config", "description")
    listed: str = ""

    def change(self, key: str) -> dict[str, object]:
        return {self.holder: {key: "1"}}


NOUNS = {
    "instance": Noun(
        "/1.0/instances/web1", "config", ("architecture", "config", "devices", "ephemeral", "profiles", "description")
    ),
    "profile": Noun("/1.0/profiles/default", writable=("config", "description", "devices")),
    "network": Noun("/1.0/networks/isolabr0"),
    "pool": Noun("/1.0/storage-pools/default"),
    "image": Noun(
        "/1.0/images/{image}", "properties", ("auto_update", "expires_at", "profiles", "properties", "public")
    ),
    "server": Noun("/1.0", writable=("config",)),
}


@pytest.fixture
def interleaver() -> Interleaver:
    return Interleaver()


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    world = World()
    world.store = PausingStore(world.host.clock)
    await world.start()
    await world.import_image()
    await world.create("web1", start=True)
    storage = world.parts.services.pools.driver("default")
    usage = storage.usage

    async def slow_usage(volume: Volume, snapshot: str | None = None) -> int:
        await asyncio.sleep(0)
        return await usage(volume, snapshot)

    storage.usage = slow_usage  # type: ignore[method-assign]
    doors = await open_doors(world.parts.services, tmp_path)
    connector = aiohttp.UnixConnector(str(tmp_path / "unix.socket"), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(world, session)
    await doors.close()
    world.forget()


@pytest.fixture(params=NOUNS)
def noun(request: pytest.FixtureRequest, client: Client) -> Noun:
    found = NOUNS[request.param]
    (image,) = client.world.parts.services.images
    return Noun(found.path.format(image=image.fingerprint), found.holder, found.writable)


async def at_every_await(
    client: Client,
    interleaver: Interleaver,
    noun: Noun,
    work: Callable[[], Awaitable[Any]],
    check: Callable[[Any], Awaitable[None]],
) -> int:
    """Repeat it, each time with the other change one ``await`` later, until there is none left."""
    for at in interleaver.suspensions():
        assert (await client.ask("PATCH", noun.path, {noun.holder: {KEY: "", OTHER: ""}}))[0] == 200

        async def other() -> bool:
            status, told, _ = await client.ask("PATCH", noun.path, noun.change(OTHER))
            assert status == 200, told
            return True

        found = await interleaver.run(work(), other, at)
        await check(found)
        shown = (await client.ask("GET", noun.path))[1]
        assert not interleaver.acknowledged or shown[noun.holder].get(OTHER) == "1", f"lost at await {at}"
    return at - 1


READS = {"itself": "", "in full": "?recursion=1"}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_a_response_and_its_etag_are_of_one_revision(
    client: Client, interleaver: Interleaver, noun: Noun, read: str
) -> None:
    async def check(told: tuple[int, Any, str]) -> None:
        status, shown, tag = told
        assert status == 200 and tag == tag_of(_writable(noun, shown)), "the ETag is of another revision"
        again = (await client.ask("GET", noun.path + read))[1]
        assert not interleaver.acknowledged or again[noun.holder].get(OTHER) == "1", "the response is outdated"

    points = await at_every_await(client, interleaver, noun, lambda: client.ask("GET", noun.path + read), check)
    assert points >= 3


@pytest.mark.parametrize("recursion", [1, 2])
async def test_lists_are_never_outdated(client: Client, interleaver: Interleaver, recursion: int) -> None:
    noun = NOUNS["instance"]

    async def check(told: tuple[int, Any, str]) -> None:
        assert told[0] == 200
        for path in (f"/1.0/instances?recursion={recursion}", "/1.0/instances?recursion=1"):
            (again,) = (await client.ask("GET", path))[1]
            assert not interleaver.acknowledged or again["config"].get(OTHER) == "1", "the response is outdated"

    await at_every_await(
        client, interleaver, noun, lambda: client.ask("GET", f"/1.0/instances?recursion={recursion}"), check
    )


async def test_two_partial_changes_at_once_are_both_kept(client: Client, interleaver: Interleaver, noun: Noun) -> None:
    async def check(told: tuple[int, Any, str]) -> None:
        shown = (await client.ask("GET", noun.path))[1]
        assert told[0] == 200 and shown[noun.holder].get(KEY) == "1", (told, shown)

    await at_every_await(client, interleaver, noun, lambda: client.ask("PATCH", noun.path, noun.change(KEY)), check)


async def test_a_put_with_an_old_etag_replaces_nothing(client: Client, interleaver: Interleaver, noun: Noun) -> None:
    async def replace() -> tuple[int, Any, str]:
        _, shown, tag = await client.ask("GET", noun.path + "?recursion=1")
        wanted = _writable(noun, shown)
        wanted[noun.holder] = {**wanted[noun.holder], KEY: "1"}
        return await client.ask("PUT", noun.path, wanted, tag)

    async def check(told: tuple[int, Any, str]) -> None:
        shown = (await client.ask("GET", noun.path))[1]
        assert (told[0] == 200) is (shown[noun.holder].get(KEY) == "1"), (told, shown)

    await at_every_await(client, interleaver, noun, replace, check)


async def test_a_rename_or_deletion_while_states_are_read(client: Client, interleaver: Interleaver) -> None:
    await client.world.create("old")
    names = {"old", "new"}
    for at in interleaver.suspensions():
        present = "old" if at % 2 else "new"
        (absent,) = names - {present}

        async def other(present: str = present, absent: str = absent) -> None:
            assert (await client.ask("POST", f"/1.0/instances/{present}", {"name": absent}))[0] == 200

        status, shown, _ = await interleaver.run(client.ask("GET", "/1.0/instances?recursion=2"), other, at)
        assert status == 200 and {one["name"] for one in shown} <= {"web1", "old", "new"} and len(shown) == 2
    await client.ask("DELETE", f"/1.0/instances/{present}")


def _writable(noun: Noun, shown: Any) -> dict[str, Any]:
    return {name: shown[name] for name in noun.writable if name in shown}
