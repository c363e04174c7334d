"""Pushing as Docker shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from isola.doors.docker.images.credentials import registry_auth
from isola.doors.docker.images.names import same_repository
from isola.doors.docker.images.stream import LayerLines, Line, raise_failure
from isola.doors.docker.request import Request
from isola.errors import NotFound
from isola.images.registry.progress import LayerState
from isola.model.image import Alias
from isola.model.image_reference import ImageReference, parse_full
from isola.model.reference import Kind

_TEXTS = {
    LayerState.WAITING: "Preparing",
    LayerState.PRESENT: "Layer already exists",
    LayerState.MOUNTED: "Mounted from {source}",
    LayerState.MOVING: "Pushing",
    LayerState.COMPLETE: "Pushed",
}


async def push(request: Request, reference: ImageReference) -> AsyncGenerator[Line, None]:
    """One tag, or all of the repository without one."""
    yield {"status": f"The push refers to repository [{reference.name}]"}
    for alias in _aliases(request, reference):
        async with aclosing(_push_one(request, alias)) as lines:
            async for line in lines:
                yield line


def _aliases(request: Request, reference: ImageReference) -> list[Alias]:
    home = request.home(Kind.IMAGE)
    own = [alias for alias in request.services.images.aliases() if alias.project == home]
    found = [alias for alias in same_repository(own, reference) if "@" not in alias.name]
    if reference.tag and found:
        found = [alias for alias in found if alias.name == reference.full]
        if not found:
            raise NotFound(f"tag does not exist: {reference.familiar}")
    if not found:
        raise NotFound(f"An image does not exist locally with the tag: {reference.familiar_name}")
    return sorted(found, key=lambda alias: alias.name)


async def _push_one(request: Request, alias: Alias) -> AsyncGenerator[Line, None]:
    to = parse_full(alias.name)
    assert to is not None
    layers = LayerLines(request, _TEXTS)
    operation = request.services.images.registries.start_push(
        alias.ref.renamed(alias.target),
        to,
        credentials=registry_auth(request),
        watch=layers.watch,
        caller=request.caller,
    )
    async with aclosing(layers.until_end(operation)) as lines:
        async for line in lines:
            yield line
    await raise_failure(operation)
    digest, size = operation.metadata["digest"], operation.metadata["size"]
    yield {"status": f"{to.tag}: digest: {digest} size: {size}"}
    yield {"progressDetail": {}, "aux": {"Tag": to.tag, "Digest": digest, "Size": size}}
