"""Makes a split image from a source's tarball: a compressed layer, metadata, and their description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isola.host import Host
from isola.images.assemble import Ingredients, assemble
from isola.images.descriptor import LAYER_TYPE
from isola.images.manifest import Part
from isola.images.metadata import Metadata, metadata_tarball
from isola.images.store import Intake
from isola.images.system import WANTED, config_of
from isola.images.templates import templates_of
from isola.model.image import Image, Layer
from isola.operations import Operation

_NONE: Mapping[str, str] = {}


async def system_image(
    op: Operation,
    host: Host,
    intake: Intake,
    *,
    tarball: Path,
    metadata: Metadata,
    templates: Mapping[str, str] = _NONE,
    made_by: str,
    source: Mapping[str, str],
) -> Image:
    """Compress ``tarball`` in its directory, write the metadata with its ``templates``, store both."""
    compressed, described = tarball.with_name("layer.tar.zst"), tarball.with_name("metadata.tar.gz")
    size = await host.files.size(tarball)
    with op.step("Compress image", total=size, unit="bytes") as step:
        report = await host.archives.repack(tarball, compressed, wanted=WANTED, progress=step.advance)
        step.reach(size)
    files = {f"templates/{name}": text for name, text in templates.items()}
    await host.files.write(described, metadata_tarball(metadata, files))
    fingerprint, _ = await host.files.digest(described, compressed)
    first = await op.effect("store metadata", lambda: intake.put_file(described, consume=True))
    layer = await op.effect("store layer", lambda: intake.put_file(compressed, consume=True))
    ingredients = Ingredients(
        fingerprint=fingerprint,
        metadata=metadata,
        config=config_of(report.found, metadata.properties),
        layers=[Layer(layer.digest, f"{LAYER_TYPE}+zstd", layer.size, report.diff_id)],
        parts=[
            Part("metadata", "metadata.tar.gz", first.digest, first.size),
            Part("rootfs", "rootfs.tar.zst", layer.digest, layer.size),
        ],
        made_by=made_by,
        source=source,
        templates=templates_of(metadata, templates),
    )
    return await op.effect("describe image", lambda: assemble(intake, ingredients, host.clock.now()))
