"""The server's configuration."""

from __future__ import annotations

import asyncio

import pytest

from isola.errors import InvalidInput, PreconditionFailed
from isola.server import Server
from isola.state import Collection, mapping_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore


def server(store: FakeStore) -> Server:
    return Server(Collection(store, "server configuration", "/server/", mapping_codec()))


async def test_empty_at_first_and_kept_from_then_on() -> None:
    store = FakeStore(FakeClock())
    first = server(store)
    assert first.config == {} and first.revision == 0
    await first.replace({"core.shutdown_timeout": "10", "user.x": "1", "user.y": ""})
    assert first.config == {"core.shutdown_timeout": "10", "user.x": "1"} and first.revision > 0
    records = Collection(store, "server configuration", "/server/", mapping_codec())
    await records.load()
    assert Server(records).config == first.config
    await first.replace({})
    assert first.config == {}


@pytest.mark.parametrize(("key", "value"), [("core.shutdown_timeout", "soon"), ("core.nope", "1"), ("user.x", "a\0b")])
async def test_wrong_keys_and_values_are_named(key: str, value: str) -> None:
    subject = server(FakeStore(FakeClock()))
    with pytest.raises(InvalidInput) as caught:
        await subject.replace({"user.ok": "1", key: value})
    assert caught.value.field == f"config.{key}" and caught.value.remedy
    assert subject.config == {}


async def test_who_read_an_older_configuration_is_told() -> None:
    subject = server(FakeStore(FakeClock()))
    await subject.replace({"user.x": "1"})
    old = subject.revision
    await subject.replace({"user.x": "2"}, revision=old)
    with pytest.raises(PreconditionFailed):
        await subject.replace({"user.x": "3"}, revision=old)
    assert subject.config == {"user.x": "2"}


async def test_of_two_at_once_with_one_revision_one_wins() -> None:
    subject = server(FakeStore(FakeClock()))
    await subject.replace({"user.x": "0"})
    writes = [subject.replace({"user.x": str(number)}, revision=subject.revision) for number in range(1, 4)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), PreconditionFailed, PreconditionFailed]
    assert subject.config == {"user.x": "1"}
