"""Login tokens of the registry, and the bearer tokens that are given for them."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest

from isola.access.bearer import ACTIONS, Bearer, opened, permitted, sealed
from isola.certificates import LoginTokens
from isola.errors import AlreadyExists, Forbidden, InvalidInput, NotFound
from isola.events import Events
from isola.model.caller import Caller, Credential
from isola.model.login_token import LoginToken
from isola.state import Collection, record_codec
from isola.testing.clock import FakeClock
from isola.testing.store import FakeStore

KEY = b"k" * 32


class Stand:
    def __init__(self) -> None:
        self.clock = FakeClock()
        store = FakeStore(self.clock)
        self.records = Collection(store, "login token", "/login-tokens/", record_codec(LoginToken))
        self.tokens = LoginTokens(self.records, Events(self.clock.now), self.clock, {"default", "blue"}.__contains__)


async def test_the_secret_is_checked_and_not_kept() -> None:
    stand = Stand()
    token, secret = await stand.tokens.create("ci")
    assert secret not in str(dataclasses.asdict(token))
    assert await stand.tokens.check("ci", secret, "a") == token
    for name, wrong in (("ci", secret[:-1]), ("ci", ""), ("other", secret), ("ci", "x" * 5000)):
        with pytest.raises(Forbidden):
            await stand.tokens.check(name, wrong, "b")
    assert await stand.tokens.check("ci", secret, "a") == token


async def test_wrong_secrets_are_limited() -> None:
    stand = Stand()
    _, secret = await stand.tokens.create("ci")
    for _ in range(5):
        with pytest.raises(Forbidden):
            await stand.tokens.check("ci", "wrong", "a")
    with pytest.raises(Forbidden, match="Too many"):
        await stand.tokens.check("ci", secret, "a")
    await stand.tokens.check("ci", secret, "b")
    await stand.clock.advance(60)
    await stand.tokens.check("ci", secret, "a")


async def test_expired_and_removed_tokens_are_refused() -> None:
    stand = Stand()
    end = stand.clock.now() + timedelta(days=1)
    token, secret = await stand.tokens.create("ci", expires_at=end)
    await stand.tokens.check("ci", secret, "a")
    await stand.clock.advance(86401)
    assert stand.tokens.current("ci", token.id) is None
    with pytest.raises(Forbidden):
        await stand.tokens.check("ci", secret, "a")
    await stand.tokens.remove("ci")
    with pytest.raises(NotFound):
        await stand.tokens.remove("ci")
    again, _ = await stand.tokens.create("ci")
    assert stand.tokens.current("ci", token.id) is None and stand.tokens.current("ci", again.id) == again
    with pytest.raises(Forbidden):
        await stand.tokens.check("ci", secret, "a")


async def test_impossible_tokens_are_refused() -> None:
    stand = Stand()
    await stand.tokens.create("ci")
    with pytest.raises(AlreadyExists):
        await stand.tokens.create("ci")
    for name in ("", "a:b", "a/b", "x" * 64):
        with pytest.raises(InvalidInput):
            await stand.tokens.create(name)
    with pytest.raises(InvalidInput):
        await stand.tokens.create("red", project="red")
    with pytest.raises(InvalidInput):
        await stand.tokens.create("old", expires_at=stand.clock.now())


async def test_tokens_follow_their_project() -> None:
    stand = Stand()
    _, secret = await stand.tokens.create("ci", project="blue")
    await stand.tokens.project_gone("blue", "green")
    token = await stand.tokens.check("ci", secret, "a")
    assert stand.tokens.caller(token, "a").projects == frozenset({"green"})
    await stand.tokens.project_gone("green", "")
    assert list(stand.tokens) == []


async def test_the_caller_of_a_token_is_no_administrator() -> None:
    stand = Stand()
    token, _ = await stand.tokens.create("ci", read_only=True)
    caller = stand.tokens.caller(token, "a")
    assert not caller.admin and caller.credential is Credential.LOGIN_TOKEN
    assert permitted(caller, "default") == ("pull",)
    token, _ = await stand.tokens.create("cd", project="blue")
    caller = stand.tokens.caller(token, "a")
    assert permitted(caller, "default") == () and permitted(caller, "blue") == ACTIONS
    assert permitted(Caller(Credential.NONE, trusted=False), "default") == ()


def test_bearer_tokens_cannot_be_forged() -> None:
    bearer = Bearer("token:ci:1", 100.0, {"team/app": ("pull",)})
    text = sealed(bearer, KEY)
    assert opened(text, KEY, 99.0) == bearer
    assert opened(text, KEY, 100.0) is None
    assert opened(text, b"x" * 32, 1.0) is None
    data, _, signature = text.partition(".")
    other = sealed(Bearer("token:root:1", 100.0, {"team/app": ("pull", "push")}), b"x" * 32)
    for forged in ("", ".", "a.b", data, f"{other.partition('.')[0]}.{signature}", text + "A", "é.é", "x" * 20_000):
        assert opened(forged, KEY, 1.0) is None
    assert bearer.allows("team/app", "pull")
    assert not bearer.allows("team/app", "push") and not bearer.allows("other", "pull")
