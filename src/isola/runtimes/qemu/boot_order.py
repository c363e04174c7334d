"""From which of its devices a machine boots first. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from isola.model.disk import Disk
from isola.runtimes.spec import TapNic


def boot_order(disks: Sequence[Disk], nics: Sequence[TapNic] = ()) -> Mapping[str, int]:
    """Names of disks and links of NICs -> places from 1; the highest ``boot`` first, and of equals the first listed.

    A NIC that has none is not booted from.
    """
    wanted = [(-disk.boot, disk.name) for disk in disks] + [(-nic.boot, nic.link) for nic in nics if nic.boot > 0]
    return {name: place for place, (_, name) in enumerate(sorted(wanted, key=lambda each: each[0]), start=1)}
