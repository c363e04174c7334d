"""Work that the API answers when it is done, though it is an operation like any other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from isola.doors import Services
from isola.operations import Operation


async def done(
    services: Services, description: str, path: str, work: Callable[[Operation], Awaitable[object]], *, lock: str = ""
) -> None:
    """Do it and wait for the end. Raises what it raises. ``path`` is the thing's in the API."""
    noun = path.split("/")[2].replace("-", "_")
    operation = services.operations.start(description, work, locks=[lock] if lock else [], resources={noun: (path,)})
    await services.operations.finish(operation)
