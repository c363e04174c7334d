"""Starting containers, with Docker's errors."""

from __future__ import annotations

from contextlib import suppress

from isola.doors.docker.containers.wording import of_start
from isola.doors.docker.networks.links import require_linked
from isola.doors.docker.networks.lookup import no_address
from isola.doors.docker.request import Request
from isola.errors import Exhausted, IsolaError
from isola.model.instance import Instance


async def start_container(request: Request, instance: Instance) -> None:
    """Raises InvalidInput, with the texts by which clients choose 126 or 127, if its program cannot be executed."""
    require_linked(request, instance)
    operation = request.services.instances.start(instance.ref, caller=request.caller)
    try:
        await request.services.operations.finish(operation)
    except IsolaError as error:
        if instance.ephemeral:  # clients wait for the removal of what was to be removed after its run
            with suppress(IsolaError):
                removal = request.services.instances.delete(instance.ref, force=True, caller=request.caller)
                await request.services.operations.finish(removal)
        if isinstance(error, Exhausted):
            raise no_address(request, error) from None
        raise of_start(next(iter(instance.start.command), ""), instance.runtime, error) from None
