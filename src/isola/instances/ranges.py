"""Ranges of host ids for instances: free ranges are chosen, and claimed as long as they are in use."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Sequence

from isola.errors import HostFailure, IsolaError
from isola.host.id_ranges import Extent
from isola.instances.context import Context
from isola.instances.namespaces import ids_of_peer, is_privileged
from isola.model.identity import ID_RANGE_SIZE, PRIVILEGED, IdRange
from isola.model.instance import Config, Instance

log = logging.getLogger(__name__)
_FIRST_SLOT = 16
_LAST_BASE = 2**31
_ALL: Extent = (_FIRST_SLOT * ID_RANGE_SIZE, _LAST_BASE - _FIRST_SLOT * ID_RANGE_SIZE)
_FRESH_SECONDS = 600.0
"""How long grants and other allocations are cached; claims and processes are read each time."""
_AT_ONCE = 64
"""Ranges that are looked up in the name service at once."""


async def range_for(context: Context, id: str, project: str, config: Config) -> IdRange:
    """The range for a new instance: the host's ids, those of the instance whose network it joins, or new ones."""
    if is_privileged(config):
        return PRIVILEGED
    return ids_of_peer(context, project, config) or await reserve_range(context, id)


async def reserve_range(context: Context, id: str) -> IdRange:
    """A range that is unused on this host, claimed until ``give_back``."""
    bases = context.bases
    async with bases.lock:
        used = {record.idmap.base for record in context.everybody()}
        for again in (False, True):
            await _look_up(context, again=again)
            if (base := await _claim(context, id, used)) is not None:
                return IdRange(base)
        # Only when no other is left: the directory of such a daemon may come back.
        if count := await context.host.id_ranges.release_gone(bases.order):
            log.warning("%d claims of user ids were released: the directories of their daemons do not exist", count)
            if (base := await _claim(context, id, used)) is not None:
                return IdRange(base)
    raise HostFailure(
        "No free range of user ids is left",
        remedy="delete instances, or grant root more in /etc/subuid and /etc/subgid",
    )


async def _claim(context: Context, id: str, used: Collection[int]) -> int | None:
    """The first of the ranges in the cache that nothing uses; None if there is none."""
    bases = context.bases
    free = (base for base in bases.order if base not in used)
    while some := list(itertools.islice(free, _AT_ONCE)):
        for bare in ([base for base in some if bases.named.get(base) is False], some):
            base = await context.host.id_ranges.claim(await _nameless(context, bare), holder(context, id))
            if base is not None:
                return base
    return None


async def give_back(context: Context, id: str, *bases: int) -> None:
    """Release the range of an instance, unless a volume still has its ids. Without ``bases`` all claims are read."""
    ranges, mine = context.host.id_ranges, holder(context, id)
    if PRIVILEGED.base in bases:
        return
    for base in bases or [base for base, claimed in (await ranges.claims()).items() if claimed == mine]:
        for pool in list(context.pools):
            if await context.pools.driver(pool.name).holds(id):
                log.warning("User ids from %d on stay reserved: volume %s of pool %s has them", base, id, pool.name)
                return
        await ranges.release(base, mine)
        others = [record for record in context.everybody() if record.idmap.base == base and record.id != id]
        if others:
            await ranges.keep({base: holder(context, _first(others).id)})


def _claimant(context: Context, sharing: Sequence[Instance], claimed: str) -> str:
    """The holder of the claim of a range: one of the instances that have it, whichever has claimed it before."""
    holders = [holder(context, record.id) for record in sharing]
    return claimed if claimed in holders else holder(context, _first(sharing).id)


def _first(sharing: Iterable[Instance]) -> Instance:
    """The one of several instances with one range that has the claim: the one that was created first."""
    return min(sharing, key=lambda each: (each.created_at, each.id))


async def look_around(context: Context) -> None:
    """At the start of the daemon: fill the cache, so that no creation has to wait for the name service."""
    await _look_up(context, again=False)
    await _nameless(context, context.bases.order[:_AT_ONCE])


async def claim_again(context: Context) -> None:
    """At the start of the daemon: claim the ranges in the records again, if the claims were lost."""
    sharing: dict[int, list[Instance]] = {}
    for record in context.everybody():
        sharing.setdefault(record.idmap.base, []).append(record)
    sharing.pop(PRIVILEGED.base, None)
    try:
        shared = any(len(records) > 1 for records in sharing.values())
        claims = await context.host.id_ranges.claims() if shared else {}
        wanted = {base: _claimant(context, records, claims.get(base, "")) for base, records in sharing.items()}
        for base, other in (await context.host.id_ranges.keep(wanted)).items():
            log.error("User ids from %d on, which an instance has, are claimed by %s too", base, other)
    except IsolaError as error:
        log.error("User ids could not be claimed: %s", error)


async def give_up_unused(context: Context) -> None:
    """After reconciliation: release claims of creations that were interrupted before their commit."""
    known = {holder(context, record.id) for record in context.everybody()}
    try:
        for claimed in (await context.host.id_ranges.claims()).values():
            place, _, id = claimed.rpartition("/")
            if place == str(context.directory) and claimed not in known:
                await give_back(context, id)
    except IsolaError as error:
        log.error("Claims of user ids could not be given up: %s", error)


def holder(context: Context, id: str) -> str:
    """The holder of a claim: the daemon's directory and the instance's id."""
    return f"{context.directory}/{id}"


def order_of(granted: Sequence[Extent], taken: Sequence[Extent], tag: str) -> tuple[int, ...]:
    """First ids of possible ranges, in the order in which the daemon with this tag tries them. Pure.

    They are in the ids granted to root; if there are none, or others use all of them, anywhere. The daemon in the
    default directory begins with the first, others in the second half, so that they seldom try the same range.
    """
    bases = tuple(itertools.chain.from_iterable(_fitting(extent, taken) for extent in granted))
    bases = bases or tuple(_fitting(_ALL, taken))
    if not bases or "-" not in tag:
        return bases
    half = len(bases) // 2
    begin = half + int(tag.rpartition("-")[2], 16) % (len(bases) - half)
    return bases[begin:] + bases[:begin]


def _fitting(within: Extent, taken: Sequence[Extent]) -> list[int]:
    """First ids of ranges within an extent that do not overlap taken ones."""
    found, first, end = [], within[0], min(sum(within), _LAST_BASE)
    for start, count in sorted(taken):
        if start >= end:
            break
        while first + ID_RANGE_SIZE <= min(start, end):
            found.append(first)
            first += ID_RANGE_SIZE
        while first < min(start + count, end):
            first += ID_RANGE_SIZE
    found += range(first, end - ID_RANGE_SIZE + 1, ID_RANGE_SIZE)
    return found


async def _look_up(context: Context, *, again: bool) -> None:
    bases, now = context.bases, context.host.clock.monotonic()
    if not again and bases.looked_up is not None and now - bases.looked_up < _FRESH_SECONDS:
        return
    ranges = context.host.id_ranges
    own = {record.idmap.base for record in context.everybody()}
    taken = [extent for extent in await ranges.taken() if extent[0] not in own]
    bases.order = order_of(await ranges.granted(), taken, context.names.tag)
    bases.looked_up = now
    if again:
        bases.named.clear()


async def _nameless(context: Context, bases: Sequence[int]) -> list[int]:
    known = context.bases.named
    if new := [base for base in bases if base not in known]:
        named = await context.host.id_ranges.named(new)
        known.update({base: base in named for base in new})
    return [base for base in bases if not known[base]]
