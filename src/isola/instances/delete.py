"""Delete an instance."""

from __future__ import annotations

from isola.errors import Forbidden, WrongState
from isola.instances.configuration import expanded
from isola.instances.context import Context
from isola.instances.remove import remove
from isola.instances.stop import Manner, halt
from isola.model.reference import Ref
from isola.operations import Operation
from isola.settings import boolean


def check(context: Context, ref: Ref, *, force: bool) -> None:
    """Raises NotFound, WrongState while it runs unless ``force``, Forbidden when it is protected."""
    instance = context.records.get(ref)
    config, _ = expanded(context, instance)
    if boolean(config.get("security.protection.delete") or "false"):
        raise Forbidden(
            f"Instance {ref.name!r} is protected from deletion",
            remedy="set security.protection.delete to false",
        )
    if context.runs(instance) and not force:
        raise WrongState("Instance is running", evidence=ref.name, remedy="stop it first, or delete it by force")


async def delete(context: Context, op: Operation, ref: Ref, *, force: bool) -> None:
    """Stop it if ``force`` is set, then remove it."""
    check(context, ref, force=force)
    runs = context.runs(context.records.get(ref))
    if runs:
        await halt(context, op, ref, Manner(timeout=None, force=True, by_signal=True))
        op.reopen()
    await remove(context, op, context.records.get(ref), clean=runs)
