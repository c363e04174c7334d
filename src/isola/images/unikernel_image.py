"""An image of a unikernel from its kernel: an ordinary OCI image with one layer, whose labels say how it is started."""

from __future__ import annotations

import shlex
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from isola.errors import InvalidInput
from isola.host import Host
from isola.host.roots import Access
from isola.images.architecture import architecture, check_runs
from isola.images.compose import compose, store_layer
from isola.images.oci_config import History, OciConfig
from isola.images.store import Intake
from isola.model.image import TYPE_LABEL, Image, ImageConfig
from isola.model.kernel import INITRD, PREFIX, UNIKERNEL, Kernel, kernel_of, labels_of
from isola.model.kernel_file import LARGEST, Format, examine
from isola.operations import Operation

PROPERTIES = ("type", "command", "machine", "platform")
"""What an upload says, as ``isola.NAME``; ``command`` are the arguments, quoted as in a shell."""
_LABELS = {
    "os": "org.isola.image.os",
    "release": "org.isola.image.release",
    "description": "org.opencontainers.image.description",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BLOCK = 512


def is_unikernel(properties: Mapping[str, str]) -> bool:
    """Whether an upload with these properties is one."""
    return properties.get("isola.type") == UNIKERNEL


async def unikernel_image(  # noqa: PLR0917 - what it uses, then what is wanted
    op: Operation,
    host: Host,
    intake: Intake,
    files: Sequence[Path],
    place: Path,
    properties: Mapping[str, str],
    *,
    made_by: str = "import of a unikernel",
    source: Mapping[str, str] | None = None,
) -> Image:
    """``files``: the kernel, and perhaps its initial file system; ``place``: an empty directory for the work.

    Equal files and properties give an equal image. Raises InvalidInput, Unsupported.
    """
    kernel, command = _wanted(files, properties)
    machine = architecture(properties.get("architecture") or "x86_64")
    check_runs(machine, host.system.kernel().architecture)
    format = await _format(host, files[0])
    require_machine(format, kernel.machine)
    tarball, packed = place / "kernel.tar", place / "kernel.tar.zst"
    await _pack(host, tarball, dict(zip((kernel.path, kernel.initrd), files, strict=False)))
    size = await host.files.size(tarball)
    with op.step("Compress kernel", total=size, unit="bytes") as step:
        report = await host.archives.repack(tarball, packed, progress=step.advance)
        step.reach(size)
    layer = await op.effect("store kernel", lambda: store_layer(intake, packed, report.diff_id))
    described = {"description": f"Unikernel ({format}, {kernel.machine})", **_free(properties)}
    labels = {
        TYPE_LABEL: UNIKERNEL, **labels_of(kernel), f"{PREFIX}format": format.value,
        **{label: described[key] for key, label in _LABELS.items() if key in described},
    }  # fmt: skip
    run = ImageConfig(command=command, labels=labels)
    config = OciConfig(machine, _EPOCH, (), run, history=(History(made_by),))
    image = await compose(intake, config, [layer], host.clock.now(), source=source or {})
    return replace(image, properties={**image.properties, **described})


def require_machine(format: Format, machine: str) -> None:
    """Raises InvalidInput if the machine has no firmware that starts such a kernel."""
    if format is Format.MULTIBOOT and machine == "microvm":
        raise InvalidInput(
            "The firmware of the machine microvm starts no multiboot kernels",
            field="properties.isola.machine",
            remedy="use the machine q35 or pc",
        )


def _wanted(files: Sequence[Path], properties: Mapping[str, str]) -> tuple[Kernel, tuple[str, ...]]:
    if len(files) not in (1, 2):
        raise InvalidInput("Expected one or two files", field="files", remedy="a kernel, and its initial file system")
    for key in properties:
        name = key.removeprefix("isola.")
        if key.startswith("isola.") and name not in PROPERTIES:
            raise InvalidInput(
                f"A unikernel has no property {key[:80]!r}",
                field=f"properties.{key[:80]}",
                remedy=f"use {', '.join(f'isola.{each}' for each in PROPERTIES)}",
            )
    try:
        command = tuple(shlex.split(properties.get("isola.command", "")))
    except ValueError as error:
        raise InvalidInput(f"The arguments: {error}", field="properties.isola.command") from None
    given = {f"{PREFIX}{name}": properties.get(f"isola.{name}", "") for name in ("machine", "platform")}
    return replace(kernel_of(given), initrd=INITRD if len(files) > 1 else ""), command


def _free(properties: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in properties.items() if value and not key.startswith("isola.")}


async def _format(host: Host, file: Path) -> Format:
    size = await host.files.size(file)
    async with host.files.root(file.parent) as root:
        opened = await root.open(f"/{file.name}", Access(read=True))
        found = await examine(opened.read, size)
    assert found.format is not None
    return found.format


async def _pack(host: Host, target: Path, files: Mapping[str, Path]) -> None:
    """A tar archive of these files, the same bytes from the same files."""
    at = 0

    async def add(data: bytes) -> None:
        nonlocal at
        await host.files.extend(target, data, at=at)
        at += len(data)

    directories = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "/"}
    for path in sorted(directories):
        await add(_header(path, 0, tarfile.DIRTYPE, 0o755))
    for path, file in files.items():
        size = await host.files.size(file)
        if size > LARGEST:
            raise InvalidInput(f"The file has more than {LARGEST} bytes", field="files")
        await add(_header(path, size, tarfile.REGTYPE, 0o644))
        async for block in host.files.blocks(file):
            await add(block)
        await add(bytes(-size % _BLOCK))
    await add(bytes(2 * _BLOCK))


def _header(path: str, size: int, kind: bytes, mode: int) -> bytes:
    info = tarfile.TarInfo(path.strip("/"))
    info.size, info.type, info.mode = size, kind, mode
    return info.tobuf(tarfile.PAX_FORMAT)
