"""Lists of instances, which are rendered once and kept until something in them changes."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from rest_door import Stand

from isola.instances.context import Fault
from isola.model.instance import Instance
from isola.model.reference import Ref


@pytest.fixture
async def fleet(stand: Stand) -> Stand:
    for name, runs in (("db1", False), ("web1", True)):
        await stand.create(name, start=runs)
    return stand


async def _shown(stand: Stand, query: str = "recursion=1") -> dict[str, Any]:
    return {one["name"]: one for one in await stand.get(f"/1.0/instances?{query}")}


async def test_each_scope_has_a_list_of_its_own(fleet: Stand) -> None:
    for again in ("first", "kept"):
        assert [*await _shown(fleet)] == ["db1", "web1"], again
        assert [*await _shown(fleet, "recursion=2&all-projects=true")] == ["db1", "web1"], again
        assert [*await _shown(fleet, "recursion=1&instance-type=virtual-machine")] == [], again
        assert [*await _shown(fleet, "recursion=1&filter=status+eq+running")] == ["web1"], again
    kinds = ("container", "virtual-machine", "")
    many = [f"recursion=1&instance-type={kind}{more}" for kind in kinds for more in ("", "&all-projects=true")]
    assert [len(await _shown(fleet, query)) for query in many] == [2, 2, 0, 0, 2, 2]


async def test_a_list_is_kept_while_nothing_changes(fleet: Stand) -> None:
    rendering, instances = fleet.doors.rest.rendering, fleet.services.instances
    chosen: list[list[Instance]] = []

    def choose() -> list[Instance]:
        chosen.append([*instances])
        return chosen[-1]

    kept = rendering.every("all", choose)
    assert rendering.every("all", choose) is kept
    await rendering.every_full("all", choose)
    assert len(chosen) == 1
    context = instances._context
    for change in (
        lambda: context.faults.update({instances.get(Ref.default("db1")).id: Fault("broken")}),
        lambda: context.saved.add(instances.get(Ref.default("db1")).id),
        lambda: context.live.pop(instances.get(Ref.default("web1")).id),
    ):
        before = rendering.every("all", choose)
        change()
        assert rendering.every("all", choose) != before
    assert len(chosen) == 4


async def test_a_list_with_states_has_the_records_of_its_end(fleet: Stand) -> None:
    """They are read away from the event loop, so that instances change meanwhile."""
    rendering, instances = fleet.doors.rest.rendering, fleet.services.instances
    reading = asyncio.ensure_future(rendering.every_full("all", lambda: [*instances]))
    await asyncio.sleep(0)
    instances._context.faults[instances.get(Ref.default("db1")).id] = Fault("broken")
    assert [one["status"] for one in json.loads(await reading)] == ["Error", "Running"]


async def test_states_beside_snapshots(fleet: Stand) -> None:
    assert (await _shown(fleet, "recursion=2"))["db1"]["snapshots"] == []
    await fleet.finish("POST", "/1.0/instances/db1/snapshots", {"name": "then"})
    shown = await _shown(fleet, "recursion=2")
    assert [each["name"] for each in shown["db1"]["snapshots"]] == ["then"]
    assert (shown["db1"]["state"]["status"], shown["db1"]["state"]["pid"]) == ("Stopped", 0)
    assert shown["web1"]["state"]["status"] == "Running" and shown["web1"]["state"]["pid"]
