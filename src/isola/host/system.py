"""Facts about this host: what probes and ``GET /1.0/resources`` report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Kernel:
    """What ``uname`` says."""

    name: str
    release: str
    version: str
    architecture: str
    hostname: str


class System(Protocol):
    """Quick reads; values that cannot change are read once."""

    def kernel(self) -> Kernel: ...

    def capabilities(self) -> frozenset[str]:
        """Our bounding set, as ``CAP_...`` names: no child can have more."""
        ...

    def cpus(self) -> Sequence[Mapping[str, object]]:
        """Online CPUs as ``{"id": 0, "core": 0, "socket": 0, "numa_node": 0, "model": "...", "vendor": "..."}``."""
        ...

    def memory(self) -> Mapping[str, int]:
        """``/proc/meminfo`` in bytes."""
        ...

    def os_release(self) -> Mapping[str, str]: ...

    def find_program(self, name: str) -> Path | None:
        """Where a program is, on PATH and in the sbin directories."""
        ...

    def file_systems(self) -> frozenset[str]:
        """File systems the kernel has."""
        ...

    def machine_id(self) -> str: ...

    def boot_id(self) -> str:
        """Changes with every boot of the host."""
        ...

    def pid(self) -> int:
        """The daemon's own process number."""
        ...

    def user_id_ranges(self, user: str = "root") -> Sequence[tuple[int, int]]:
        """(first, count) ranges from /etc/subuid granted to ``user``; empty when none are."""
        ...

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        """``{"network": [...], "storage": [...], "gpu": [...], "usb": [...], "pci": [...]}`` for the resources page."""
        ...
