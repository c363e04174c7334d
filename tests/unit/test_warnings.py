"""Warnings: one record for each thing and type, however often it occurs; written in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from strike import end_tasks

from isola.errors import HostFailure, InvalidInput, NotFound
from isola.events import Events
from isola.model.event import EventKind, Lifecycle
from isola.model.reference import Entity, Kind, Ref
from isola.model.warning import WarningRecord, WarningStatus, WarningType
from isola.state import Collection, record_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore
from isola.warnings import Warnings
from isola.warnings.warnings import _MOST

WEB = Entity.of(Kind.INSTANCE, Ref.default("web1"))
POOL = Entity.of_host(Kind.STORAGE_POOL, "fast")
BROKEN = WarningType.INSTANCE_BROKEN


class FullStore(FakeStore):
    """Refuses writes while it is ``full``."""

    full = False

    async def commit(self, *steps: object) -> int:
        if self.full:
            raise HostFailure("No space left")
        return await super().commit(*steps)  # type: ignore[arg-type]


class House:
    def __init__(self) -> None:
        self.clock = FakeClock()
        self.store = FullStore(self.clock)
        self.records = Collection(self.store, "warning", "/warnings/", record_codec(WarningRecord))
        self.events = Events(self.clock.now)
        self.warnings = Warnings(self.records, self.events, self.clock)

    async def report(self, message: str, entity: Entity = WEB) -> WarningRecord:
        self.warnings.report(BROKEN, entity, message)
        await self.warnings.settled()
        return next(each for each in self.warnings if each.entity == entity)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    yield House()
    await end_tasks()


async def test_recurring_warnings_are_counted_with_the_latest_message(house: House) -> None:
    first = await house.report("one")
    assert (first.count, first.status, first.severity) == (1, "new", "moderate")
    await house.clock.advance(60)
    again = await house.report("two")
    assert (again.id, again.count, again.message) == (first.id, 2, "two")
    assert again.last_seen_at - again.first_seen_at == timedelta(seconds=60)
    await house.report("other", POOL)
    assert len(list(house.warnings)) == 2


async def test_acknowledged_warnings_stay_so_and_resolved_ones_recur_as_new(house: House) -> None:
    made = await house.report("one")
    await house.warnings.mark(made.id, "acknowledged")
    assert (await house.report("two")).status is WarningStatus.ACKNOWLEDGED
    house.warnings.resolve(BROKEN, WEB)
    await house.warnings.settled()
    assert house.warnings.get(made.id).status is WarningStatus.RESOLVED
    assert (await house.report("three")).status is WarningStatus.NEW


async def test_resolving_an_unknown_warning_writes_nothing(house: House) -> None:
    house.warnings.resolve(BROKEN, WEB)
    await house.warnings.settled()
    assert not list(house.warnings) and house.store._revision == 0


async def test_failed_writes_of_warnings_are_retried(house: House) -> None:
    house.store.full = True
    house.warnings.report(BROKEN, WEB, "one")
    await house.clock.advance(5)
    assert not list(house.warnings)
    house.store.full = False
    house.warnings.report(BROKEN, WEB, "two")
    await house.clock.advance(60)
    assert [each.message for each in house.warnings] == ["two"]


async def test_old_warnings_are_deleted_and_their_number_is_limited(house: House) -> None:
    for number in range(_MOST + 5):
        house.warnings.report(BROKEN, Entity.of(Kind.INSTANCE, Ref.default(f"w{number}")), "x")
    await house.warnings.settled()
    assert len(list(house.warnings)) == _MOST
    await house.warnings.forget(next(iter(house.warnings)).entity)
    assert len(list(house.warnings)) == _MOST - 1
    kept = await house.report("one")
    house.warnings.resolve(BROKEN, WEB)
    await house.clock.advance(2 * 86_400)
    await house.report("other", POOL)
    with pytest.raises(NotFound):
        house.warnings.get(kept.id)


async def test_changes_of_warnings_publish_events(house: House) -> None:
    followed = house.events.follow({EventKind.LIFECYCLE})
    made = await house.report("one")
    await house.warnings.mark(made.id, "acknowledged")
    await house.warnings.mark(made.id, "new")
    with pytest.raises(InvalidInput):
        await house.warnings.mark(made.id, "resolved")
    await house.warnings.delete(made.id)
    with pytest.raises(NotFound):
        await house.warnings.delete(made.id)
    house.events.close()
    told = [event.content async for event in followed]
    source = Entity.of_host(Kind.WARNING, made.id)
    assert told == [Lifecycle(f"warning-{verb}", source) for verb in ("acknowledged", "reset", "deleted")]


def test_every_type_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs/reference/warnings.md").read_text()
    for type in WarningType:
        assert f"| {type.text} | {type.severity} |" in page
