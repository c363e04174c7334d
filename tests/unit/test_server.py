"""The server's configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from isola.errors import InvalidInput
from isola.server import Server
from isola.state import Collection, mapping_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore


def server(store: FakeStore) -> Server:
    return Server(Collection(store, "server configuration", "/server/", mapping_codec()), store.copy)


async def test_empty_at_first_and_kept_from_then_on() -> None:
    store = FakeStore(FakeClock())
    first = server(store)
    assert first.config == {} and first.revision == 0
    await first.update(lambda _: {"core.shutdown_timeout": "10", "user.x": "1", "user.y": ""})
    assert first.config == {"core.shutdown_timeout": "10", "user.x": "1"} and first.revision > 0
    records = Collection(store, "server configuration", "/server/", mapping_codec())
    await records.load()
    assert Server(records, store.copy).config == first.config
    await first.update(lambda _: {})
    assert first.config == {}


@pytest.mark.parametrize(("key", "value"), [("core.shutdown_timeout", "soon"), ("core.nope", "1"), ("user.x", "a\0b")])
async def test_wrong_keys_and_values_are_named(key: str, value: str) -> None:
    subject = server(FakeStore(FakeClock()))
    with pytest.raises(InvalidInput) as caught:
        await subject.update(lambda _: {"user.ok": "1", key: value})
    assert caught.value.field == f"config.{key}" and caught.value.remedy
    assert subject.config == {}


async def test_changes_at_once_are_made_one_after_another() -> None:
    subject = server(FakeStore(FakeClock()))

    def add(number: int) -> Callable[[Mapping[str, str]], Mapping[str, str]]:
        return lambda config: {**config, f"user.{number}": "1"}

    await asyncio.gather(*(subject.update(add(number)) for number in range(3)))
    assert subject.config == {f"user.{number}": "1" for number in range(3)}
