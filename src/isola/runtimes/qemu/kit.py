"""Finds what the host supplies to guests with a kernel of their own: the kernel and its first file system.

``install/guest`` makes it, beside the installed program or in the environment of a checkout.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import isola
from isola.environment import variable
from isola.errors import DriverUnavailable

VARIABLE = "ISOLA_GUEST_KIT"
"""Names the directory of another kit than that of the installation."""
_REMEDY = "Run install/guest of the release, or make up, on a machine that reaches Debian's packages"
_PACKED, _UNPACKED = "vmlinuz", "vmlinux"
_FILES = (_PACKED, "initramfs", "agent")


@dataclass(frozen=True, slots=True)
class Kit:
    """A kernel, the file system that it starts from, the agent, and what they were made of."""

    directory: Path
    release: str
    """Of the kernel, as ``uname -r`` says it in the guest."""
    version: str
    """Of Debian's package of the kernel."""
    stamp: str
    """Of everything in it: kits with the same stamp are the same."""
    checksums: tuple[tuple[str, str], ...]
    """SHA-256 of each file, by name."""

    @property
    def kernel(self) -> Path:
        """Unpacked, if the installation could do that."""
        return self.directory / (_UNPACKED if any(name == _UNPACKED for name, _ in self.checksums) else _PACKED)

    @property
    def packed_kernel(self) -> Path:
        """As Debian has it, which firmware starts too."""
        return self.directory / _PACKED

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"

    @property
    def agent(self) -> Path:
        """The program alone, for guests that have a kernel and a root of their own."""
        return self.directory / "agent"

    def damaged(self) -> tuple[str, ...]:
        """Names of the files that are not what was installed. Reads them whole."""
        return tuple(name for name, checksum in self.checksums if _checksum(self.directory / name) != checksum)


def find() -> Kit:
    """The kit of this installation, or the one that ISOLA_GUEST_KIT names.

    Raises DriverUnavailable, which says what to do.
    """
    named = variable(VARIABLE)
    places = (Path(named),) if named else _places()
    for place in places:
        if (place / "kit.json").is_file():
            return _read(place)
    seen = " or ".join(str(place) for place in places)
    raise DriverUnavailable(f"There is no kernel for guests in {seen}", remedy=_REMEDY)


def _places() -> tuple[Path, ...]:
    # The installed program has a link beside its package; that of a checkout is in the environment of the tests.
    return Path(isola.__file__).parents[1] / "guest", Path(sys.prefix) / "guest"


def _read(directory: Path) -> Kit:
    try:
        record = json.loads((directory / "kit.json").read_bytes())
        texts = [record[name] for name in ("release", "version", "stamp")]
        names = (*_FILES, *([_UNPACKED] if _UNPACKED in record["checksums"] else []))
        checksums = tuple((name, record["checksums"][name]) for name in names)
        sizes = [(directory / name).stat().st_size for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DriverUnavailable(
            f"The kernel for guests in {directory} is damaged", evidence=str(error), remedy=_REMEDY
        ) from error
    if not all(sizes):
        raise DriverUnavailable(f"The kernel for guests in {directory} is empty", remedy=_REMEDY)
    return Kit(directory, texts[0], texts[1], texts[2], checksums)


def _checksum(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
