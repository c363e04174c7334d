"""Pools for snapshots by foreign clients, and their first instance."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from incus_client import Incus
from lxc_client import Lxc

POOLS = {"btrfs": ("size=512MiB",), "overlay": (), "dir": ()}


@contextlib.contextmanager
def snapshot_pool(client: Lxc | Incus, driver: str) -> Iterator[str]:
    """A pool of a driver; the test may leave only instances with names that begin with ``sn-``."""
    client("storage", "create", "snaps", driver, *POOLS[driver])
    yield "snaps"
    for name in [each for each in client("list", "--format", "csv", "-c", "n").split() if each.startswith("sn-")]:
        client("delete", "--force", name)
    client("storage", "delete", "snaps")


def launch_then(client: Lxc | Incus, pool: str, more: str = "") -> None:
    """Launch ``sn-one``, with a file that contains ``then``."""
    client("launch", "tiny", "sn-one", "--storage", pool)
    client("exec", "sn-one", "--", "sh", "-c", f"echo then > /file{more}")
