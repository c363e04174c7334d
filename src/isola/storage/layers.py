"""Image layers in a pool: each is unpacked once, and kept while a volume uses it."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from weakref import WeakValueDictionary

from isola.errors import InvalidInput
from isola.host import Host
from isola.host.several import several
from isola.model.image import LAYER_ID
from isola.operations import Operation

AT_ONCE = 4
"""Layers that are unpacked at the same time."""
Unpack = Callable[[str, Path], Awaitable[object]]
"""Callback of the image library: unpacks a layer, with overlay's whiteouts, to an empty directory."""


@dataclass(frozen=True, slots=True)
class Step:
    """Layers that are unpacked as one unit."""

    id: str
    parent: str | None
    """The id of the unit onto which it is unpacked."""
    layers: tuple[str, ...]
    """The layers that it adds to the parent, bottom first."""


class LayerStore(ABC):
    """The unpacked layers of one pool. They are stored in units with ids, which the driver defines."""

    def __init__(self, host: Host, place: Path, pool: str) -> None:
        self.host = host
        self.place = place
        self.pool = pool
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def ensure(
        self,
        op: Operation,
        layers: Sequence[str],
        unpack: Unpack,
        advance: Callable[[int], object] = lambda count: None,
    ) -> None:
        """Unpack all missing layers of an image, several at once unless they depend on each other.

        A layer is either complete or does not exist.

        Concurrent callers wait for the same unpacking. ``advance`` is called with the number of further layers.
        """

        async def one(step: Step) -> None:
            async with self._lock(step.id):  # waits for a deletion that is in progress
                present = await self._has(step.id)
            if not present:
                await op.effect(
                    f"unpack layer {step.layers[-1][7:19]}",
                    lambda: self._ensure(step, unpack),
                    undo=lambda: self._drop(step),
                )
            advance(len(step.layers))

        steps = self.steps([_checked(layer) for layer in layers])
        one_by_one = any(step.parent is not None for step in steps)
        await several([partial(one, step) for step in steps], most=1 if one_by_one else AT_ONCE)

    async def bring(self, op: Operation, layers: Sequence[str], other: LayerStore) -> None:
        """Copy missing layers from a pool that has them, each as a unit as in this one."""

        async def copy(layer: str, target: Path) -> None:
            await self.host.files.copy_tree(other.path(layer), target, into=True)

        await self.ensure(op, layers, copy)

    def ids(self, layers: Sequence[str]) -> tuple[str, ...]:
        """Ids of the units for this stack of layers."""
        return tuple(step.id for step in self.steps(layers))

    async def delete(self, id: str) -> None:
        """Remove one that is not used; no effect if it does not exist."""
        async with self._lock(id):
            await self._delete(id)

    async def delete_unused(self, layers: Collection[str], needed: Callable[[], Iterable[Sequence[str]]]) -> None:
        """Remove units that contain any of ``layers``, except those in use by the stacks that ``needed`` returns."""
        for id in await self.stored() if layers else ():
            if set(layers).isdisjoint(await self.made_of(id)):
                continue
            # Called again for each, because a creation may have begun meanwhile.
            if not any(id in self.ids(stack) for stack in needed()):
                await self.delete(id)

    async def _ensure(self, step: Step, unpack: Unpack) -> None:
        async with self._lock(step.id):
            if not await self._has(step.id):
                await self._add(step, unpack)

    async def _drop(self, step: Step) -> None:
        async with self._lock(step.id):
            await self._drop_partial(step)

    def _lock(self, id: str) -> asyncio.Lock:
        """A lock per layer, dropped when it is neither held nor waited for."""
        return self._locks.setdefault(id, asyncio.Lock())

    @abstractmethod
    def steps(self, layers: Sequence[str]) -> Sequence[Step]:
        """The units to unpack for these layers, in order."""

    @abstractmethod
    def path(self, id: str) -> Path:
        """The directory of a unit."""

    @abstractmethod
    async def stored(self) -> tuple[str, ...]:
        """Ids of all stored units."""

    @abstractmethod
    async def made_of(self, id: str) -> Sequence[str]:
        """The layers of a unit; empty if unknown, then it is left alone."""

    @abstractmethod
    async def _has(self, id: str) -> bool: ...

    @abstractmethod
    async def _add(self, step: Step, unpack: Unpack) -> None:
        """Complete and durable on return; leaves nothing behind after a failure or cancellation."""

    @abstractmethod
    async def _drop_partial(self, step: Step) -> None: ...

    @abstractmethod
    async def _delete(self, id: str) -> None: ...


def _checked(layer: str) -> str:
    if not LAYER_ID.fullmatch(layer):
        raise InvalidInput(f"Invalid layer digest {layer[:80]!r}", remedy="expected sha256: and 64 hex digits")
    return layer
