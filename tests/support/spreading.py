"""Spreads the tests of a run over its processes, which share what they compile."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

AVERAGE = {"chaos": 3.0, "e2e": 0.4, "host": 0.25, "contract": 0.03, "style": 0.1}
"""Directory -> seconds that a CPU works for its average test."""
UNIT = 0.03
"""The same of a unit test."""
SECONDS = {
    "test_vm.py": 55, "test_debian_system.py": 38, "test_walls_in_use.py": 32, "test_compose_whole.py": 31,
    "test_runtime_driver_walls.py": 26, "test_unikernels.py": 26, "test_runtime_driver_vm_saved.py": 25,
    "test_installation.py": 25, "test_archives_hostile.py": 14, "test_images_source.py": 12,
    "test_runtime_driver_machines_saved.py": 21, "test_compose_clients.py": 19, "test_style_tools.py": 18,
    "test_step_killer.py": 17, "test_full_disk.py": 16, "test_chaos_storm.py": 12, "test_saved_memory.py": 15,
    "test_step_killer_images.py": 15, "test_deploy.py": 15, "test_port_templates.py": 14,
    "test_full_disk_images.py": 14, "test_runtime_driver.py": 12, "test_port_archives.py": 12,
    "test_chaos_images.py": 8, "test_registry_daemons.py": 11, "test_state_lost.py": 11, "test_dockerfiles.py": 11,
    "test_sandbox.py": 11, "test_runtime_engines.py": 11, "test_vm_media.py": 10, "test_port_files_roots.py": 10,
    "test_image_templates.py": 10, "test_instance_snapshots.py": 10, "test_compose.py": 9,
    "test_step_killer_deploy.py": 9, "test_port_mirrors.py": 9, "test_docker_networks.py": 9,
    "test_application_life.py": 9, "test_chaos_faults.py": 8, "test_docker_build.py": 8,
    "test_runtime_driver_machines.py": 8, "test_registry_clients.py": 8, "test_runtime_driver_commands.py": 7,
    "test_side_by_side.py": 7, "test_lxc_pools.py": 7, "test_daemon_killed.py": 6,
    "test_runtime_driver_confinement.py": 6, "test_runtime_driver_machines_warm.py": 6, "test_registries.py": 6,
    "test_docker_images.py": 6, "test_build_copies.py": 6, "test_guest_boot.py": 6, "test_docker_run.py": 6,
    "test_remotes.py": 6, "test_style_shape.py": 6, "test_storage_driver_layers.py": 5,
    "test_step_killer_devices.py": 5, "test_images_real.py": 5, "test_step_killer_walls.py": 5,
    "test_limits_live.py": 5, "test_debian_services.py": 5, "test_hostile_images.py": 5, "test_lxc_volumes.py": 5,
    "test_walls_as_typed.py": 5,
}  # fmt: skip
"""File -> seconds of all of its tests and of what is made for them, where that is more than the average tells."""
BETWEEN = 0.5
"""The share of the unit tests that run between longer ones."""
TOGETHER = "debian"
"""A fixture of a whole run that is so expensive that one process makes it for all tests that use it."""


class Test(Protocol):
    """What matters of a collected test."""

    @property
    def path(self) -> Path:
        """Its file."""


T = TypeVar("T", bound=Test)


def spread(tests: Sequence[T], workers: int) -> list[T]:
    """The same tests in an order whose equal portions take equally long, and end with unit tests.

    Long tests wait most of the time, and use fixtures of their file: files stay whole, and are begun at once. Some unit
    tests run between them, so that the CPUs work while other processes wait; the rest is left for the end, when
    processes take work from one another.
    """
    files = [list(group) for _, group in itertools.groupby(tests, key=lambda test: test.path)]
    shared = [test for file in files if _shares(file) for test in file]
    long = [file for file in files if _is_long(file[0]) and not _shares(file)]
    short = [test for file in files if not _is_long(file[0]) and not _shares(file) for test in file]
    portions: list[list[list[T]]] = [[] for _ in range(workers)]
    for group in sorted([shared, *long], key=_length, reverse=True):
        min(portions, key=lambda groups: sum(map(_length, groups))).append(group)
    left = len(tests)
    order: list[T] = []
    for number, groups in enumerate(portions):
        count = sum(map(len, groups))
        wanted = left // (workers - number)  # as the scheduler divides them
        fitting = short[: max(0, wanted - count)]
        order.extend(_mixed(groups, fitting))
        del short[: len(fitting)]
        left -= count + len(fitting)
    return [*order, *short]


def _mixed(groups: Sequence[Sequence[T]], short: Sequence[T]) -> Iterator[T]:
    """After each group a part of the short tests by how long the group is, and after the last also those kept back."""
    whole = sum(map(_length, groups)) or 1.0
    taken, ended = 0, 0.0
    for group in groups:
        yield from group
        ended += _length(group)
        until = int(len(short) * BETWEEN * ended / whole)
        yield from short[taken:until]
        taken = until
    yield from short[taken:]


def _is_long(test: Test) -> bool:
    return test.path.parent.name in AVERAGE


def _length(tests: Sequence[Test]) -> float:
    """Seconds of whole files."""
    counts = Counter(test.path for test in tests)
    return sum(SECONDS.get(path.name) or count * AVERAGE.get(path.parent.name, UNIT) for path, count in counts.items())


def _shares(file: Sequence[Test]) -> bool:
    return any(TOGETHER in getattr(test, "fixturenames", ()) for test in file)


def hold_collector() -> None:
    """Until ``freeze``: while thousands of tests are collected nothing is garbage, and it takes a third of the time."""
    gc.disable()


def freeze() -> None:
    """Thousands of collected tests live until the end: the garbage collector need not look at them again and again."""
    gc.freeze()
    gc.enable()


def compile_tests(places: Sequence[str]) -> None:
    """Keep the code of test modules, with rewritten assertions, for all processes of a run."""
    stale = [file for file in _modules(places) if not _is_compiled(file)]
    count = os.cpu_count() or 1
    children = [_compiler(stale[number::count]) for number in range(count)] if stale else []
    for child in children:
        os.waitpid(child, 0)


def _modules(places: Sequence[str]) -> Iterator[Path]:
    for place in places:
        path = Path(place.partition("::")[0]).resolve()
        yield from path.rglob("test_*.py") if path.is_dir() else [path]


def _is_compiled(file: Path) -> bool:
    name = f"{file.stem}.{sys.implementation.cache_tag}-pytest-{pytest.__version__}.pyc"
    with contextlib.suppress(OSError):
        return (file.parent / "__pycache__" / name).stat().st_mtime >= file.stat().st_mtime
    return False


def _compiler(files: Sequence[Path]) -> int:
    """Start a process that imports the files: pytest's hook compiles them. Returns its PID."""
    child = os.fork()
    if child:
        return child
    try:
        sys.dont_write_bytecode = False
        for file in files:
            sys.path.insert(0, str(file.parent))
            with contextlib.suppress(Exception):  # the process that collects it reports it
                importlib.import_module(file.stem)
    finally:
        os._exit(0)
