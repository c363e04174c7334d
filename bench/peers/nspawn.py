"""systemd-nspawn without registration, which is how it runs where systemd is not the host's init."""

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.mounts import Roots
from bench.shell import run, run_detached
from bench.subject import Subject


class Nspawn(Subject):
    """Stays in the foreground, so launching means spawning it."""

    title = "systemd-nspawn"

    @classmethod
    def control_groups(cls, directory: Path) -> Sequence[str]:
        """By name."""
        return ("payload", "supervisor")

    def start(self) -> None:
        """Two unpacked images."""
        self._roots = Roots(self.directory, self.images)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def stop(self) -> None:
        """End what runs."""
        for name in list(self._running):
            self.delete(name)

    def version(self) -> str:
        """As it says itself."""
        return run(["systemd-nspawn", "--version"]).splitlines()[0]

    def create(self, image: str, name: str) -> None:
        """An overlay."""
        self._roots.make(image, name)

    def start_instance(self, name: str) -> None:
        """Boot it on a private network."""
        root = self.directory / "roots" / name / "root"
        self._running[name] = run_detached(
            ["systemd-nspawn", "-q", "--register=no", "--keep-unit", "--private-network", "-M", name, "-b",
             "-D", str(root)],
            str(self.directory / "nspawn.log"),
        )  # fmt: skip

    def launch(self, image: str, name: str) -> None:
        """Create and start."""
        self.create(image, name)
        self.start_instance(name)

    def kill(self, name: str) -> None:
        """At once, with everything in it."""
        process = self._running.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def delete(self, name: str) -> None:
        """End and remove."""
        if name in self._running:
            self.kill(name)
        self._roots.drop(name)


SUBJECT = Nspawn
