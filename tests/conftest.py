"""Hooks of every run."""

from __future__ import annotations

import compileall
import signal
from pathlib import Path

import pytest
from leftovers import place, remove_claims, remove_leftovers
from spreading import compile_tests, freeze, hold_collector, spread

_TESTS = Path(__file__).resolve().parent
_SOURCE = _TESTS.parent / "src"


def pytest_sessionstart(session: pytest.Session) -> None:
    """What killed runs left must not fail this one, nor how it was begun."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:  # in the background, under nohup: programs would ignore it too
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    several = session.config.getoption("dist", "no") != "no"
    worker = hasattr(session.config, "workerinput")
    if worker or not several:
        hold_collector()
    if worker:
        return  # the run that it belongs to has done the rest
    remove_leftovers(place())
    # Hundreds of daemons and commands are started: none compiles for itself, even where Python is told to keep nothing.
    for directory in (_SOURCE, _TESTS / "support"):
        compileall.compile_dir(directory, quiet=2, workers=0)
    if several:
        compile_tests(session.config.args)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Several processes divide the tests."""
    if worker := getattr(config, "workerinput", None):
        items[:] = spread(items, worker["workercount"])


def pytest_collection_finish() -> None:
    """From here on only tests create objects."""
    freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """What daemons that were never asked to go have claimed on the host."""
    if not hasattr(session.config, "workerinput"):
        remove_claims(place())
