"""Results of a build's instructions for builds elsewhere: in a registry, in the image, in a directory of the client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

import orjson

from isola.builds.cache_document import (
    ANNOTATION,
    CACHE_TYPE,
    LARGEST_ANNOTATION,
    Kept,
    bounded,
    document,
    kept,
    manifest,
)
from isola.builds.parts import Job
from isola.errors import IsolaError, Unsupported
from isola.images import layout_archive
from isola.images.descriptor import INDEX_TYPE, MANIFEST_TYPE, Descriptor
from isola.images.layouts import blob_path
from isola.images.oci_manifest import Manifest, manifest_document
from isola.images.store import LAYOUT, Intake
from isola.model.build import BuildEvent, BuildEventKind, BuildResult
from isola.model.build_cache import CacheExport, CacheType
from isola.model.image import Layer
from isola.model.image_reference import parse

Results = Sequence[tuple[int, str, BuildResult]]
"""Stage, key, result; in the order in which they were made."""
DeliverCache = Callable[[str, AsyncIterator[bytes]], Awaitable[None]]
"""Gives the client an archive for a local cache of this name."""


def inline(job: Job, results: Results, layers: Collection[Layer]) -> dict[str, str]:
    """Of an image that has its own cache; empty if none is wanted."""
    if not any(each.type is CacheType.INLINE for each in job.request.exports):
        return {}
    own = {layer.digest for layer in layers}
    found = [kept(key, each) for _, key, each in _of_target(job, results) if not each.layer or each.layer.digest in own]
    text = document(found).decode()
    if len(text) > LARGEST_ANNOTATION:
        warning = (
            "[Warning] The image has no cache: it has too many instructions. --cache-to type=registry has no limit"
        )
        job.tell(BuildEvent(BuildEventKind.WARNING, 0, warning))
        return {}
    return {ANNOTATION: text}


async def export(job: Job, intake: Intake, results: Results, deliver: DeliverCache | None) -> None:
    """To all places that are no images. ``intake`` is none of an image. Raises what pushing raises."""
    for number, wanted in enumerate(job.request.exports):
        if wanted.type is CacheType.INLINE:
            continue
        text = "exporting cache to registry" if wanted.type is CacheType.REGISTRY else "exporting cache to client"
        job.tell(BuildEvent(BuildEventKind.EXPORT, -1 - number, text))
        try:
            with job.op.step("Export cache"):
                await _exported(job, intake, wanted, results, deliver)
            job.tell(BuildEvent(BuildEventKind.RESULT, -1 - number, wanted.name))
        except IsolaError as error:
            if not wanted.ignore_error:
                raise
            job.tell(BuildEvent(BuildEventKind.WARNING, 0, f"[Warning] The cache is not exported: {error}"))


async def _exported(
    job: Job, intake: Intake, wanted: CacheExport, results: Results, deliver: DeliverCache | None
) -> None:
    chosen = results if wanted.everything else _of_target(job, results)
    found = bounded([kept(key, each) for _, key, each in chosen])
    digests = {each.digest for each in found}
    layers = [each.layer for _, _, each in chosen if each.layer is not None and each.layer.digest in digests]
    made, data, at = await _composed(intake, found, layers)
    if wanted.type is CacheType.REGISTRY:
        reference = parse(wanted.name).tagged()
        blobs = (*made.layers, made.config)
        registries = job.parts.context.images.registries
        await registries.push_artifact(job.op, reference, job.credentials(reference.domain), blobs, data)
    elif deliver is None:
        raise Unsupported("This client cannot take a local cache", field="cache_to", remedy="use type=registry")
    else:
        await deliver(wanted.name, _layout(job, made, data, at))


async def _composed(
    intake: Intake, found: Sequence[Kept], layers: Sequence[Layer]
) -> tuple[Manifest, bytes, Descriptor]:
    """In the content store, where the next sweep removes it."""
    for layer in layers:
        await intake.keep(layer.digest)
    made = manifest(await intake.put_bytes(document(found), CACHE_TYPE), layers)
    data = manifest_document(made)
    return made, data, await intake.put_bytes(data, MANIFEST_TYPE)


def _of_target(job: Job, results: Results) -> Results:
    """Of the target, and of the stages that it is based on."""
    stages, wanted = set[int](), job.plan.target
    while True:
        stages.add(wanted)
        base = job.plan.stages[wanted].base.stage
        if base is None:
            return [each for each in results if each[0] in stages]
        wanted = base


async def _layout(job: Job, made: Manifest, data: bytes, at: Descriptor) -> AsyncIterator[bytes]:
    """A tar archive of an OCI image layout."""
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [at.document()]}
    yield layout_archive.directories()
    for each in (*made.layers, made.config):
        async for piece in layout_archive.blob(job.parts.context.images.store, each.digest, each.size):
            yield piece
    yield layout_archive.document(blob_path(at.digest), data)
    yield layout_archive.document("index.json", orjson.dumps(index))
    yield layout_archive.document("oci-layout", LAYOUT) + layout_archive.END
