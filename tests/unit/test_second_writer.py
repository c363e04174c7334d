"""Two daemons with one database: each sees the writes of the other, and writes based on old revisions are refused.

This is tested for every collection: a new one fails the first test until it has samples here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from isola.daemon.records import Records
from isola.errors import AlreadyExists, NotFound, PreconditionFailed
from isola.host.clock import LinuxClock
from isola.model.build import BuildResult
from isola.model.certificate import Certificate
from isola.model.identity import IdRange
from isola.model.image import Alias, Image, ImageConfig
from isola.model.instance import Instance
from isola.model.login_token import LoginToken
from isola.model.network import Network
from isola.model.profile import Profile
from isola.model.project import Project
from isola.model.reference import Kind, Ref
from isola.model.repository import Repository, RepositoryBlob, RepositoryManifest, RepositoryTag
from isola.model.snapshot import InstanceSnapshot
from isola.model.storage import Pool
from isola.model.volume import VolumeRecord, VolumeSnapshot
from isola.model.warning import WarningRecord
from isola.state import Intent, Intents, Keyed, Store
from isola.state.drivers.sqlite import SqliteStore
from isola.state.follow import Follower
from isola.testing.store import FakeStore

NOW = datetime(2030, 1, 1, tzinfo=UTC)
WEB = Ref.default("web")
INSTANCE = Instance("0123456789abcdef", "web", "", IdRange(1 << 20), NOW)
IMAGE = Image("f" * 64, "sha256:" + "0" * 64, 1, "x86_64", NOW, NOW, (), ImageConfig())
VOLUME = VolumeRecord("v1", "default", "custom", "default", "data", NOW)
DIGEST = "sha256:" + "0" * 64
WARNING = WarningRecord("w1", "Lost", "low", "gone", Kind.INSTANCE, "default", ("web",), NOW, NOW)
CERTIFICATE = Certificate("c" * 64, "PEM", "laptop", created_at=NOW)


@dataclass(frozen=True)
class Sample:
    """Key and three successive values of a record."""

    name: Any
    values: tuple[Any, Any, Any]


def described(name: Any, record: Any, what: str = "description") -> Sample:
    return Sample(name, (record, replace(record, **{what: "second"}), replace(record, **{what: "third"})))


SAMPLES = {
    "server": Sample("config", ({"a": "1"}, {"a": "2"}, {"a": "3"})),
    "projects": described("blue", Project("blue")),
    "instances": described(WEB, INSTANCE),
    "profiles": described(WEB, Profile("web")),
    "images": described(WEB, IMAGE, "filename"),
    "aliases": described(WEB, Alias("web", "f" * 64)),
    "repositories": described(WEB, Repository("web", NOW), "name"),
    "repository_manifests": described(WEB, RepositoryManifest("web", DIGEST, "m", 1, NOW), "media_type"),
    "repository_tags": described(WEB, RepositoryTag("web", "1", DIGEST, NOW), "image"),
    "repository_blobs": described(WEB, RepositoryBlob("web", DIGEST, 1, NOW), "size"),
    "networks": described(WEB, Network("web")),
    "pools": described("fast", Pool("fast")),
    "volumes": described("default/custom/default/data", VOLUME),
    "volume_snapshots": described("v1/snap0", VolumeSnapshot("s1", "v1", "snap0", NOW)),
    "instance_snapshots": described(f"{INSTANCE.id}/snap0", InstanceSnapshot("s1", "snap0", NOW, INSTANCE), "id"),
    "certificates": described("c" * 64, CERTIFICATE),
    "login_tokens": described("ci", LoginToken("ci", "hash", NOW), "project"),
    "warnings": described("w1", WARNING, "message"),
    "build_results": described("k1", BuildResult("k1", NOW, NOW, "RUN true", None), "text"),
}
MEMBERS_OWN = {"intents", "references"}
"""Collections of each daemon itself, and derived ones."""


def test_every_collection_has_samples_here() -> None:
    assert {each.name for each in fields(Records)} == set(SAMPLES) | MEMBERS_OWN


@dataclass
class Daemons:
    """Two daemons; the first follows the state."""

    first: Records
    second: Records
    one_store: Store

    def both(self, noun: str) -> tuple[Keyed[Any, Any], Keyed[Any, Any]]:
        return getattr(self.first, noun), getattr(self.second, noun)


@pytest.fixture(params=["fake", "sqlite"])
async def daemons(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Daemons]:
    stores: list[Store] = [FakeStore(LinuxClock())]
    if request.param == "sqlite":
        stores = [SqliteStore(tmp_path, LinuxClock()) for _ in range(2)]
    for store in stores:
        await store.open()
    first, second = await Records.load(stores[0], "one"), await Records.load(stores[-1], "two")
    follower = Follower(stores[0], LinuxClock(), first.collections)
    follower.begin()
    yield Daemons(first, second, stores[0])
    await follower.end()
    for store in stores:
        await store.close()


async def seen(condition: Callable[[], bool]) -> None:
    """Wait until it is visible, within the time that the store guarantees."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it was not heard of")


def plain(record: Any) -> Any:
    """Without fields that are set on writing."""
    return replace(record, member="none") if hasattr(record, "member") else record


