"""Loop devices of a test: those with a file in its directory."""

from __future__ import annotations

import contextlib
import os
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


def unused_loops(directory: Path) -> set[str]:
    """Those that no mount namespace of another process has mounted: a private one has a copy of all mounts."""
    found = loops(directory)
    if not found:
        return set()
    own = os.readlink("/proc/self/ns/mnt")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if os.readlink(process / "ns/mnt") != own:
                mounted = (process / "mountinfo").read_text().split()
                found -= {name for name in found if f"/dev/{name}" in mounted}
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
