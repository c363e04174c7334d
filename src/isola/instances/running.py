"""The run of an instance, for verbs that need one."""

from __future__ import annotations

from isola.errors import WrongState
from isola.instances.context import Context, Live
from isola.model.instance import Instance


def require_live(context: Context, instance: Instance, *, remedy: str = "start it first") -> Live:
    """Raises WrongState if the instance does not run."""
    live = context.live.get(instance.id)
    if live is None and instance.id in context.restarts:
        raise WrongState(
            f"Instance {instance.name!r} is in a reboot loop and waits for its next start",
            remedy="start it to end the pause",
        )
    if live is None:
        raise WrongState(f"Instance {instance.name!r} is not running", remedy=remedy)
    return live
