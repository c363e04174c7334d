"""What all parts of a deployment share: its instances, the record that it has begun, and operations of its steps."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from isola.host.cancellation import finish
from isola.instances.context import Context, entity_of
from isola.instances.volatile import NEXT, PREVIOUS_ID, ROLE
from isola.model.deployment import Strategy, Terms, beside_name
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation

Work = Callable[[Operation], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Names:
    """Where the versions of an instance stand."""

    serving: Ref
    next: Ref
    """That of the version that is tried out: of a first one, where it is to serve; of the previous one, where it is."""
    previous: Ref
    """That of the version that has served, afterwards."""

    @property
    def aside(self) -> Ref:
        """That of the version before the previous one, until it is removed."""
        return self.serving.renamed(beside_name(self.serving.name, "aside"))


@dataclass(frozen=True, slots=True)
class Attempt:
    """One deployment or rollback of one instance."""

    context: Context
    op: Operation
    names: Names
    terms: Terms
    at: str
    """When it was begun: the same for all that are deployed together."""
    intent: str
    """Id of the intent."""
    made: bool
    """The version that is tried out was made for this, and is removed if it fails."""

    @property
    def stops_first(self) -> bool:
        """Whether the version that serves is stopped before the other one is started."""
        return self.terms.strategy is Strategy.STOP_FIRST

    def serving(self) -> Instance:
        """The version that serves. Raises NotFound."""
        return self.context.records.get(self.names.serving)

    def candidate(self) -> Instance:
        """The version that is tried out. Raises NotFound."""
        return self.context.records.get(self.names.next)

    async def step(self, ref: Ref, what: str, work: Work) -> None:
        """An operation of its own inside this one, which has the locks; cancelled with it."""
        await step(self.context, self.op, ref, what, work)


def previous_of(context: Context, instance: Instance) -> Instance | None:
    """The version that served before it; None if there is none, or it was deleted."""
    found = context.by_id(instance.volatile.get(PREVIOUS_ID, ""))
    return None if found is None or found.deleting or found.project != instance.project else found


def is_next(instance: Instance | None) -> bool:
    """Whether it was made to be tried out, and does not serve yet."""
    return instance is not None and instance.volatile.get(ROLE) == NEXT


async def step(context: Context, op: Operation, ref: Ref, what: str, work: Work) -> None:
    """An operation of its own inside ``op``, which has the locks; a cancellation of ``op`` cancels it."""
    operation = context.operations.start(what, work, resources=[entity_of(ref)], caller=op.caller)
    try:
        await operation.wait()
    except asyncio.CancelledError:
        if operation.may_cancel:
            operation.cancel()
        await finish(asyncio.ensure_future(operation.wait()))
        raise
    await context.operations.finish(operation)
