"""Paths of an instance's runtime files. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from isola.runtimes.driver import RUNS

MONITOR_SUFFIX = ".monitor"
"""Suffix of the monitor's control group, to which the instance's limits do not apply."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one instance; its bundle is the directory itself."""

    id: str
    run: Path
    logs: Path

    @classmethod
    @functools.lru_cache(maxsize=256)
    def of(cls, directory: Path, id: str) -> Layout:
        """The layout below the daemon's directory."""
        return cls(id, directory / RUNS / id, directory / "logs" / id)

    @property
    def engine(self) -> Path:
        """The name of its driver; written first."""
        return self.run / "engine"

    @property
    def config(self) -> Path:
        """The OCI configuration."""
        return self.run / "config.json"

    @property
    def plan(self) -> Path:
        """The RunSpec with which it was started, in JSON."""
        return self.run / "plan.json"

    @property
    def state(self) -> Path:
        """The engine's state, separate for each instance, so that others cannot corrupt or lock it."""
        return self.run / "state"

    @property
    def commands(self) -> Path:
        """PID files of commands run inside."""
        return self.run / "exec"

    @property
    def files(self) -> Path:
        """Files that exist inside for the run alone."""
        return self.run / "files"

    def file(self, path: str) -> Path:
        """Of the one that is at this path inside."""
        return self.files / path.strip("/").replace("/", "-")

    @property
    def record(self) -> Path:
        """Its processes: written when the first process exists, read by a daemon that adopts it."""
        return self.run / "running.json"

    @property
    def first_pid(self) -> Path:
        """PID of the first process, written by the engine."""
        return self.run / "first.pid"

    @property
    def exits(self) -> Path:
        """Directory in which the monitor leaves the exit status."""
        return self.run / "exit"

    @property
    def exit_status(self) -> Path:
        """The exit status in decimal."""
        return self.exits / self.id

    @property
    def attach(self) -> Path:
        """The monitor's packet socket."""
        return self.run / "attach"

    @property
    def control(self) -> Path:
        """The monitor's FIFO for window sizes and log rotation."""
        return self.run / "ctl"

    @property
    def engine_log(self) -> Path:
        """The engine's log, one JSON object per line."""
        return self.run / "engine.log"

    @property
    def console_log(self) -> Path:
        """Console output, in the monitor's format."""
        return self.logs / "console.log"
