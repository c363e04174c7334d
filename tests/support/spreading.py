"""Spreads the tests of a run over its processes, which share what they compile."""

from __future__ import annotations

import contextlib
import gc
import importlib
import itertools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

WEIGHTS = {"chaos": 20, "e2e": 12, "host": 6, "contract": 2, "style": 10}
"""Directory -> length of its average test, compared with a unit test."""
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

    Long tests wait most of the time, and use fixtures of their file: files stay whole, and are begun at once. Unit
    tests are left for the end, when processes take work from one another.
    """
    files = [list(group) for _, group in itertools.groupby(tests, key=lambda test: test.path)]
    shared = [test for file in files if _shares(file) for test in file]
    long = [file for file in files if _weight(file[0]) > 1 and not _shares(file)]
    short = [test for file in files if _weight(file[0]) == 1 and not _shares(file) for test in file]
    portions: list[list[T]] = [[] for _ in range(workers)]
    for group in sorted([shared, *long], key=_length, reverse=True):
        min(portions, key=_length).extend(group)
    left = len(tests)
    for number, portion in enumerate(portions):
        wanted = left // (workers - number)  # as the scheduler divides them
        fitting = max(0, wanted - len(portion))
        portion.extend(short[:fitting])
        del short[:fitting]
        left -= len(portion)
    return [*itertools.chain(*portions), *short]


def _weight(test: Test) -> int:
    return WEIGHTS.get(test.path.parent.name, 1)


def _length(tests: Sequence[Test]) -> int:
    return sum(map(_weight, tests))


def _shares(file: Sequence[Test]) -> bool:
    return any(TOGETHER in getattr(test, "fixturenames", ()) for test in file)


def freeze() -> None:
    """Thousands of collected tests live until the end: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()


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
