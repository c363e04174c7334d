"""Waiting for an operation: progress that is not shown is not requested."""

import io
from typing import Any

import pytest

from isola.cli.waiting import follow
from isola.client.operations import Operation


class Slow(Operation):
    """An operation that takes a given time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.requested = False

    def wait(self, watch: Any = None, *, after: float = 0.1) -> Any:
        if watch is not None and after < self._seconds:
            self.requested = True
            watch({"metadata": {"progress": [{"name": "Unpack"}]}})


class Stream(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def fileno(self) -> int:
        return -1  # of no size


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize(("seconds", "quiet"), [(0.05, False), (1, False), (3, False), (3, True)])
def test_progress_is_requested_once_it_is_shown(seconds: float, quiet: bool, terminal: bool) -> None:
    operation, stream = Slow(seconds), Stream(terminal)
    follow(operation, "Starting web1", quiet=quiet, stream=stream)
    shown = not quiet and seconds > (0.1 if terminal else 2)
    assert operation.requested is shown
    assert ("Unpack" in stream.getvalue()) is shown
