"""Operations on storage pools, one at a time per pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from isola.model.caller import DAEMON, Caller
from isola.model.reference import Entity, Kind
from isola.model.storage import Pool
from isola.operations import Operation, Operations, alone
from isola.storage.pools import Pools


class PoolVerbs:
    """Each returns its running operation at once. ``project`` is that of the caller's request."""

    def __init__(self, pools: Pools, operations: Operations) -> None:
        self._pools = pools
        self._operations = operations

    def create(self, pool: Pool, *, caller: Caller = DAEMON, project: str | None = None) -> Operation:
        """A new pool."""
        return alone(
            self._operations,
            "Creating storage pool",
            pool.entity,
            lambda op: self._pools.create(op, pool),
            caller=caller,
            project=project,
        )

    def update(
        self, name: str, decide: Callable[[Pool], Pool], *, caller: Caller = DAEMON, project: str | None = None
    ) -> Operation:
        """A new configuration."""
        return alone(
            self._operations,
            "Updating storage pool",
            _entity(name),
            lambda op: self._pools.update(name, decide, caller=caller),
            caller=caller,
            project=project,
        )

    def delete(
        self, name: str, look: Callable[[], Awaitable[object]], *, caller: Caller = DAEMON, project: str | None = None
    ) -> Operation:
        """Remove it with its content. ``look`` finds again what is in pools without a record."""

        async def work(op: Operation) -> None:
            if any(user.kind is Kind.UNKNOWN for user in self._pools.used_by(name)):
                await look()  # an administrator may have removed it meanwhile
            await self._pools.delete(op, name)

        return alone(
            self._operations,
            "Deleting storage pool",
            _entity(name),
            work,
            caller=caller,
            project=project,
        )

    def adopt(self, name: str, then: Callable[[], Awaitable[object]], *, caller: Caller = DAEMON) -> Operation:
        """Restore the record of an unknown pool, then call ``then`` to inspect its content."""

        async def work(op: Operation) -> None:
            await self._pools.adopt(op, name)
            await then()

        return alone(self._operations, "Adopt unknown storage pool", _entity(name), work, caller=caller)


def _entity(name: str) -> Entity:
    return Entity.of_host(Kind.STORAGE_POOL, name)
