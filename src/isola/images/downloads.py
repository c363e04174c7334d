"""Downloads of blobs: one per blob for all its waiters, resumed after interruptions, and verified."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from isola.errors import HostFailure, InvalidInput, IsolaError
from isola.host import Host
from isola.images.descriptor import Descriptor, algorithm_of, check_digest
from isola.images.partial import Partials
from isola.images.remote import BlobSource
from isola.model.reference import DEFAULT_PROJECT

Progress = Callable[[int], None]
_AT_ONCE = 4
"""Number of concurrent downloads; further ones wait."""
_ATTEMPTS = 5
"""Number of consecutive attempts with less than ``_SUBSTANTIAL`` bytes."""
_SUBSTANTIAL = 1 << 20
_STALLED = 60.0
"""Seconds without data after which a connection counts as broken."""
_LONGEST_PAUSE = 30.0
log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Waiter:
    source: BlobSource
    progress: Progress
    reported: int = 0
    failed: bool = False

    def reach(self, total: int) -> None:
        """Progress never decreases, even if a download restarts."""
        if total > self.reported:
            self.progress(total - self.reported)
            self.reported = total


@dataclass(eq=False)
class _Flight:
    blob: Descriptor
    key: str
    waiters: list[_Waiter] = field(default_factory=list)
    done: int = 0
    task: asyncio.Task[None] | None = None
    ending: bool = False

    def reach(self, total: int) -> None:
        """Report progress to all waiters."""
        self.done = total
        for waiter in self.waiters:
            waiter.reach(total)


class _LocalFailure(Exception):
    def __init__(self, error: HostFailure) -> None:
        super().__init__(str(error))
        self.error = error


class Downloads:
    """Running downloads by digest and project: one that is shared would give away a blob to who cannot send it."""

    def __init__(self, host: Host, partials: Partials, store: Callable[[str, Path], Awaitable[None]]) -> None:
        self._host = host
        self._partials = partials
        self._store = store
        self._flights: dict[str, _Flight] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def fetch(self, blob: Descriptor, source: BlobSource, progress: Progress, project: str = "") -> None:
        """Download a blob to the store; the caller has called ``hold`` for it.

        A running download of the same project is shared: it is cancelled with its last waiter, and continues from
        another waiter's ``source`` if one fails. Raises the last source's error, and InvalidInput if the content does
        not match the digest.
        """
        flight = await self._flight(_key(check_digest(blob.digest), project), blob)
        waiter = _Waiter(source, progress)
        flight.waiters.append(waiter)
        if flight.task is None:
            flight.task = asyncio.create_task(self._run(flight), name=f"fetch {blob.digest[7:19]}")
            flight.task.add_done_callback(lambda _: self._flights.pop(flight.key, None))
        waiter.reach(flight.done)
        try:
            await asyncio.shield(flight.task)
        finally:
            flight.waiters.remove(waiter)
            if not flight.waiters and not flight.task.done():
                flight.ending = True
                flight.task.cancel()
                await asyncio.wait([flight.task])

    async def _flight(self, key: str, blob: Descriptor) -> _Flight:
        """The running download or a new one, so that two never write to the same file."""
        while (flight := self._flights.get(key)) is not None and flight.ending and flight.task is not None:
            await asyncio.wait([flight.task])
            await asyncio.sleep(0)
        return flight or self._flights.setdefault(key, _Flight(blob, key))

    async def _run(self, flight: _Flight) -> None:
        error: IsolaError = HostFailure("The download of this blob has no waiter left")
        async with self._slots:
            await self._partials.prune(self._flights)
            while waiter := next((each for each in flight.waiters if not each.failed), None):
                try:
                    await self._fetch_from(flight, waiter)
                    return
                except _LocalFailure as failure:
                    raise failure.error from failure
                except IsolaError as failed:
                    error, waiter.failed = failed, True
                    log.info("Could not fetch %s from one of its sources: %s", flight.blob.digest, failed)
        raise error

    async def _fetch_from(self, flight: _Flight, waiter: _Waiter) -> None:
        """Fetch the blob; if the digest is wrong, once more from the start, since a resumed part may be damaged."""
        digest, key = flight.blob.digest, flight.key
        begun = await self._partials.begin(key, flight.blob.size)
        for have in (begun, 0) if begun else (0,):
            await self._complete(flight, waiter, have if have <= flight.blob.size else 0)
            algorithm = algorithm_of(digest)
            found, _ = await self._host.files.digest(self._partials.path(key), algorithm=algorithm)
            if f"{algorithm}:{found}" == digest:
                await self._store(digest, self._partials.path(key))
                await self._partials.forget(key)
                return
            await self._partials.forget(key)
            await self._partials.begin(key, flight.blob.size)
        raise InvalidInput(
            "The content does not match its digest",
            evidence=f"{algorithm}:{found}, expected {digest}",
            field="digest",
            remedy="it was damaged in transfer or at its source: try again, or use another source",
        )

    async def _complete(self, flight: _Flight, waiter: _Waiter, have: int) -> None:
        """Download until the blob is complete and fsynced."""
        size, failures = flight.blob.size, 0
        if not have:
            await self._write(flight, b"", 0)
        while have < size:
            try:
                await self._read(flight, waiter, have)
                error = HostFailure("The connection ended before the blob was complete")
            except HostFailure as broken:
                error = broken
            before, have = have, await self._partials.size(flight.key)
            failures = 0 if have - before >= _SUBSTANTIAL else failures + 1
            if have < size:
                if failures >= _ATTEMPTS or waiter not in flight.waiters:
                    raise error
                await self._host.clock.sleep(min(2.0**failures, _LONGEST_PAUSE))
        await self._host.files.flush(self._partials.path(flight.key))

    async def _read(self, flight: _Flight, waiter: _Waiter, have: int) -> None:
        """Read from one connection until it ends."""
        async with waiter.source.open(have) as stream:
            if (at := stream.offset) > have:
                raise HostFailure("The source skipped a part of the blob", evidence=f"{have} to {at}")
            blocks = aiter(stream.blocks)
            while at < flight.blob.size and waiter in flight.waiters:
                try:
                    async with asyncio.timeout(_STALLED):
                        block = await anext(blocks)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise HostFailure(f"The source has sent no data for {_STALLED:.0f} seconds") from error
                if at + len(block) > flight.blob.size:
                    raise InvalidInput(
                        "The source sent more than it announced", evidence=f"more than {flight.blob.size} bytes"
                    )
                await self._write(flight, block, at)
                at += len(block)
                flight.reach(at)

    async def _write(self, flight: _Flight, block: bytes, at: int) -> None:
        try:
            await self._partials.extend(flight.key, block, at=at)
        except HostFailure as error:  # a full disk: another connection does not help
            raise _LocalFailure(error) from error


def _key(digest: str, project: str) -> str:
    """What a download and its partial file are known by."""
    if project in ("", DEFAULT_PROJECT):
        return digest
    return f"{digest}@{hashlib.sha256(project.encode()).hexdigest()[:16]}"
