"""The contract of all walls: one guest of each driver goes through every row of the matrix."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from typing import Any

import pytest
from payloads import Payload, payload
from runtime_bench import Bench, shown
from wall_checks import LIMITS, ROWS, Row

from isola.errors import IsolaError, Unsupported
from isola.model.network import NetworkNamespace
from isola.runtimes import Capability, Guest, RunSpec
from isola.runtimes.reference import described


@pytest.fixture
async def furnished(wall: Bench) -> AsyncIterator[tuple[Payload, RunSpec]]:
    """The spec of a guest that is given all that its driver can give."""
    bench = wall
    async with payload(bench) as found:
        given: dict[str, Any] = {"limits": LIMITS, "nics": (), "root": found.root, **found.more}
        namespace = NetworkNamespace(bench.directory / "netns" / "one")
        if bench.kind.capabilities.shares_kernel:
            spec = bench.spec(**given)
            assert spec.idmap is not None
            await bench.host.namespaces.make_network(namespace.path, spec.idmap)
            given["network"] = namespace
        try:
            yield found, bench.spec(**given)
        finally:
            for id in await bench.runtime.owned():
                await bench.runtime.remove(id)
            if bench.kind.capabilities.shares_kernel:
                await bench.host.namespaces.remove_network(namespace.path)


async def test_every_row(wall: Bench, furnished: tuple[Payload, RunSpec]) -> None:
    bench = wall
    found, spec = furnished
    for row in ROWS:
        if row.given is not None and _has(bench, row):
            spec = row.given(bench, spec)
    guest = await bench.launch(spec)
    assert await guest.settled() is None
    await shown(bench, lambda log: found.says in log)
    wrong = []
    for row in ROWS:
        if said := await _wrong(bench, guest, row):
            wrong.append(said)
        if (now := await bench.runtime.find("one")) is None:
            break
        guest = now
    assert not wrong, "\n".join(wrong)
    if not bench.has(Capability.REBOOT):
        await guest.signal(9) if bench.has(Capability.SIGNAL) else await bench.runtime.remove("one")
    async with asyncio.timeout(60):
        await guest.ended()
    assert await bench.runtime.find("one") is None


def _has(bench: Bench, row: Row) -> bool:
    return row.needs is None or bench.has(row.needs)


async def _wrong(bench: Bench, guest: Guest, row: Row) -> str:
    """What is wrong with one row: the matrix says that it works, or that it does not."""
    lack = bench.kind.capabilities.lacks.get(row.needs) if row.needs is not None else None
    if lack is not None and row.inside:
        return ""  # without it nothing is asked for; requests are refused above the drivers
    try:
        async with asyncio.timeout(120):
            await row.works(bench, guest)
    except Unsupported as error:
        if lack is None or lack.reason in str(error):
            return f"{row.verb}: {error}" if lack is None else ""
        return f"{row.verb} is refused for another reason: {error}, not {lack.reason}"
    except (AssertionError, IsolaError, TimeoutError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{row.verb}: {type(error).__name__} {error} at {where.lineno}: {where.line}"
    return f"{row.verb} works, and is said to be missing: {lack.reason}" if lack is not None else ""


async def test_what_is_missing_is_refused_at_the_start(wall: Bench, furnished: tuple[Payload, RunSpec]) -> None:
    """Also by the driver itself, before anything happens."""
    bench, (_, spec) = wall, furnished
    for row in ROWS:
        if row.given is None or _has(bench, row) or row.needs is Capability.PROCESS_LIMIT:
            continue
        with pytest.raises(Unsupported, match=r"\w+ \w+"):
            await bench.launch(row.given(bench, spec))
        assert await bench.runtime.owned() == (), row.verb


def test_every_capability_has_a_row_here_and_on_the_page() -> None:
    assert {row.needs for row in ROWS} - {None} == set(Capability) == described()
