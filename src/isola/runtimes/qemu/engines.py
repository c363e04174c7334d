"""Finds the programs that run guests in QEMU: those of ``install/engines`` or else the machine's own."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import isola
from isola.environment import variable
from isola.errors import DriverUnavailable, IsolaError
from isola.host import Host
from isola.runtimes.qemu.joint import Joint

VARIABLE = "ISOLA_GUEST_ENGINES"
"""Names the directory of other programs than those of the installation; empty for the machine's own."""
_QEMU = "qemu-system-x86_64"
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
_SHARES = ("/usr/share/qemu", "/usr/share/seabios")
_TREES = ("/usr", "/lib", "/lib64", "/bin")
_MODULES, _SPICE = Path("/usr/lib/x86_64-linux-gnu/qemu"), "ui-spice-core.so"
_SAVES = ((8, 2), (1, 11))
"""From which versions on QEMU and virtiofsd save the memory of a guest that has a file system of the host mounted."""
_OLD_VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
"""QEMU's own, in C; its versions are those of QEMU."""
_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Engines:
    """How the programs are started, and what they read to do so."""

    qemu: tuple[str, ...]
    """The first arguments: a path, or a loader with its libraries and the path."""
    virtiofsd: tuple[str, ...]
    """The same; empty where there is none."""
    data: tuple[Path, ...]
    """Where QEMU finds its firmware, for its option ``-L``."""
    trees: tuple[Path, ...]
    """What both read, absolute; a confinement has to show it to them."""
    modules: Path | None = None
    """Where QEMU finds its modules; None: where it looks by itself."""
    spice: bool = False
    """Whether it has a server for screens."""

    @property
    def old_virtiofsd(self) -> bool:
        """Whether it is QEMU's own, with options of its own (``-o name=value``)."""
        return _OLD_VIRTIOFSD in self.virtiofsd


@dataclass(frozen=True, slots=True)
class Versions:
    """What the programs say they are."""

    qemu: str
    virtiofsd: str
    saves_memory: bool
    """Whether memory of a running guest can be saved while it has a file system of the host mounted."""


_ASKED: Joint[Versions] = Joint()


def find(host: Host) -> Engines:
    """The programs of this installation or machine. Raises DriverUnavailable, which says what to do."""
    named = variable(VARIABLE)
    places = _places() if named is None else (Path(named),) if named else ()
    for place in places:
        if (place / "engines.json").is_file():
            return _unpacked(place.resolve())
    return _of_machine(host)


async def versions(host: Host, engines: Engines) -> Versions:
    """Asks the programs. Raises HostFailure or one of its kind where they do not start."""
    return await _ASKED.ask((id(host), engines), lambda: _versions(host, engines))


async def _versions(host: Host, engines: Engines) -> Versions:
    qemu = await _version(host, engines.qemu)
    virtiofsd = await _version(host, engines.virtiofsd) if engines.virtiofsd else ""
    saves = not engines.old_virtiofsd and _numbers(qemu) >= _SAVES[0] and _numbers(virtiofsd) >= _SAVES[1]
    return Versions(qemu, virtiofsd, saves)


def _places() -> tuple[Path, ...]:
    # The installed program has a link beside its package; that of a checkout is in the environment of the tests.
    return Path(isola.__file__).parents[1] / "engines", Path(sys.prefix) / "engines"


def _unpacked(place: Path) -> Engines:
    start = (f"{place}/lib/loader", "--inhibit-cache", "--library-path", f"{place}/lib")
    modules = place / "lib/qemu"
    return Engines(
        (*start, f"{place}/bin/{_QEMU}"),
        (*start, f"{place}/bin/virtiofsd"),
        (place / "share",),
        (place,),
        modules,
        (modules / _SPICE).is_file(),
    )


def _of_machine(host: Host) -> Engines:
    if (qemu := host.system.find_program(_QEMU)) is None:
        raise DriverUnavailable(f"{_QEMU} is not installed", remedy="apt-get install qemu-system-x86")
    servers = [path for path in _VIRTIOFSD if Path(path).is_file()]
    return Engines(
        (str(qemu),),
        tuple(servers[:1]),
        tuple(path for path in map(Path, _SHARES) if path.is_dir()),
        libraries(),
        spice=(_MODULES / _SPICE).is_file(),
    )


def libraries() -> tuple[Path, ...]:
    """Where programs of the machine and what they need are."""
    return tuple(path for path in map(Path, _TREES) if path.is_dir())


async def _version(host: Host, start: tuple[str, ...]) -> str:
    try:
        done = await host.processes.run([*start, "--version"], timeout=_TIMEOUT)
    except IsolaError as error:
        raise DriverUnavailable(
            f"{start[-1]} does not start", evidence=str(error), remedy="run make up again, or reinstall its package"
        ) from error
    text = (done.stdout + done.stderr).decode(errors="replace")
    found = re.search(r"\d+(\.\d+)+", text)
    return found.group() if found else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
