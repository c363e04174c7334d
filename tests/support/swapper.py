"""A hostile program inside: as soon as a name appears, it mounts another file on it.

Run as a program with a directory, a file to mount, and names in the directory. It has its own mount namespace, prints
``ready``, and ends when all names are covered or its time is over.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from isola.host import kernel

SECONDS = 20.0


def main() -> None:
    place, what, *names = sys.argv[1:]
    kernel.unshare(0x20000)
    kernel.mount("", Path("/"), "", "", kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount("inside", Path(place), "tmpfs", "mode=777")
    trees = [kernel.clone_tree(Path(what)) for _ in names]
    print("ready", flush=True)
    end = time.monotonic() + SECONDS
    for tree, name in zip(trees, names, strict=True):
        target = Path(place, name)
        while time.monotonic() < end:
            try:
                kernel.attach_tree(tree, target)
                break
            except OSError:
                continue
        os.close(tree)
    print("over", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
