"""From an application's file and what runs to what has to be done."""

from __future__ import annotations

import pytest

from isola.compose.changes import Action, Existing, Kind, Recreation, Wanted, changes, instance_name, orphans
from isola.errors import InvalidInput


def _one(number: int, digest: str = "new", service: str = "web", *, running: bool = True) -> Existing:
    return Existing(f"shop-{service}-{number}", service, number, digest, running)


def _plan(replicas: int, *existing: Existing, how: Recreation = Recreation.CHANGED) -> list[tuple[str, int]]:
    found = changes("shop", [Wanted("web", "new", replicas)], existing, how)["web"]
    assert all(action.name == f"shop-web-{action.number}" for action in found)
    return [(action.kind.value, action.number) for action in found]


def test_a_new_application_is_created() -> None:
    assert _plan(2) == [("create", 1), ("create", 2)]


def test_what_is_as_wanted_is_left_alone() -> None:
    assert _plan(2, _one(1), _one(2)) == []
    assert _plan(1, _one(1, running=False)) == [("start", 1)]


def test_changed_ones_are_replaced() -> None:
    assert _plan(2, _one(1, "old"), _one(2)) == [("replace", 1)]
    assert _plan(1, _one(1, "old"), how=Recreation.NEVER) == []
    assert _plan(1, _one(1, "old", running=False), how=Recreation.NEVER) == [("start", 1)]
    assert _plan(1, _one(1), how=Recreation.ALWAYS) == [("replace", 1)]


def test_scaling() -> None:
    assert _plan(3, _one(2)) == [("create", 1), ("create", 3)]
    assert _plan(1, _one(1), _one(2), _one(3)) == [("remove", 3), ("remove", 2)]
    assert _plan(1, _one(1, "old"), _one(2)) == [("remove", 1)], "outdated ones go first"
    assert _plan(0, _one(1)) == [("remove", 1)]


def test_dependents_are_restarted_on_request() -> None:
    wanted = [Wanted("db", "new", 1), Wanted("web", "new", 1, restarts_with=frozenset({"db"})), Wanted("log", "new", 1)]
    existing = [_one(1, "old", "db"), _one(1), _one(1, service="log")]
    found = changes("shop", wanted, existing)
    assert list(found) == ["db", "web", "log"]
    assert found["db"] == [Action(Kind.REPLACE, "db", "shop-db-1", 1)]
    assert found["web"] == [Action(Kind.RESTART, "web", "shop-web-1", 1)]
    assert found["log"] == []


def test_fixed_names() -> None:
    fixed = Wanted("web", "new", 1, fixed_name="front")
    assert changes("shop", [fixed], [])["web"] == [Action(Kind.CREATE, "web", "front", 1)]
    with pytest.raises(InvalidInput, match="container_name"):
        changes("shop", [Wanted("web", "new", 2, fixed_name="front")], [])


def test_names_are_host_names() -> None:
    assert instance_name("my_app", "web.front", 2) == "my-app-web-front-2"
    with pytest.raises(InvalidInput, match="a_b"):
        changes("shop", [Wanted("a-b", "x", 1), Wanted("a_b", "x", 1)], [])


def test_services_that_the_file_lacks_are_orphans() -> None:
    existing = [_one(1), _one(1, service="old"), _one(2, service="old")]
    assert [one.name for one in orphans({"web": None}, existing)] == ["shop-old-1", "shop-old-2"]
    assert _plan(1, *existing) == []
