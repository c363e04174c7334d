"""All responses have the documented fields and types, at all levels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from documented import EVENT, LIFECYCLE, OPERATION, TABLES, VOLUME_SNAPSHOT, below, deviations, recursive
from https_peer import der_of, pair
from rest_door import Stand, standing

from isola.doors.rest.shapes.resources import resources_json
from isola.host.system import LinuxSystem
from isola.model.reference import Entity, Kind, Ref
from isola.model.warning import WarningType

_VOLUMES = "/1.0/storage-pools/default/volumes/custom"
_WALKED = {path: table for path, table in TABLES.items() if path != "/1.0/resources"}


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    """One of everything."""
    async with standing() as stand:
        await stand.create("web1", start=True)
        await stand.finish("POST", "/1.0/instances/web1/snapshots", {"name": "s1"})
        await stand.ask("POST", _VOLUMES, {"name": "data"})
        await stand.finish("POST", f"{_VOLUMES}/data/snapshots", {"name": "s1"})
        await stand.ask("POST", "/1.0/certificates", {"type": "client", "certificate": der_of(pair())})
        (image,) = await stand.get("/1.0/images?recursion=1")
        await stand.ask("POST", "/1.0/images/aliases", {"name": "other", "target": image["fingerprint"]})
        web1 = Entity.of(Kind.INSTANCE, Ref.default("web1"))
        stand.services.warnings.report(WarningType.AUTOSTART_FAILURE, web1, "about it")
        await stand.services.warnings.settled()
        yield stand


@pytest.mark.parametrize(("path", "table"), list((_WALKED | below("web1", "isolabr0", "data")).items()))
async def test_the_fields_of_an_answer(stand: Stand, path: str, table: Any) -> None:
    shown = await stand.get(recursive(path))
    assert shown, "nothing to compare"
    assert not set(deviations(shown, table, path))


@pytest.mark.parametrize(
    "path", [path for path, table in _WALKED.items() if isinstance(table, list) and "?" not in path]
)
async def test_each_of_a_list_is_as_in_the_list(stand: Stand, path: str) -> None:
    paths = await stand.get(path)
    assert paths
    for each in paths:
        table = VOLUME_SNAPSHOT if "/snapshots/" in each else TABLES[path][0]
        assert not set(deviations(await stand.get(each), table, each))


def test_the_resources_of_this_host() -> None:
    system = LinuxSystem()
    shown = resources_json(system.kernel(), system.cpus(), system.memory(), system.devices())
    assert not set(deviations(shown, TABLES["/1.0/resources"]))


async def test_the_fields_of_events(stand: Stand) -> None:
    async with stand.session.ws_connect("http://isola/1.0/events?type=operation,lifecycle") as events:
        await stand.finish("PUT", "/1.0/instances/web1/state", {"action": "freeze"})
        heard: dict[str, Any] = {}
        while len(heard) < 2:
            event = await events.receive_json(timeout=60)
            heard[event["type"]] = event["metadata"]
            assert not set(deviations(event, EVENT))
    assert not set(deviations(heard["operation"], OPERATION))
    assert not set(deviations(heard["lifecycle"], LIFECYCLE))


@pytest.mark.parametrize(
    ("value", "table", "expected"),
    [
        ({"a": 1}, {"a": str}, [".a: 1 is no str"]),
        ({}, {"a": str}, [".a is missing"]),
        ({"a": True}, {"a": int}, [".a: True is no int"]),
        ({"x": [{"a": None}]}, {"*": [{"a": str}]}, [".x[].a: None is no str"]),
        (None, [str], [": None is no list"]),
        ([], {"a": str}, [": [] is no object"]),
    ],
)
def test_a_deviation_is_reported_with_its_path(value: Any, table: Any, expected: list[str]) -> None:
    assert list(deviations(value, table)) == expected
