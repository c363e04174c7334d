"""Finds the firmware of virtual machines (OVMF) and their emulated TPM (swtpm), and prepares what both keep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isola.errors import DriverUnavailable
from isola.host import Host
from isola.host.hypervisor_job import SHARED, Server
from isola.runtimes.qemu.engines import Engines, libraries
from isola.runtimes.qemu.vm_machine import TPM

_DIRECTORY = Path("/usr/share/OVMF")
_SWTPM = "swtpm"
_BIOS = "bios-256k.bin"
STATE = "tpm"
"""Name of the TPM's directory in a root volume."""


@dataclass(frozen=True, slots=True)
class Firmware:
    """Code, which all machines share, and the variables with which a new one starts."""

    code: Path
    template: Path
    variables: str
    """Name of a machine's own variables in its root volume; those with keys are others than those without."""


PLAIN = Firmware(_DIRECTORY / "OVMF_CODE_4M.fd", _DIRECTORY / "OVMF_VARS_4M.fd", "nvram.fd")
SECURE = Firmware(_DIRECTORY / "OVMF_CODE_4M.ms.fd", _DIRECTORY / "OVMF_VARS_4M.ms.fd", "nvram.ms.fd")
"""With Microsoft's keys, by which the boot loaders of distributions are signed."""


async def require(host: Host) -> None:
    """Raises DriverUnavailable."""
    for each in (PLAIN, SECURE):
        for path in (each.code, each.template):
            if not await host.files.exists(path):
                raise DriverUnavailable(f"The firmware {path} is missing", remedy="apt-get install ovmf")


async def require_bios(host: Host, engines: Engines) -> None:
    """QEMU's own, which it starts without any other firmware. Raises DriverUnavailable."""
    for place in engines.data:
        if await host.files.exists(place / _BIOS):
            return
    raise DriverUnavailable(f"QEMU has no BIOS ({_BIOS})", remedy="apt-get install seabios")


async def variables(host: Host, root: Path, firmware: Firmware, owner: int) -> Path:
    """Those of a machine, made if they are missing; durable, because they become part of its root volume."""
    own = root / firmware.variables
    if not await host.files.exists(own):
        await host.files.write_all({own: await host.files.read(firmware.template)}, owners={own: owner})
        await host.files.flush(own, root)
    return own


async def tpm(host: Host, root: Path, owner: int) -> Server:
    """The server of a machine's TPM, which keeps its state in the root volume. Raises DriverUnavailable."""
    program = host.system.find_program(_SWTPM)
    if program is None:
        raise DriverUnavailable(f"{_SWTPM} is not installed", remedy=f"apt-get install {_SWTPM}")
    await host.files.make_directory(root / STATE, mode=0o700, owner=owner)
    command = (
        str(program), "socket", "--tpm2", "--tpmstate", f"dir={SHARED},mode=0600",
        "--ctrl", f"type=unixio,fd=@{TPM}@", "--terminate",
    )  # fmt: skip
    return Server(TPM, str(root / STATE), command, f"{TPM}-wire", shown=tuple(map(str, libraries())))
