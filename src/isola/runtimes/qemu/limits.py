"""Limits of a guest as limits of its hypervisor. Pure."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from isola.errors import InvalidInput
from isola.model.limits import Limits

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Sizes:
    """Memory of a kind of machine, in bytes."""

    default: int
    least: int


DEFAULT_MEMORY = 512 * MIB
LEAST_MEMORY = 128 * MIB
"""With less, Debian's kernel does not start."""
_ALLOWANCE = 192 * MIB
"""What QEMU, its translated code, the file server and their caches take beyond the RAM of the guest."""
ALLOWANCE_WITH_SCREEN = 384 * MIB
"""With firmware and the memory of its screen and of its viewers, and a TPM."""
USUAL = Sizes(DEFAULT_MEMORY, LEAST_MEMORY)
_SHARE = 64
"""And one part in so many of the RAM, for the page tables of the host."""

_THREADS = 2048
"""Of the hypervisor and its servers, also when a guest has taken them over: more than all CPUs and disks need."""

_MOST_CPUS = 255
"""Of a machine without interrupt remapping."""
_GROWTH = 16
_FOR_EACH_CPU = 32 * MIB
"""RAM for each CPU that may come, which takes 256 KiB of it."""


def memory_of(limits: Limits, sizes: Sizes = USUAL) -> int:
    """RAM in bytes, whole MiB. Raises InvalidInput."""
    memory = sizes.default if limits.memory is None else limits.memory
    if memory < sizes.least:
        raise InvalidInput(
            f"A virtual machine needs at least {sizes.least // MIB} MiB of memory",
            field="config.limits.memory",
            remedy="raise limits.memory",
        )
    return memory // MIB * MIB


def cpus_of(limits: Limits, there: int) -> int:
    """Virtual CPUs: as many as it may use at a time, of those that are there."""
    return max(1, min(limits.vcpus or len(limits.cpus or (0,)), there))


def most_cpus(limits: Limits, there: int) -> int:
    """Virtual CPUs that it can get while it runs."""
    return max(cpus_of(limits, there), min(there, _MOST_CPUS))


def spare_cpus(limits: Limits, there: int) -> int:
    """The same for a microVM, of whose memory its kernel sets aside a part for each CPU that may come."""
    return max(cpus_of(limits, there), min(most_cpus(limits, there), memory_of(limits) // _FOR_EACH_CPU))


def most_memory(limits: Limits, there: int) -> int:
    """RAM that it can get while it runs: as much as the host has, within what its firmware can address."""
    memory = memory_of(limits)
    return max(memory, min(there, memory * _GROWTH))


def of_group(limits: Limits, allowance: int = _ALLOWANCE, sizes: Sizes = USUAL) -> Limits:
    """Of the control group of its hypervisor, whose threads are not the guest's processes."""
    memory = memory_of(limits, sizes)
    return dataclasses.replace(
        limits, memory=memory + allowance + memory // _SHARE, processes=_THREADS, by_default=True
    )
