"""Limits of a guest with RAM of its own."""

from __future__ import annotations

import pytest

from isola.errors import InvalidInput
from isola.model.limits import Limits
from isola.runtimes.qemu import limits
from isola.runtimes.qemu.limits import MIB


def test_ram_is_the_limit_of_memory() -> None:
    assert limits.memory_of(Limits(memory=300 * MIB + 5)) == 300 * MIB
    assert limits.memory_of(Limits()) == 512 * MIB
    with pytest.raises(InvalidInput):
        limits.memory_of(Limits(memory=127 * MIB))


@pytest.mark.parametrize(
    ("given", "cpus"),
    [
        (Limits(), 1),
        (Limits(cpus=(0, 2)), 2),
        (Limits(cpus=tuple(range(99))), 4),
        (Limits(vcpus=3), 3),
        (Limits(vcpus=2, cpus=(0,)), 2),
        (Limits(vcpus=9), 4),
    ],
)
def test_virtual_cpus_are_those_it_may_use(given: Limits, cpus: int) -> None:
    assert limits.cpus_of(given, 4) == cpus


def test_a_microvm_pays_with_memory_for_each_cpu_that_may_come() -> None:
    assert limits.spare_cpus(Limits(memory=512 * MIB), 64) == 16
    assert limits.spare_cpus(Limits(memory=512 * MIB), 4) == 4
    assert limits.spare_cpus(Limits(memory=128 * MIB, vcpus=8), 64) == 8


def test_the_hypervisor_gets_more_than_the_guest() -> None:
    given = Limits(memory=512 * MIB, processes=50, cpus=(1,), swap=7)
    group = limits.of_group(given)
    assert group.memory is not None and 600 * MIB < group.memory < 800 * MIB
    assert (group.processes, group.by_default, group.cpus, group.swap) == (2048, True, (1,), 7)
