"""iPXE as a unikernel: one program with a TCP/IP stack, built from Debian's package of it and commands of the user."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

from isola.errors import InvalidInput
from isola.host import Host
from isola.images.ipxe_program import PACKAGE, find_program, probe_program
from isola.images.source import ImageSource, SourceRequest
from isola.images.store import Intake
from isola.images.unikernel_image import unikernel_image
from isola.model.image import Image
from isola.model.kernel import UNIKERNEL
from isola.model.probe import Probe
from isola.operations import Operation
from isola.settings import Setting, Settings

_NAME = "ipxe"
_ASK = "dhcp && route ; shell"
_LONGEST = 2000


def _commands(value: str) -> str:
    if not value.strip() or len(value) > _LONGEST or not value.isprintable():
        raise ValueError(f"commands of iPXE in one line of up to {_LONGEST} characters are expected")
    return value


class IpxeSource(ImageSource):
    """``ipxe``: reproducible; the same program and commands give an identical image."""

    settings = Settings(
        "image option",
        Setting("commands", _commands, "Commands of iPXE, which are its arguments.", _ASK),
    )

    @classmethod
    async def probe(cls, host: Host) -> Probe:
        """Needs the program of Debian's package, and x86-64."""
        return await probe_program(host)

    def offers(self) -> Mapping[str, str]:
        """The only image, ``ipxe``."""
        return {_NAME: "iPXE, a unikernel with a TCP/IP stack and a shell, built from this host's package"}

    def check(self, request: SourceRequest) -> None:
        """Accepts only the name ``ipxe``."""
        if request.name not in ("", _NAME):
            raise InvalidInput(f"Unknown iPXE image {request.name[:80]!r}", field="name", remedy=f"use {_NAME}")
        self.settings.validate(request.options, where="options")

    async def _fetch(self, op: Operation, request: SourceRequest, intake: Intake, place: Path) -> Image:
        program = await find_program(self.host)
        properties = {
            "os": "iPXE",
            "description": "iPXE, a unikernel",
            **request.properties,
            "isola.type": UNIKERNEL,
            "isola.platform": _NAME,
            "isola.command": shlex.quote(str(self.settings.value(request.options, "commands"))),
        }
        kernel = place / "ipxe"
        await self.host.files.write(kernel, await self.host.files.read(program), durable=False)  # it may be a link
        return await unikernel_image(
            op, self.host, intake, (kernel,), place, properties, made_by=PACKAGE, source={"driver": _NAME}
        )


DRIVER = IpxeSource
