"""An application image from a root file system in an archive, as ``docker import`` makes it: one layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from isola.host import Host
from isola.host.archive.archives import UnpackLimits
from isola.host.archive.formats import compression
from isola.host.cancellation import finish
from isola.images.architecture import architecture
from isola.images.compose import LAYER_KINDS, Named, compose, store_layer
from isola.images.instructions import apply
from isola.images.oci_config import History, OciConfig
from isola.images.store import ContentStore, Intake
from isola.model.image import ImageConfig, Layer
from isola.operations import Operation

_BLANK = ImageConfig(command=(), stop_signal="SIGTERM")


@dataclass(frozen=True, slots=True)
class RootImport:
    """What the image is to be, beside the files."""

    names: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    """Dockerfile instructions."""
    message: str = ""
    architecture: str = ""
    """Of the programs; empty: that of this host."""

    def check(self) -> None:
        """Raises InvalidInput."""
        apply(_BLANK, self.changes)
        if self.architecture:
            architecture(self.architecture)


async def import_root(  # noqa: PLR0917 - what it uses, then what is wanted
    host: Host,
    store: ContentStore,
    op: Operation,
    intake: Intake,
    file: Path,
    wanted: RootImport,
    *,
    project: str,
    limits: UnpackLimits,
) -> Sequence[Named]:
    """Raises InvalidInput, UnsafeArchive."""
    layer = await _layer(host, store, op, intake, file, limits)
    now = host.clock.now()
    machine = architecture(wanted.architecture or host.system.kernel().architecture)
    history = History("", now, "", wanted.message or "Imported from -")
    config = OciConfig(machine, now, (), apply(_BLANK, wanted.changes), history=(history,))
    image = await compose(intake, config, [layer], now)
    return [Named(replace(image, project=project), wanted.names)]


async def _layer(  # noqa: PLR0917
    host: Host, store: ContentStore, op: Operation, intake: Intake, file: Path, limits: UnpackLimits
) -> Layer:
    """The archive as it is if layers may have its compression, otherwise converted."""
    kind = compression(await host.files.read(file, 8))
    target = None if kind in LAYER_KINDS else store.scratch / f"layer-{host.clock.token(8)}"
    size = await host.files.size(file)
    try:
        with op.step("Check root file system", total=size, unit="bytes") as step:
            report = await host.archives.repack(file, target, limits=limits, progress=step.advance)
            step.reach(size)
        if target is not None:
            return await store_layer(intake, target, report.diff_id)
        stored = await intake.put_file(file)
        return Layer(stored.digest, LAYER_KINDS[kind], stored.size, report.diff_id)
    finally:
        if target is not None:
            await finish(host.files.remove_tree(target))
