"""The server's configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest

from isola.errors import InvalidInput
from isola.passwords import hashed, matches
from isola.server import Server
from isola.state import Collection, mapping_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore


def server(store: FakeStore) -> Server:
    return Server(Collection(store, "server configuration", "/server/", mapping_codec()), store.copy, lambda: "ab" * 16)


async def test_empty_at_first_and_kept_from_then_on() -> None:
    store = FakeStore(FakeClock())
    first = server(store)
    assert first.config == {} and first.revision == 0
    await first.update(lambda _: {"core.shutdown_timeout": "10", "user.x": "1", "user.y": ""})
    assert first.config == {"core.shutdown_timeout": "10", "user.x": "1"} and first.revision > 0
    records = Collection(store, "server configuration", "/server/", mapping_codec())
    await records.load()
    assert Server(records, store.copy, str).config == first.config
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


# --- the trust password ---------------------------------------------------------------------------------------------

KEY = "core.trust_password"


async def test_the_trust_password_is_stored_hashed_and_never_shown() -> None:
    subject = server(FakeStore(FakeClock()))
    await subject.update(lambda _: {KEY: "correct horse", "user.x": "1"})
    stored = subject.config[KEY]
    assert "correct" not in stored and matches(stored, "correct horse") and not matches(stored, "correct hors")
    assert subject.shown == {KEY: "true", "user.x": "1"}
    await subject.update(lambda _: {**subject.shown, "user.x": "2"})
    assert subject.config == {KEY: stored, "user.x": "2"}, "sending back the displayed value changes nothing"
    await subject.update(lambda config: {**config, KEY: "battery staple"})
    assert matches(subject.config[KEY], "battery staple") and not matches(subject.config[KEY], "correct horse")
    await subject.update(lambda _: {})
    assert subject.shown == {}


@pytest.mark.parametrize("password", ["true", "short", "x" * 1025])
async def test_invalid_passwords_are_refused(password: str) -> None:
    subject = server(FakeStore(FakeClock()))
    with pytest.raises(InvalidInput) as caught:
        await subject.update(lambda _: {KEY: password})
    assert caught.value.field == f"config.{KEY}" and password not in str(caught.value)


@pytest.mark.parametrize("stored", ["", "x", "scrypt$9$zz$00", "md5$1$00$00", "scrypt$99999999$00$00", "scrypt$$$"])
def test_malformed_hashes_match_no_password(stored: str) -> None:
    assert not matches(stored, stored) and not matches(stored, "")


def test_equal_passwords_differ_by_their_salt() -> None:
    one, other = hashed("correct horse", "00" * 16), hashed("correct horse", "01" * 16)
    assert one != other and matches(one, "correct horse") and matches(other, "correct horse")
