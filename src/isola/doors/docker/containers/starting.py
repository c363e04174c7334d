"""Starting containers, with Docker's errors."""

from __future__ import annotations

from contextlib import suppress

from isola.doors.docker.request import Request
from isola.errors import HostFailure, InvalidInput, IsolaError
from isola.instances.last_run import NOT_EXECUTABLE, NOT_FOUND, status_of_failure
from isola.model.instance import Instance


async def start_container(request: Request, instance: Instance) -> None:
    """Raises InvalidInput, with the texts by which clients choose 126 or 127, if its program cannot be executed."""
    operation = request.services.instances.start(instance.ref, caller=request.caller)
    try:
        await request.services.operations.finish(operation)
    except IsolaError as error:
        if instance.ephemeral:  # clients wait for the removal of what was to be removed after its run
            with suppress(IsolaError):
                removal = request.services.instances.delete(instance.ref, force=True, caller=request.caller)
                await request.services.operations.finish(removal)
        raise (_not_executable(instance, error) or error) from None


def _not_executable(instance: Instance, error: IsolaError) -> InvalidInput | None:
    text = str(error)
    status = status_of_failure(text) if isinstance(error, HostFailure) else 0
    if "open executable" in text:  # crun, of a directory
        status = NOT_EXECUTABLE
    if status not in (NOT_EXECUTABLE, NOT_FOUND):
        return None
    program = next(iter(instance.start.command), "")
    why = "executable file not found in $PATH" if status == NOT_FOUND else "permission denied"
    return InvalidInput(f'failed to create task for container: exec: "{program}": {why}', evidence=text[:2000])
