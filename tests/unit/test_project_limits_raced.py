"""Limits of projects hold if several changes are made at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from rest_door import LIMITING, Stand, standing

from isola.errors import Forbidden
from isola.model.volume import VolumeRecord, VolumeRef
from isola.operations import Operation

_BOUND = {"limits.memory": "1GiB", "limits.disk": "10GiB", "features.images": "false", "features.profiles": "false"}
_MIB = 1 << 20


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with standing(quotas=True) as open_door:
        yield open_door


async def project(stand: Stand, *keys: str) -> None:
    config = {key: value for key, value in _BOUND.items() if key in keys or key.startswith("features")}
    assert (await stand.ask("POST", "/1.0/projects", {"name": "blue", "config": config}))[0] == 201


async def launch(stand: Stand, name: str, memory: str) -> None:
    wanted: dict[str, Any] = {"source": {"type": "image", "alias": "tiny"}, "config": {"limits.memory": memory}}
    done = await stand.finish("POST", "/1.0/instances?project=blue", {"name": name, **wanted})
    assert done["status"] == "Success", done


async def test_concurrent_restores_do_not_exceed_the_limit(stand: Stand) -> None:
    await project(stand, "limits.memory")
    for name in ("web1", "web2"):
        path = f"/1.0/instances/{name}"
        await launch(stand, name, "700MiB")
        await stand.finish("POST", f"{path}/snapshots?project=blue", {"name": "large"})
        small = {"config": {"limits.memory": "100MiB"}}
        assert (await stand.ask("PATCH", f"{path}?project=blue", small))[0] == 200
    restores = (
        stand.finish("PUT", f"/1.0/instances/{name}?project=blue", {"restore": "large"}) for name in ("web1", "web2")
    )
    done = await asyncio.gather(*restores)
    assert sorted(each["status"] for each in done) == ["Failure", "Success"]
    assert "limits.memory" in "".join(each["err"] for each in done)
    shown = await stand.get("/1.0/instances?project=blue&recursion=1")
    assert sorted(each["config"]["limits.memory"] for each in shown) == ["100MiB", "700MiB"]
    assert not any(key.startswith("volatile.restor") for each in shown for key in each["config"])


@pytest.mark.parametrize("pool", ["fast", "other"])
async def test_concurrent_moves_of_volumes_do_not_exceed_the_limit(stand: Stand, pool: str) -> None:
    await project(stand, "limits.disk")
    records, volumes = stand.world.parts.records.volumes, stand.services.volumes
    for name in {"fast", pool}:
        assert (await stand.ask("POST", "/1.0/storage-pools", {"name": name, "driver": LIMITING}))[0] == 201
    refs = [VolumeRef.custom("fast", name) for name in ("one", "two")]
    for ref in refs:
        status, answer = await stand.ask("POST", "/1.0/storage-pools/fast/volumes/custom", {"name": ref.name})
        assert status == 201, answer
        await records.change(ref.key, lambda found: replace(found, config={"size": "6GiB"}))
    targets = [VolumeRef.custom(pool, ref.name, "blue") for ref in refs]
    begun: list[Operation] = []
    for ref, target in zip(refs, targets, strict=True):
        begun.append(await volumes.move(ref, target))
    done = await asyncio.gather(*(stand.services.operations.finish(each) for each in begun), return_exceptions=True)
    assert sum(isinstance(each, Forbidden) for each in done) == 1, done
    there: list[VolumeRecord] = [each for each in records if each.project == "blue"]
    assert sum(each.size or 0 for each in there) <= 10 * 1024 * _MIB
    assert len(list(records)) == 2 and all(each.ready for each in records)
