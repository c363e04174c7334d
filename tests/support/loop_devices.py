"""Loop devices of a test: those with a file in its directory."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path


def loops(directory: Path) -> set[str]:
    """Names (``loop0``) of devices whose file is, or was, below ``directory``."""
    found = set()
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):  # other tests run concurrently
            if backing.read_text().startswith(f"{directory}/"):
                found.add(backing.parents[1].name)
    return found


@contextlib.contextmanager
def loop_device(image: Path) -> Iterator[Path]:
    """A device over a file."""
    argv = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield Path(device)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)
