"""Changes of the run state of many instances at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from isola.errors import IsolaError
from isola.model.caller import DAEMON, Caller
from isola.model.instance import Instance
from isola.model.reference import Ref
from isola.operations import Operation, Operations

Act = Callable[[Ref], Operation]


def change_all(
    operations: Operations,
    chosen: Sequence[Instance],
    act: Act,
    *,
    project: str | None = None,
    caller: Caller = DAEMON,
) -> Operation:
    """One operation that starts one operation for each instance."""
    return operations.start(
        f"Changing the state of {len(chosen)} instances",
        lambda op: _each(operations, op, [instance.ref for instance in chosen], act),
        resources=[instance.entity for instance in chosen],
        project=project,
        caller=caller,
    )


async def _each(operations: Operations, op: Operation, chosen: Sequence[Ref], act: Act) -> None:
    """Start all, then wait for all; the first error is raised at the end."""
    started: list[Operation] = []
    errors: list[IsolaError] = []
    with op.step("Change instances", total=len(chosen), unit="items") as step:
        for ref in chosen:
            try:
                started.append(act(ref))
            except IsolaError as error:
                errors.append(error)
        for operation in started:
            try:
                await operations.finish(operation)
            except IsolaError as error:
                errors.append(error)
            step.advance()
    if errors:
        raise errors[0]
