"""Plain directories, for file systems that do not support overlayfs. Every volume is a full copy of its image."""

from __future__ import annotations

from isola.storage.directory_pools import DirectoryDriver, of_directories
from isola.storage.place import try_shifting


class DirDriver(DirectoryDriver):
    """One pool of trees in a directory. Copies share blocks on file systems with reflinks (XFS, btrfs)."""

    capabilities, settings = of_directories("dir")
    try_out = staticmethod(try_shifting)


DRIVER = DirDriver
