"""Ranges of host ids for instances: chosen where they are free, claimed for as long as anything has them."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

from isola.errors import HostFailure, IsolaError
from isola.host.id_ranges import Extent
from isola.instances.context import Context
from isola.model.identity import ID_RANGE_SIZE, IdRange

log = logging.getLogger(__name__)
_FIRST_SLOT = 16
_LAST_BASE = 2**31
_ALL: Extent = (_FIRST_SLOT * ID_RANGE_SIZE, _LAST_BASE - _FIRST_SLOT * ID_RANGE_SIZE)
_FRESH_SECONDS = 600.0
"""How long what others have is remembered: grants seldom change; claims and processes are looked at each time."""
_AT_ONCE = 64
"""Ranges that the name service is asked about in one go."""


async def reserve_range(context: Context, id: str) -> IdRange:
    """A range that nothing on this host has an id of, claimed until ``give_back``."""
    bases = context.bases
    async with bases.lock:
        used = {record.idmap.base for record in context.everybody()}
        for again in (False, True):
            await _look_up(context, again=again)
            free = (base for base in bases.order if base not in used)
            while some := list(itertools.islice(free, _AT_ONCE)):
                for bare in ([base for base in some if bases.named.get(base) is False], some):
                    base = await context.host.id_ranges.claim(await _nameless(context, bare), holder(context, id))
                    if base is not None:
                        return IdRange(base)
    raise HostFailure(
        "No free range of user ids is left",
        remedy="delete instances, or grant root more in /etc/subuid and /etc/subgid",
    )


async def give_back(context: Context, id: str) -> None:
    """The range of an instance is free again, unless a volume still has its ids."""
    ranges = context.host.id_ranges
    for base, claimed in (await ranges.claims()).items():
        if claimed != holder(context, id):
            continue
        for pool in list(context.pools):
            if id in await context.pools.driver(pool.name).volumes():
                log.warning("User ids from %d on stay reserved: volume %s of pool %s has them", base, id, pool.name)
                return
        await ranges.release(base, claimed)


async def look_around(context: Context) -> None:
    """At the start of the daemon: so that no creation has to wait for the name service."""
    await _look_up(context, again=False)
    await _nameless(context, context.bases.order[:_AT_ONCE])


async def claim_again(context: Context) -> None:
    """At the start of the daemon: claim what the records have, whatever became of the claims."""
    wanted = {record.idmap.base: holder(context, record.id) for record in context.everybody()}
    try:
        for base, other in (await context.host.id_ranges.keep(wanted)).items():
            log.error("User ids from %d on, which an instance has, are claimed by %s too", base, other)
    except IsolaError as error:
        log.error("User ids could not be claimed: %s", error)


async def give_up_unused(context: Context) -> None:
    """After the host is as the records say: give up what a daemon claimed that died before there was a record."""
    known = {holder(context, record.id) for record in context.everybody()}
    try:
        for claimed in (await context.host.id_ranges.claims()).values():
            place, _, id = claimed.rpartition("/")
            if place == str(context.directory) and claimed not in known:
                await give_back(context, id)
    except IsolaError as error:
        log.error("Claims of user ids could not be given up: %s", error)


def holder(context: Context, id: str) -> str:
    """Who claims a range: the instance, below the directory of its daemon."""
    return f"{context.directory}/{id}"


def order_of(granted: Sequence[Extent], taken: Sequence[Extent], tag: str) -> tuple[int, ...]:
    """Where ranges may begin, in the order in which the daemon of this tag takes them. Pure.

    In what root is granted; where nothing is, or others have all of it, anywhere. The daemon in the default directory
    begins at the first, any other somewhere in the second half: they seldom have to ask for the same.
    """
    bases = tuple(itertools.chain.from_iterable(_fitting(extent, taken) for extent in granted))
    bases = bases or tuple(_fitting(_ALL, taken))
    if not bases or "-" not in tag:
        return bases
    half = len(bases) // 2
    begin = half + int(tag.rpartition("-")[2], 16) % (len(bases) - half)
    return bases[begin:] + bases[:begin]


def _fitting(within: Extent, taken: Sequence[Extent]) -> list[int]:
    """Bases of whole ranges within an extent that touch nothing of what is taken."""
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
