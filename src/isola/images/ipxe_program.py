"""The program of Debian's package of iPXE on this host."""

from __future__ import annotations

from pathlib import Path

from isola.errors import DriverUnavailable
from isola.host import Host
from isola.model.probe import Probe

PACKAGE = "ipxe"
_PLACES = (Path("/usr/lib/ipxe/ipxe.lkrn"), Path("/boot/ipxe.lkrn"))


async def probe_program(host: Host) -> Probe:
    """Needs the package, and x86-64."""
    if (machine := host.system.kernel().architecture) != "x86_64":
        return Probe(False, reason=f"Debian's iPXE starts on x86_64, not on {machine}")
    try:
        await find_program(host)
    except DriverUnavailable as error:
        return Probe(False, reason=error.message, remedy=error.remedy)
    return Probe(True)


async def find_program(host: Host) -> Path:
    """Raises DriverUnavailable."""
    for place in _PLACES:
        if await host.files.exists(place):
            return place
    raise DriverUnavailable("iPXE is not installed", remedy=f"apt-get install {PACKAGE}")
