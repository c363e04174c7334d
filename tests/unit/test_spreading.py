"""The tests of a run are divided among its processes so that all end at the same time."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from sampling import WHOLE, turns
from spreading import AVERAGE, SECONDS, compile_tests, spread


@dataclass(frozen=True)
class Item:
    path: Path
    number: int
    fixturenames: tuple[str, ...] = ()


def file(name: str, tests: int, *fixtures: str) -> list[Item]:
    return [Item(Path("tests") / name, number, fixtures) for number in range(tests)]


LONG = [
    *file("chaos/test_storm.py", 3),
    *file("e2e/test_vm.py", 4, "debian"),
    *file("e2e/test_lxc.py", 9),
    *file("e2e/test_system.py", 5, "debian"),
    *file("host/test_steps.py", 11),
]
OTHERS = [*file("contract/test_port.py", 9), *file("unit/test_c.py", 83)]
SHORT = [*file("unit/test_a.py", 170), *file("unit/test_b.py", 30)]


def test_every_portion_begins_with_long_tests_and_ends_with_unit_tests() -> None:
    order = spread([*LONG, *SHORT], 4)
    assert sorted(order, key=str) == sorted([*LONG, *SHORT], key=str)
    assert len(order) == 232
    for start in range(0, 232, 58):
        kinds = [test.path.parent.name for test in order[start : start + 58]]
        assert kinds[0] in AVERAGE
        last = max(number for number, kind in enumerate(kinds) if kind in AVERAGE)
        assert len(kinds) - 1 - last >= kinds.count("unit") / 2, "at least half of the unit tests come last"


def test_unit_tests_run_between_long_files() -> None:
    order = [test.path.parent.name for test in spread([*LONG, *SHORT], 1)]
    first, last = order.index("unit"), max(number for number, kind in enumerate(order) if kind in AVERAGE)
    assert first < last and order[first:last].count("unit") > 50


def test_files_stay_whole_and_those_with_an_expensive_fixture_together() -> None:
    order = spread([*LONG, *SHORT], 4)
    places = [order.index(test) for test in LONG if test.path.name == "test_lxc.py"]
    assert places == list(range(places[0], places[0] + 9))
    places = [number for number, test in enumerate(order) if "debian" in test.fixturenames]
    assert places == list(range(places[0], places[0] + 9))


def test_the_longest_files_are_begun_first() -> None:
    longest = sorted(SECONDS, key=lambda name: SECONDS[name], reverse=True)[:4]
    files = [file(f"e2e/{name}", 2) for name in longest]
    order = spread([*OTHERS, *(test for tests in files for test in tests)], 4)
    assert {order[start].path.name for start in range(0, len(order), len(order) // 4)} == set(longest)


def test_files_that_are_known_to_be_long_exist() -> None:
    there = {path.name for path in Path(__file__).parents[1].rglob("test_*.py")}
    assert set(SECONDS) <= there


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_nothing_is_lost_without_tests_of_one_kind(workers: int) -> None:
    for tests in (LONG, SHORT, []):
        assert sorted(spread(tests, workers), key=str) == sorted(tests, key=str)


def test_modules_are_compiled_with_rewritten_assertions_and_only_once(tmp_path: Path) -> None:
    module, broken = tmp_path / "test_something.py", tmp_path / "test_broken.py"
    module.write_text("def test_it():\n    assert 1\n")
    broken.write_text("import nothing_of_this_name\n")
    compile_tests([str(tmp_path)])
    (compiled,) = (tmp_path / "__pycache__").glob("test_something.*-pytest-*.pyc")
    assert b"@pytest_ar" in compiled.read_bytes()
    os.utime(compiled, ns=(0, 2**62))
    before = compiled.stat()
    compile_tests([f"{module}::test_it"])
    assert compiled.stat() == before
    assert "test_something" not in sys.modules


def test_sampled_ways_take_turns() -> None:
    ways = [way for test, way in turns("abcdef", "xyz", 2) if test == "d"]
    assert len(set(ways)) == len(ways) == (3 if WHOLE else 2)
    assert {way for _, way in turns("abcdef", "xyz", 2)} == set("xyz")
