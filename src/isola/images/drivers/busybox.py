"""A system of two megabytes with the host's static busybox: built in a second, without network access."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isola.errors import DriverUnavailable, InvalidInput
from isola.host import Host
from isola.host.threads import in_thread
from isola.images.architecture import architecture, debian_architecture
from isola.images.busybox_recipe import CREATED, STOP_SIGNAL, is_static, root_tarball, version_of
from isola.images.metadata import Metadata
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.images.system_image import system_image
from isola.model.image import Image
from isola.model.probe import Probe
from isola.operations import Operation

_NAME = "busybox"
_PACKAGE = "busybox-static"


class BusyboxSource(ImageSource):
    """``busybox``: reproducible; the same program gives an identical image."""

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Needs a statically linked busybox."""
        program = await _program(host)
        if program is None:
            return Probe(False, reason="there is no static busybox", remedy=f"apt-get install {_PACKAGE}")
        return Probe(True, version=version_of(program))

    def offers(self) -> Mapping[str, str]:
        """The only image, ``busybox``."""
        return {_NAME: "Busybox, a tiny system, built from this host's busybox"}

    def check(self, request: SourceRequest) -> None:
        """Accepts only the name ``busybox``, without options."""
        if request.name not in ("", _NAME):
            raise InvalidInput(f"Unknown busybox image {request.name[:80]!r}", field="name", remedy=f"use {_NAME}")
        self.settings.validate(request.options, where="options")

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        program = await _program(self.host)
        if program is None:
            raise DriverUnavailable("There is no static busybox", remedy=f"apt-get install {_PACKAGE}")
        tarball = place / "root.tar"
        await self.host.files.write(tarball, await in_thread(root_tarball, program), durable=False)
        machine = architecture(self.host.system.kernel().architecture)
        return await system_image(
            op,
            self.host,
            intake,
            tarball=tarball,
            metadata=Metadata(machine, CREATED, None, _properties(machine, version_of(program), request)),
            made_by=_PACKAGE,
            source={"driver": "busybox"},
        )


async def _program(host: Host) -> bytes | None:
    path = host.system.find_program("busybox")
    if path is None:
        return None
    program = await host.files.read(path)
    return program if is_static(program) else None


def _properties(machine: str, version: str, request: SourceRequest) -> dict[str, str]:
    serial = CREATED.strftime("%Y%m%d")
    found = {
        "os": "Busybox",
        "release": version,
        "version": version,
        "variant": "default",
        "architecture": debian_architecture(machine),
        "serial": serial,
        "type": "tar.zst",
        "description": f"Busybox {version} {debian_architecture(machine)} ({serial})",
        "isola.stop-signal": STOP_SIGNAL,
        **request.properties,
    }
    return {key: value for key, value in found.items() if value}


DRIVER = BusyboxSource
