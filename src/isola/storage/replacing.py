"""The content of a volume is replaced in two steps: the slow one changes nothing, the fast one takes effect as a whole.

Where copies are instant, and where hardly anything is the same, a whole tree is prepared and takes the place of the old
one. Otherwise only what differs is copied, and moved into the old tree by a plan that the next daemon can complete.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from isola.errors import HostFailure, IsolaError, NotFound
from isola.host import Host
from isola.host.cancellation import finish
from isola.host.mirrors import Difference, Survey, Trust
from isola.host.threads import in_thread
from isola.storage.trash import Trash
from isola.storage.tree_layers import Trees

log = logging.getLogger(__name__)
_CHANGED = "%s is copied as a whole, since it may be in use and has changed since it was compared: %s"
Key = tuple[str, str]
"""The ids of a volume and of its new content."""
_TICK = timedelta(milliseconds=50)
"""File systems take the time of changes from a clock that stands still for a few milliseconds."""
_WRITTEN_OUT = timedelta(minutes=2)
"""After this time the kernel has written out a changed page, and a further change of it sets the file's time again."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    place: Path
    """Contains a whole tree as ``data``, or what differs."""
    difference: Difference | None


class Replacements:
    """The prepared contents of the volumes of one pool."""

    def __init__(self, host: Host, trees: Trees, trash: Trash, base: Path) -> None:
        self._host = host
        self._trees = trees
        self._trash = trash
        self._base = base
        self._prepared: dict[Key, _Prepared] = {}
        self._unfinished: dict[Path, Path] = {}
        """Trees that were changed in part -> the directory with the rest."""

    def has(self, key: Key) -> bool:
        """Whether this content is prepared."""
        return key in self._prepared

    async def prepare(
        self, key: Key, source: Path, data: Path, trust: Trust, *, clone: bool, size: int | None = None
    ) -> None:
        """Prepare the content of ``source`` for the tree ``data``. ``clone``: both are in this pool."""
        await self.complete(data)
        self.drop(key)
        place = self._trash.place / f"{key[0]}.{self._host.clock.token(8)}.restored"
        try:
            await self._trash.make_room()
            await self._host.files.make_directory(place, mode=0o700)
            if self._trees.instant:
                difference = None
                await self._fill(source, data, place / "data", trust, clone=clone)
            else:
                await self._trees.gather(place, data)
                difference = await self._stage(
                    source, place, await self._host.mirrors.compare(source, data, trust), clone=clone
                )
            if difference is None and size is not None:
                await self._trees.limit(place / "data", size)
            if difference is None or difference.copied:
                await self._trees.settle(place)
        except BaseException:
            await finish(self._trees.destroy(place))
            raise
        self._prepared[key] = _Prepared(place, difference)

    async def _fill(self, source: Path, data: Path, target: Path, trust: Trust, *, clone: bool) -> None:
        """Copies that are instant save comparing, except those from another pool."""
        if clone:
            await self._trees.clone(source, target)
            return
        difference = await self._host.mirrors.compare(source, data, trust)
        if difference is not None:
            await self._trees.clone(data, target)
            try:
                await self._host.mirrors.overwrite(source, target, difference)
                return
            except HostFailure as error:
                log.info(_CHANGED, source, error)
                await self._trees.remove(target)
        await self._trees.copy(source, target)

    async def _stage(
        self, source: Path, place: Path, difference: Difference | None, *, clone: bool
    ) -> Difference | None:
        """Returns what was copied; None for the whole tree."""
        if difference is not None:
            try:
                await self._host.mirrors.stage(source, difference, place)
                return difference
            except HostFailure as error:
                log.info(_CHANGED, source, error)
                await self._trees.remove(place / "new")
        await self._trees.part(place)
        await (self._trees.clone if clone else self._trees.copy)(source, place / "data")
        return None

    async def apply(self, key: Key, data: Path) -> None:
        """``data`` is unchanged if this raises, or ``complete`` completes the change."""
        prepared = self._prepared.pop(key)
        place = prepared.place
        try:
            if prepared.difference is None:
                await self._host.files.exchange(place / "data", data)
            elif prepared.difference:
                await self._host.mirrors.apply(data, prepared.difference, place)
        except BaseException:
            await finish(self._after_failure(data, place))
            raise
        self._trash.remove(place)

    async def _after_failure(self, data: Path, place: Path) -> None:
        try:
            unfinished = await self._host.mirrors.unfinished(place)
        except IsolaError:
            unfinished = data
        if unfinished is None:
            self._trash.remove(place)
        else:
            self._unfinished[data] = place

    def drop(self, key: Key) -> None:
        """Forget a prepared content; no effect if there is none."""
        if (prepared := self._prepared.pop(key, None)) is not None:
            self._trash.remove(prepared.place)

    def outdate(self, volume: str) -> None:
        """The volume may be written to: what was compared with it has to be prepared again."""
        for key in [key for key in self._prepared if key[0] == volume]:
            self.drop(key)

    async def complete(self, data: Path) -> None:
        """Complete a change of a tree that was cut off. Raises HostFailure; the tree is not to be used then."""
        if (place := self._unfinished.get(data)) is None:
            return
        if await self._host.mirrors.unfinished(place) is not None:
            await self._host.mirrors.complete(data, place)
        self._unfinished.pop(data, None)
        self._trash.remove(place)

    async def complete_all(self) -> None:
        """At the start of a daemon: what an earlier one has begun. A failure is logged, and left to ``complete``."""
        for name in await self._trash.names():
            place = self._trash.place / name
            try:
                if not name.endswith(".restored") or (data := await self._host.mirrors.unfinished(place)) is None:
                    continue
                if not data.is_relative_to(self._base):
                    raise HostFailure(f"{place} changes {data}, which is not in this pool")
                self._trash.keep(place)
                self._unfinished[data] = place
                await self.complete(data)
            except (IsolaError, ValueError) as error:
                log.error("The restore in %s cannot be completed yet: %s", place, error)


async def survey_of(host: Host, tree: Path, *, still: bool) -> bytes:
    """What is kept of a tree beside its snapshot. ``still``: no program can change it."""
    recent = host.clock.now() - (_TICK if still else _WRITTEN_OUT)
    found = await host.mirrors.survey(tree, recent)
    return await in_thread(_packed, found)


async def survey_in(host: Host, path: Path) -> Survey:
    """Empty if there is none."""
    try:
        return await in_thread(_unpacked, await host.files.read(path))
    except (NotFound, ValueError, AttributeError, TypeError):
        return {}


def _packed(found: Survey) -> bytes:
    return json.dumps({path.hex(): digest.hex() for path, digest in found.items()}).encode()


def _unpacked(data: bytes) -> Survey:
    return {bytes.fromhex(name): bytes.fromhex(digest) for name, digest in json.loads(data).items()}
