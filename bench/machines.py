"""What guests without a root of the host start from: those of the tests, small enough to boot where all is emulated."""

import importlib
import sys
from pathlib import Path

SUPPORT = Path(__file__).parents[1] / "tests" / "support"
SAYS = {"vm": "booted", "unikernel": "ready"}
"""What each writes on its serial line as soon as its program runs."""


def write(wall: str, path: Path) -> Path:
    """A disk from which firmware boots Debian's kernel with busybox and the agent; or a kernel that is the program."""
    if str(SUPPORT) not in sys.path:
        sys.path.append(str(SUPPORT))
    if wall == "vm":
        importlib.import_module("uefi_disk").make_disk(path)
    else:
        importlib.import_module("kernels").place(path)
    return path
