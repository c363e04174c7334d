"""Verbs on a running instance: exec, pause, limits, files."""

import os
from pathlib import Path
from typing import Any, ClassVar

from bench.workload import Workload, milliseconds

ORDER = 30
NAME = "bench-r"


class OnRunning(Workload):
    """A tiny instance runs throughout."""

    samples = 5

    def prepare(self, subject: Any) -> None:
        """Start it."""
        subject.start_tiny(NAME)

    def finish(self, subject: Any) -> None:
        """Remove it."""
        subject.delete(NAME)


class ExecByCommand(OnRunning):
    """``true`` by the command line."""

    name = "exec-cli"
    title = "exec `true` by CLI"
    needs = ("start_tiny", "exec_true", "delete")
    targets = {"incus": 1.0}

    def sample(self, subject: Any) -> float:
        """Exec it."""
        return milliseconds(lambda: subject.exec_true(NAME))


class ExecByApi(OnRunning):
    """``true`` on a connection that is open already."""

    name = "exec-api"
    title = "exec `true` by API, open connection (engine: our choice)"
    needs = ("start_tiny", "api_exec_true", "delete")
    targets = {"runc": 1.3}

    def sample(self, subject: Any) -> float:
        """Exec it."""
        return milliseconds(lambda: subject.api_exec_true(NAME))


class ExecOnRunc(ExecByApi):
    """The same, with runc for both: the ratio shows Isola's overhead, not a faster engine."""

    name = "exec-api-runc"
    title = "exec `true` by API, open connection (engine: runc)"
    needs = ("start_tiny_on_runc", "api_exec_true", "delete")

    def prepare(self, subject: Any) -> None:
        """Start it under runc."""
        subject.start_tiny_on_runc(NAME)


class Pause(OnRunning):
    """Freeze; thawing is not timed."""

    name = "pause"
    title = "Pause"
    needs = ("start_tiny", "pause", "resume", "delete")

    def sample(self, subject: Any) -> float:
        """Pause it."""
        try:
            return milliseconds(lambda: subject.pause(NAME))
        finally:
            subject.resume(NAME)


class LimitMemory(OnRunning):
    """A live change, up and down."""

    name = "limit-memory"
    title = "Live change of the memory limit"
    needs = ("start_tiny", "limit_memory", "delete")
    sizes = (256, 512)

    def sample(self, subject: Any) -> float:
        """Change it."""
        self._turn = 1 - getattr(self, "_turn", 0)
        return milliseconds(lambda: subject.limit_memory(NAME, self.sizes[self._turn]))


class Push(OnRunning):
    """A file of one megabyte goes in."""

    name = "file-push"
    title = "File push, 1 MB"
    needs: ClassVar[tuple[str, ...]] = ("start_tiny", "push", "delete")

    def prepare(self, subject: Any) -> None:
        """Start it and make the file."""
        super().prepare(subject)
        file(subject).write_bytes(os.urandom(1_000_000))

    def sample(self, subject: Any) -> float:
        """Push it."""
        return milliseconds(lambda: subject.push(NAME, file(subject)))


class Pull(Push):
    """A file of one megabyte comes out."""

    name = "file-pull"
    title = "File pull, 1 MB"
    needs = ("start_tiny", "push", "pull", "delete")

    def prepare(self, subject: Any) -> None:
        """Push it first."""
        super().prepare(subject)
        subject.push(NAME, file(subject))

    def sample(self, subject: Any) -> float:
        """Pull it."""
        return milliseconds(lambda: subject.pull(NAME, file(subject)))


def file(subject: Any) -> Path:
    """The path of the file on this side."""
    return Path(subject.directory) / "megabyte"


WORKLOADS = (ExecByCommand, ExecByApi, ExecOnRunc, Pause, LimitMemory, Push, Pull)
