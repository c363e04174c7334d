"""Resource limits and usage, in the kernel's units."""

from __future__ import annotations

from dataclasses import dataclass

_SECOND = 1_000_000_000
"""In nanoseconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an instance may use; None means as much as the host has."""

    cpus: tuple[int, ...] | None = None
    """CPU numbers it may run on."""
    memory: int | None = None
    """Bytes. Of a guest with memory of its own it is that memory, and always set."""
    processes: int | None = None
    by_default: bool = False
    """The number of processes is the default's, not the user's: a host that cannot limit them goes without."""
    cpu_time: tuple[int, int] | None = None
    """Microseconds of CPU time in each period of so many microseconds."""
    cpu_shares: int | None = None
    """Its share of busy CPUs against others, 2 to 262144; None: 1024."""
    memory_nodes: tuple[int, ...] | None = None
    """NUMA nodes from which it gets memory."""
    memory_reserved: int | None = None
    """Bytes that are kept for it when memory is scarce."""
    swap: int | None = 0
    """Bytes of swap beyond ``memory``."""
    swappiness: int | None = None
    """0 to 100: how readily its memory is swapped out."""
    kill_when_full: bool = True
    """False: at the limit of memory its processes wait until some is free."""
    io_weight: int | None = None
    """Its share of busy disks against others, 10 to 1000."""
    disk_rates: tuple[str, ...] = ()
    """How fast it may access disks of the host, each as ``isola.model.disk_rates.encoded`` writes it."""
    vcpus: int | None = None
    """How many CPUs a guest has that has CPUs of its own; None: it uses those of the host."""
    listens: tuple[str, ...] | None = None
    """Ports to which its programs may bind, as ``isola.model.ports`` writes them."""
    connects: tuple[str, ...] | None = None
    """Ports of others to which they may connect and send."""

    def cpu_ns_a_second(self, cpus: int) -> int:
        """Nanoseconds of CPU time that it may use in a second, on a host with so many CPUs."""
        own = self.vcpus or (cpus if self.cpus is None else len(self.cpus))
        limit = own * _SECOND
        if self.cpu_time is None:
            return limit
        time, period = self.cpu_time
        return min(limit, time * _SECOND // period)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a control group uses now. Bytes; nanoseconds."""

    cpu_ns: int = 0
    memory: int = 0
    memory_peak: int = 0
    swap: int = 0
    swap_peak: int = 0
    processes: int = 0
