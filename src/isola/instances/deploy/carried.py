"""Files of the version that serves which the next one gets: those that ``isola.deploy.files`` names."""

from __future__ import annotations

from collections.abc import AsyncIterator

from isola.errors import InvalidInput, NotFound
from isola.host.roots import Root
from isola.instances.configuration import expanded
from isola.instances.deploy.parts import Attempt
from isola.instances.deploy_settings import FILES
from isola.instances.files import root
from isola.instances.run_values import paths
from isola.model.instance import Instance

_LARGEST = 16 << 20


async def carry(attempt: Attempt, serving: Instance) -> None:
    """Copy them into the version that is tried out, with owner and mode. Raises InvalidInput for a large one.

    One that the version that serves does not have is left out; one that the image has is replaced.
    """
    context, candidate = attempt.context, attempt.candidate()
    given = expanded(context, candidate)[0].get(FILES)
    if not given:
        return
    names = paths(given)
    async with root(context, serving) as source, root(context, candidate) as target:
        for name in names:
            await _copy(source, target, name)


async def _copy(source: Root, target: Root, name: str) -> None:
    try:
        entry = await source.stat(name)
    except NotFound:
        return
    if entry.size > _LARGEST:
        raise InvalidInput(f"{name} is too large for {FILES}", evidence=f"{entry.size} bytes", remedy="use a volume")
    parts = name.split("/")[1:-1]
    for end in range(1, len(parts) + 1):
        await target.make_directory("/" + "/".join(parts[:end]), uid=0, gid=0, mode=0o755)
    await target.write(name, _bounded(source, name), uid=entry.uid, gid=entry.gid, mode=entry.mode & 0o7777)


async def _bounded(source: Root, name: str) -> AsyncIterator[bytes]:
    """It may grow meanwhile."""
    left = _LARGEST
    async for block in await source.read(name):
        left -= len(block)
        if left < 0:
            raise InvalidInput(f"{name} is too large for {FILES}", evidence=f"over {_LARGEST} bytes")
        yield block
