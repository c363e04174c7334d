"""Base images: those of the project, or fetched."""

from __future__ import annotations

from contextlib import suppress

from isola.builds.parts import Job
from isola.builds.platforms import Platform
from isola.builds.stages import SCRATCH
from isola.errors import InvalidInput, NotFound, Unsupported
from isola.images.oci_config import OciConfig
from isola.model.build import BuildEvent, BuildEventKind
from isola.model.image import Image, Layer
from isola.model.image_reference import parse
from isola.model.reference import Kind, Ref


async def base_of(job: Job, name: str, platform: Platform) -> tuple[OciConfig | None, tuple[Layer, ...]]:
    """Configuration and layers of an image; None for ``scratch``. Raises NotFound, InvalidInput, Unsupported."""
    if name == SCRATCH:
        return None, ()
    # An id names what is here: no registry has it.
    pull = job.request.pull and not name.startswith("sha256:")
    image = (None if pull else find_image(job, name)) or await _fetched(job, name, platform)
    if not all(layer.diff_id for layer in image.layers):
        raise Unsupported(f"Image {name[:80]} was recorded by Isola 0.1", remedy="import it again")
    images = job.parts.context.images
    for layer in image.layers:
        await job.intake.keep(layer.digest)
        if not await images.store.has(layer.digest):
            raise NotFound(f"The content store has no layer {layer.digest[7:19]}", remedy=f"import {name[:80]} again")
    if image.architecture != platform.kernel:
        raise Unsupported(
            f"Image {name[:80]} is for {image.architecture}, the build is for {platform}", field="platform"
        )
    return await images.configuration(image), image.layers


def find_image(job: Job, name: str) -> Image | None:
    """By its completed name, as it is written, without ``:latest``, by its id, as a short name."""
    context = job.parts.context
    home = context.home(job.request.project, Kind.IMAGE)
    names = [name, name.removesuffix(":latest"), name.removeprefix("sha256:")]
    with suppress(InvalidInput):
        names.insert(0, parse(name).tagged().full)
    for each in (*names, *filter(None, [context.images.short_name(name)])):
        try:
            if (found := context.images.resolve(Ref(home, each))) is not None:
                return found
        except InvalidInput:  # an ambiguous prefix
            continue
    return None


async def _fetched(job: Job, name: str, platform: Platform) -> Image:
    """From a source that offers it, or else from a registry."""
    context = job.parts.context
    home = context.home(job.request.project, Kind.IMAGE)
    if name in context.images.offers():
        return await context.images.ensure(job.op, Ref(home, name))
    job.tell(BuildEvent(BuildEventKind.OUTPUT, 0, data=f"Pulling {name[:200]}\n".encode()))
    pull = context.images.registries.start_pull(
        parse(name).tagged(),
        platform=str(platform),
        credentials=job.credentials(parse(name).domain),
        project=home,
        caller=job.op.caller,
    )
    await context.operations.finish(pull)
    return context.images.get(Ref(home, str(pull.metadata["fingerprint"])))
