"""Pulling as Docker shows it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from isola.doors.docker.images.credentials import registry_auth
from isola.doors.docker.images.stream import LayerLines, Line, raise_failure
from isola.doors.docker.request import Request
from isola.errors import Forbidden, InvalidInput, IsolaError, NotFound
from isola.images.registry.progress import LayerState
from isola.model.image_reference import ImageReference
from isola.model.reference import Kind, Ref

_TEXTS = {
    LayerState.WAITING: "Pulling fs layer",
    LayerState.PRESENT: "Already exists",
    LayerState.MOUNTED: "Already exists",
    LayerState.MOVING: "Downloading",
    LayerState.COMPLETE: "Download complete",
}


async def pull_all(request: Request, reference: ImageReference, platform: str) -> AsyncGenerator[Line, None]:
    """Every tag of a repository."""
    for tag in await request.services.images.registries.tags(reference, registry_auth(request)):
        async with aclosing(pull(request, reference.at(tag=tag), platform, shown=reference.familiar_name)) as lines:
            async for line in lines:
                yield line


async def pull(
    request: Request, reference: ImageReference, platform: str, *, shown: str = ""
) -> AsyncGenerator[Line, None]:
    """One image. Errors of the registry are raised before the first line."""
    images, home = request.services.images, request.home(Kind.IMAGE)
    before = images.resolve(Ref(home, reference.full))
    layers = LayerLines(request, _TEXTS)
    operation = images.registries.start_pull(
        reference,
        platform=platform,
        credentials=registry_auth(request),
        watch=layers.watch,
        project=home,
        caller=request.caller,
    )
    begin: Line = {"status": f"Pulling from {shown_path(reference)}", "id": reference.digest or reference.tag}
    begun, ids = False, dict[str, str]()
    async with aclosing(layers.until_end(operation)) as lines:
        async for line in lines:
            if not begun:
                begun = True
                yield begin
            ids[line["id"]] = line["status"]
            yield line
    await raise_failure(operation)
    if not begun:
        yield begin
    for id, last in ids.items():
        if last != _TEXTS[LayerState.PRESENT]:
            yield {"status": "Pull complete", "progressDetail": {}, "id": id}
    yield {"status": f"Digest: {operation.metadata['digest']}"}
    after = images.resolve(Ref(home, reference.full))
    same = before is not None and after is not None and before.fingerprint == after.fingerprint
    what = "Image is up to date" if same else "Downloaded newer image"
    yield {"status": f"Status: {what} for {shown or reference.familiar}"}


def shown_path(reference: ImageReference) -> str:
    """The repository without its registry."""
    return reference.path


def pull_refusal(reference: ImageReference, error: IsolaError) -> IsolaError | None:
    """The registry's refusals with the texts that scripts look for."""
    if isinstance(error, Forbidden):
        return NotFound(
            f"pull access denied for {reference.familiar_name}, repository does not exist or may require "
            f"'docker login': {error.evidence or error.message}"
        )
    if isinstance(error, NotFound) and error.evidence.startswith("name unknown"):
        return NotFound(f"repository {reference.familiar_name} not found: {error.evidence}")
    if isinstance(error, NotFound):
        return NotFound(f"manifest for {reference.familiar} not found: {error.evidence or error.message}")
    if isinstance(error, InvalidInput) and error.field == "config.platform":
        return InvalidInput(error.message)
    return None
