"""Where an instance's files of a run are. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MONITOR_SUFFIX = ".monitor"
"""Added to the name of the instance's control group: the monitor's own, which its limits do not touch."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one instance; its bundle is the directory itself."""

    id: str
    run: Path
    logs: Path

    @classmethod
    def of(cls, directory: Path, id: str) -> Layout:
        """The layout below the daemon's directory."""
        return cls(id, directory / "run" / id, directory / "logs" / id)

    @property
    def engine(self) -> Path:
        """Says which driver runs it; written first."""
        return self.run / "engine"

    @property
    def config(self) -> Path:
        """The OCI configuration."""
        return self.run / "config.json"

    @property
    def plan(self) -> Path:
        """What was started, as a RunSpec in JSON."""
        return self.run / "plan.json"

    @property
    def state(self) -> Path:
        """The engine's own state, of this instance alone: nothing another one does can corrupt or lock it."""
        return self.run / "state"

    @property
    def commands(self) -> Path:
        """Process numbers of commands run inside."""
        return self.run / "exec"

    @property
    def record(self) -> Path:
        """Who runs: written when the first process exists, read by a daemon that adopts it."""
        return self.run / "running.json"

    @property
    def first_pid(self) -> Path:
        """Number of the first process, by the engine."""
        return self.run / "first.pid"

    @property
    def monitor_pid(self) -> Path:
        """Number of the monitor, by itself."""
        return self.run / "monitor.pid"

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
        """The monitor's socket of packets."""
        return self.run / "attach"

    @property
    def control(self) -> Path:
        """The monitor's FIFO for window sizes and log rotation."""
        return self.run / "ctl"

    @property
    def engine_log(self) -> Path:
        """What the engine says of its work, one JSON object a line."""
        return self.run / "engine.log"

    @property
    def console_log(self) -> Path:
        """What the console showed, in the monitor's format."""
        return self.logs / "console.log"