@pytest.mark.parametrize("noun", SAMPLES)
async def test_the_first_daemon_sees_writes_of_the_second(daemons: Daemons, noun: str) -> None:
    first, second = daemons.both(noun)
    sample = SAMPLES[noun]
    await second.add(sample.name, sample.values[0])
    await seen(lambda: sample.name in first)
    assert plain(first.get(sample.name)) == sample.values[0]
    assert first.read(sample.name) == second.read(sample.name)
    await second.put(sample.name, sample.values[1], at=second.revision(sample.name))
    await seen(lambda: first.read(sample.name) == second.read(sample.name))
    held = first.read(sample.name)
    await first.load()
    assert first.read(sample.name) == held, "the cache may be dropped"
    await second.remove(sample.name)
    await seen(lambda: sample.name not in first)


@pytest.mark.parametrize("noun", SAMPLES)
async def test_writes_based_on_an_old_revision_are_refused(daemons: Daemons, noun: str) -> None:
    first, second = daemons.both(noun)
    sample = SAMPLES[noun]
    held = await first.add(sample.name, sample.values[0])
    await second.load()
    theirs = await second.put(sample.name, sample.values[1], at=second.revision(sample.name))
    writes: list[Callable[[], Any]] = [
        lambda: first.put(sample.name, sample.values[2], at=held.revision),
        lambda: first.replace(sample.name, sample.values[2], at=held.revision),
        lambda: first.replace_all({sample.name: replace(held, value=sample.values[2])}),
    ]
    for write in writes:
        with pytest.raises(PreconditionFailed):
            await write()
        assert first.read(sample.name) == theirs, "it has been read again"
        assert plain((await stored(daemons, noun)).get(sample.name)) == sample.values[1]


async def stored(daemons: Daemons, noun: str) -> Keyed[Any, Any]:
    """Content of the store."""
    fresh: Keyed[Any, Any] = getattr(await Records.load(daemons.one_store), noun)
    return fresh


@pytest.mark.parametrize("noun", SAMPLES)
async def test_changes_are_decided_again_on_the_current_record(daemons: Daemons, noun: str) -> None:
    first, second = daemons.both(noun)
    sample = SAMPLES[noun]
    await first.add(sample.name, sample.values[0])
    await second.load()
    decided_on: list[Any] = []

    def decide(record: Any) -> Any:
        decided_on.append(plain(record))
        return sample.values[2]

    await second.put(sample.name, sample.values[1], at=second.revision(sample.name))
    # Before the first daemon is notified.
    await first.change(sample.name, decide)
    assert decided_on[-1] == sample.values[1]
    assert plain((await stored(daemons, noun)).get(sample.name)) == sample.values[2]


@pytest.mark.parametrize("noun", SAMPLES)
async def test_objects_added_or_removed_by_the_second_are_checked(daemons: Daemons, noun: str) -> None:
    first, second = daemons.both(noun)
    sample = SAMPLES[noun]
    await second.add(sample.name, sample.values[0])
    with pytest.raises(AlreadyExists):
        await first.add(sample.name, sample.values[1])
    await second.remove(sample.name)
    with pytest.raises(NotFound):
        await first.change(sample.name, lambda record: sample.values[2])
    await second.add(sample.name, sample.values[0])
    await seen(lambda: sample.name in first)
    await second.put(sample.name, sample.values[1], at=second.revision(sample.name))
    asked: list[Any] = []
    await first.remove(sample.name, lambda record: asked.append(plain(record)))
    assert asked[-1] == sample.values[1], "removal is decided on the current record"
    await second.load()
    assert sample.name not in second


async def test_both_write_at_once_and_agree_in_the_end(daemons: Daemons) -> None:
    first, second = daemons.first.profiles, daemons.second.profiles
    await first.add(WEB, Profile("web", description="0"))
    await second.load()

    def more(record: Profile) -> Profile:
        return replace(record, description=str(int(record.description) + 1))

    async def count(records: Keyed[Ref, Profile]) -> int:
        done = 0
        for _ in range(30):
            try:
                await records.change(WEB, more)
                done += 1
            except PreconditionFailed:
                await asyncio.sleep(0.001)
        return done

    done = sum(await asyncio.gather(count(first), count(second)))
    await second.load()
    assert second.get(WEB).description == str(done) and done > 30
    await seen(lambda: first.get(WEB).description == str(done))


async def test_a_watcher_that_lags_too_far_reads_everything_again(daemons: Daemons) -> None:
    daemons.one_store.changes_kept = 5
    for number in range(200):
        await daemons.second.pools.add(f"p{number}", Pool(f"p{number}"))
    await seen(lambda: len(daemons.first.pools) == 200)


async def test_a_member_undoes_only_its_own_intents(daemons: Daemons) -> None:
    begun = Intents(daemons.one_store, "one")
    await begun.begin(Intent("a", "instance"))
    await Intents(daemons.one_store, "two").begin(Intent("b", "instance"))
    again = Intents(daemons.one_store, "one")
    await again.load()
    assert [intent.id for intent in again.of_kind("instance")] == ["a"]
    await again.end("a", "b")
    other = Intents(daemons.one_store, "two")
    await other.load()
    assert [intent.id for intent in other.of_kind("instance")] == ["b"]


@pytest.mark.parametrize("noun", ["instances", "volumes"])
async def test_records_name_their_member(daemons: Daemons, noun: str) -> None:
    first, second = daemons.both(noun)
    sample = SAMPLES[noun]
    written = await first.add(sample.name, sample.values[0])
    assert written.value.member == first.get(sample.name).member == "one"
    await second.load()
    await second.change(sample.name, lambda record: replace(record, description="from elsewhere"))
    assert second.get(sample.name).member == "one", "a change by another member does not move the object"
