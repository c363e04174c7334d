"""``python bundle.py DIRECTORY LATER`` writes ``isola.CACHE_TAG``, the bundle of the package ``isola`` in DIRECTORY.

LATER is the directory from which the program will run; tracebacks name it.

Its layout: four bytes with the size of what follows, the marshalled code of ``finder.py`` and the index, and the code
of the modules. Python's cache tag (``cpython-311``) is part of its name, since each version has its own byte code:
another one finds no bundle, and imports the modules from their files.
"""

from __future__ import annotations

import marshal
import sys
from pathlib import Path
from types import CodeType

PACKAGES = (
    "isola",
    "isola/cli",
    "isola/cli/commands",
    "isola/cli/compose/commands",
    "isola/client",
)


def write(directory: Path, later: Path) -> Path:
    """Returns the path of the bundle."""
    index: dict[str, tuple[bool, int, int]] = {}
    codes = bytearray()
    for source in sorted(each for package in PACKAGES for each in (directory / package).glob("*.py")):
        code = marshal.dumps(_compiled(source, later / source.relative_to(directory)))
        parts = source.relative_to(directory).with_suffix("").parts
        package = parts[-1] == "__init__"
        index[".".join(parts[:-1] if package else parts)] = (package, len(codes), len(code))
        codes += code
    finder = "isola/cli/finder.py"
    head = marshal.dumps((_compiled(directory / finder, later / finder), index))
    bundle = directory / f"isola.{sys.implementation.cache_tag}"
    bundle.write_bytes(len(head).to_bytes(4, "little") + head + codes)
    return bundle


def _compiled(source: Path, name: Path) -> CodeType:
    return compile(source.read_bytes(), str(name), "exec", dont_inherit=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
