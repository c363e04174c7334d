"""Properties of a host, set by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isola.host.system import Kernel

_CAPABILITIES = frozenset(
    f"CAP_{name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_ADMIN", "SETGID", "SETUID", "SYS_ADMIN")
)
_DEVICES: Mapping[str, Sequence[Mapping[str, object]]] = {
    "network": (), "storage": (), "gpu": (), "usb": (), "pci": (), "system": ()
}  # fmt: skip


@dataclass
class FakeSystem:
    """Every property is an attribute."""

    uname: Kernel = field(default_factory=lambda: Kernel("Linux", "6.1.0", "#1 SMP", "x86_64", "fake"))
    bounding_set: frozenset[str] = _CAPABILITIES
    cpu_count: int = 2
    threads_per_core: int = 1
    cpu_ns: int = 10**15
    memory_total: int = 8 << 30
    memory_free: int = 6 << 30
    release: Mapping[str, str] = field(default_factory=lambda: {"ID": "debian", "VERSION_ID": "12", "NAME": "Debian"})
    programs: dict[str, Path] = field(default_factory=dict)
    resource_limits: dict[str, int] = field(default_factory=dict)
    known_file_systems: frozenset[str] = frozenset({"overlay", "tmpfs", "ext4", "btrfs"})
    machine: str = "00000000000040008000000000000001"
    boot: str = "00000000-0000-4000-8000-00000000b007"
    own_pid: int = 2
    limits: Mapping[str, Mapping[str, int]] = field(
        default_factory=lambda: {"fs.inotify.max_user_instances": {"limit": 128, "used": 9}}
    )
    apparmor_label: str | None = None
    descriptors: tuple[int, int] = (20, 1024)
    hardware: Mapping[str, Sequence[Mapping[str, object]]] = field(default_factory=lambda: _DEVICES)

    def kernel(self) -> Kernel:
        return self.uname

    def resource_limit(self, name: str) -> int:
        return self.resource_limits.get(name, -1)

    def capabilities(self) -> frozenset[str]:
        return self.bounding_set

    def cpus(self) -> Sequence[Mapping[str, object]]:
        """Identical CPUs in one socket."""
        return [
            {
                "id": n,
                "core": n // self.threads_per_core,
                "socket": 0,
                "numa_node": 0,
                "model": "Fake",
                "vendor": "Isola",
                "frequency": 1000,
            }
            for n in range(self.cpu_count)
        ]

    def memory(self) -> Mapping[str, int]:
        """The lines of ``/proc/meminfo`` that are used."""
        free = self.memory_free
        return {
            "MemTotal": self.memory_total, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0,
            "SwapTotal": 0, "SwapFree": 0,
        }  # fmt: skip

    def os_release(self) -> Mapping[str, str]:
        return self.release

    def cpu_time_ns(self) -> int:
        return self.cpu_ns

    def find_program(self, name: str) -> Path | None:
        return self.programs.get(name)

    async def sealed_program(self, name: str) -> Path | None:
        return self.programs.get(name)

    def file_systems(self) -> frozenset[str]:
        return self.known_file_systems

    def kernel_limits(self) -> Mapping[str, Mapping[str, int]]:
        return self.limits

    def apparmor(self) -> str | None:
        return self.apparmor_label

    def machine_id(self) -> str:
        return self.machine

    def boot_id(self) -> str:
        return self.boot

    def pid(self) -> int:
        return self.own_pid

    def open_files(self) -> tuple[int, int]:
        return self.descriptors

    def devices(self) -> Mapping[str, Sequence[Mapping[str, object]]]:
        return self.hardware
