"""The host's C compiler as a tree for an image: programs, what they execute, and their libraries."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

_PROGRAMS = ("gcc", "as", "ld", "make")
_LIBRARY = re.compile(r"(/\S+) \(0x")


def compiler(tree: Path) -> None:
    """Write it below ``tree``, each file where the host has it."""
    files = [path for name in _PROGRAMS if (path := shutil.which(name))]
    files += [_said("gcc", f"-print-prog-name={name}") for name in ("cc1", "collect2")]
    files.append(_said("gcc", "-print-file-name=liblto_plugin.so"))
    assert len(files) == len(_PROGRAMS) + 3
    libraries = {library for program in files for library in _LIBRARY.findall(_said("ldd", program))}
    for path in (*files, *sorted(libraries)):
        place = tree / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
        place.chmod(0o755)


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout.strip()
