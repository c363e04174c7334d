"""The schema of the records: a database of 0.1 is upgraded in one commit or not at all."""

from __future__ import annotations

import pytest

from isola.errors import PreconditionFailed, SuspectState
from isola.model.reference import Ref
from isola.state import Delete, Put
from isola.state.schema import KEY, PRESENT, upgrade
from isola.state.store import Check, Step
from isola.testing.clock import FakeClock
from isola.testing.parts import World
from isola.testing.store import FakeStore

SCOPED = ("instances", "profiles", "networks", "images", "aliases")


async def as_before(store: FakeStore) -> None:
    """Convert the records to the schema of 0.1: names without a project, and no projects."""
    steps: list[Put | Delete | Check] = [Delete(KEY), Delete("/projects/default")]
    for noun in SCOPED:
        for entry in await store.range(f"/{noun}/"):
            name = entry.key.removeprefix(f"/{noun}/default/")
            steps += [Delete(entry.key), Put(f"/{noun}/{name}", entry.value.replace(b'"project":"default",', b""))]
    await store.commit(*steps)


async def test_records_of_an_older_daemon_are_upgraded() -> None:
    world = World()
    await world.start()
    fingerprint = await world.import_image("tiny/with/slashes")
    web = await world.create("web1", start=True, image="tiny/with/slashes")
    before = {noun: len(await world.store.range(f"/{noun}/")) for noun in SCOPED}
    await world.parts.close()
    await as_before(world.store)
    assert await world.store.get("/instances/web1") is not None
    parts = await world.start()
    services = parts.services
    assert services.instances.get(Ref.default("web1")) == web
    assert services.instances.status(web).value == "Running"
    assert services.images.alias(Ref.default("tiny/with/slashes")).target == fingerprint
    assert services.profiles.used_by(Ref.default("default")) == [web.entity]
    assert [network.ref for network in services.networks] == [Ref.default("isolabr0")]
    assert [project.name for project in services.projects] == ["default"]
    assert before == {noun: len(await world.store.range(f"/{noun}/default/")) for noun in SCOPED}
    assert before == {noun: len(await world.store.range(f"/{noun}/")) for noun in SCOPED}
    await world.finish(services.instances.delete(web.ref, force=True))
    world.forget()


async def test_nothing_is_repeated() -> None:
    store = FakeStore(FakeClock())
    await store.put("/aliases/debian/12", b"{}")
    await upgrade(store)
    first = await store.range("/")
    await upgrade(store)
    assert await store.range("/") == first
    assert [entry.key for entry in first] == ["/aliases/default/debian/12", "/projects/default", KEY]


class Racing(FakeStore):
    """Another daemon writes between reading and committing."""

    async def commit(self, *steps: Step) -> int:
        if any(isinstance(step, Put) and step.key == KEY for step in steps):
            await super().commit(Put("/instances/web1", b"other"))
        return await super().commit(*steps)


async def test_concurrent_changes_abort_the_upgrade() -> None:
    store = Racing(FakeClock())
    await store.put("/instances/web1", b"{}")
    with pytest.raises(PreconditionFailed):
        await upgrade(store)
    assert [entry.key for entry in await store.range("/")] == ["/instances/web1"]


async def test_records_of_a_newer_daemon_are_left_alone() -> None:
    store = FakeStore(FakeClock())
    await store.put(KEY, b'{"version": %d}' % (PRESENT + 1))
    with pytest.raises(SuspectState, match="schema version"):
        await upgrade(store)
