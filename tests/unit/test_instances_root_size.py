"""Sizes of roots from Isola 0.1, which accepted and ignored them, in pools that cannot limit volumes."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import ClassVar

import pytest
from instance_updates import update
from instance_verbs import ROOT
from memory_audit import differences, settle

from isola.daemon.build import Drivers
from isola.errors import Unsupported
from isola.model.instance import Instance
from isola.model.profile import Profile
from isola.model.reference import Ref
from isola.model.warning import WarningStatus, WarningType
from isola.storage.capabilities import Feature
from isola.testing.parts import World
from isola.testing.storage import FakeStorage

WEB = Ref.default("web1")
LIMITED = {"root": ROOT | {"size": "1GiB"}}


class Switched(FakeStorage):
    able: ClassVar[bool] = False
    """Whether its pools limit volumes."""

    async def why_not(self, feature: Feature) -> str:
        return "" if feature is Feature.QUOTA and self.able else await super().why_not(feature)


@pytest.fixture
async def old() -> AsyncIterator[World]:
    """A world with an instance that runs, and has a size in its record that was never applied."""
    Switched.able = False
    world = World(more=Drivers(storage={"overlay": Switched}))
    await world.start()
    await world.import_image()
    await world.create("web1", start=True)
    await world.context.records.change(WEB, lambda web: dataclasses.replace(web, devices=LIMITED))
    await again(world)
    yield world
    world.forget()


async def again(world: World) -> None:
    await world.parts.close()
    await world.start()
    await settle(world)


def web(world: World) -> Instance:
    return world.parts.services.instances.get(WEB)


def warned(world: World) -> str:
    """The warning that is not resolved."""
    found = [
        each.message
        for each in world.parts.services.warnings
        if each.type == WarningType.ROOT_UNLIMITED.text and each.status is not WarningStatus.RESOLVED
    ]
    return found[0] if found else ""


async def test_it_hinders_nothing_and_is_said(old: World) -> None:
    assert "not limited to 1073741824 bytes" in warned(old) and "'default'" in warned(old)
    await update(old, config={"user.a": "b"}, devices=LIMITED)
    assert (web(old).config["user.a"], web(old).volatile.get("root.size")) == ("b", None)
    instances = old.parts.services.instances
    await old.finish(instances.snapshots.create(WEB, "s1"))
    await old.finish(instances.snapshots.restore(WEB, "s1"))
    await old.finish(instances.restart(WEB, force=True))
    assert web(old).volatile.get("root.size") is None and warned(old)
    with pytest.raises(Unsupported, match="does not offer limits") as caught:
        await update(old, devices={"root": ROOT | {"size": "2GiB"}})
    assert "use a btrfs pool" in caught.value.evidence
    await update(old, devices={"root": ROOT})
    await settle(old)
    assert not warned(old) and not await differences(old)


async def test_it_is_applied_once_the_pool_can(old: World) -> None:
    Switched.able = True
    await again(old)
    assert (web(old).volatile["root.size"], warned(old)) == (str(1 << 30), "")
    Switched.able = False
    await again(old)
    assert not warned(old) and not await differences(old)


async def test_one_in_a_profile_hinders_no_other_change_of_it(old: World) -> None:
    await update(old)
    name = Ref.default("default")
    await old.parts.records.profiles.change(name, lambda found: dataclasses.replace(found, devices=LIMITED))
    await again(old)
    profiles = old.parts.services.profiles
    assert warned(old)
    await profiles.update(name, lambda found: dataclasses.replace(found, description="new"))
    assert (profiles.get(name).description, web(old).volatile.get("root.size")) == ("new", None)
    with pytest.raises(Unsupported):
        await profiles.update(name, lambda found: Profile(found.name, "", {}, {"root": ROOT | {"size": "2GiB"}}))
    assert profiles.get(name).devices == LIMITED and not await differences(old)


class WithDefault(Switched):
    """The default of its pools, for roots without a size."""

    default: ClassVar[int | None] = None

    async def default_size(self) -> int | None:
        return self.default


@pytest.fixture
async def pooled() -> AsyncIterator[World]:
    """A world with the instance ``web1``, from before its pool had a default size."""
    WithDefault.able, WithDefault.default = True, None
    world = World(more=Drivers(storage={"overlay": WithDefault}))
    await world.start()
    await world.import_image()
    await world.create("web1", start=True)
    WithDefault.default = 1 << 30
    yield world
    world.forget()


def limit(world: World, name: str) -> int | None:
    instance = world.parts.services.instances.get(Ref.default(name))
    return world.context.volume(instance).size


async def test_a_new_root_gets_the_default_of_its_pool_and_keeps_it(pooled: World) -> None:
    await pooled.create("db1", start=True)
    assert limit(pooled, "db1") == 1 << 30
    WithDefault.default = 5 << 30
    await update(pooled, config={"user.a": "b"}, name="db1")
    instances = pooled.parts.services.instances
    await pooled.finish(instances.snapshots.create(Ref.default("db1"), "s1"))
    await pooled.finish(instances.snapshots.restore(Ref.default("db1"), "s1"))
    assert limit(pooled, "db1") == 1 << 30 and not await differences(pooled)


async def test_a_size_of_its_own_goes_before_the_default(pooled: World) -> None:
    await pooled.create("db1", devices={"root": ROOT | {"size": "2GiB"}})
    assert limit(pooled, "db1") == 2 << 30
    await update(pooled, devices={"root": ROOT | {"size": "3GiB"}}, name="db1")
    assert limit(pooled, "db1") == 3 << 30
    await update(pooled, devices={"root": ROOT}, name="db1")
    assert limit(pooled, "db1") == 1 << 30 and not await differences(pooled)


async def test_roots_from_before_stay_without_a_limit(pooled: World) -> None:
    await update(pooled, config={"user.a": "b"})
    await again(pooled)
    assert limit(pooled, "web1") is None and not await differences(pooled)
