"""docker-compose, version 1 and 2, on the socket of a daemon."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from daemon import Daemon

_PLUGINS = ("libexec", "lib", "local/lib", "local/libexec")
_OTHERS = "ISOLA_TEST_COMPOSE"
"""More programs, separated by colons."""


def programs() -> tuple[Path, ...]:
    """All versions that are installed: Debian 12 has 1.29, Debian 13 a plugin of the docker command."""
    named = [shutil.which("docker-compose"), *os.environ.get(_OTHERS, "").split(":")]
    named += [f"/usr/{place}/docker/cli-plugins/docker-compose" for place in _PLUGINS]
    found = {Path(name).resolve() for name in named if name and Path(name).exists()}
    return tuple(sorted(found))


def is_plugin(program: Path) -> bool:
    """Version 2 or later: the first one is a script in Python. It is not run, because tests are collected with this."""
    with program.open("rb") as file:
        return file.read(2) != b"#!"


def plugins() -> list[Path]:
    """Those that know the newer parts of compose files."""
    return [each for each in programs() if is_plugin(each)]


@dataclass
class ComposeClient:
    """``compose("up", "-d")`` in a directory with the application ``shop``; returns standard output."""

    program: Path
    daemon: Daemon
    place: Path

    def write(self, text: str, name: str = "docker-compose.yml") -> None:
        (self.place / name).write_text(dedent(text))

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {
            "PATH": os.environ["PATH"], "HOME": str(self.place), "TERM": "dumb", "DOCKER_BUILDKIT": "0",
            "DOCKER_HOST": f"unix://{self.daemon.directory}/docker.sock", "COMPOSE_PROJECT_NAME": "shop",
        }  # fmt: skip
        return subprocess.run(
            [self.program, *arguments], cwd=self.place, env=env, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=120, check=False,
        )  # fmt: skip

    def __call__(self, *arguments: str, status: int = 0) -> str:
        done = self.run(*arguments)
        assert done.returncode == status, f"{' '.join(arguments)}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout

    def inside(self, service: str, *command: str) -> str:
        return self("exec", "-T", service, *command)

    def left(self) -> list[str]:
        """Instances, networks and volumes of the application."""
        found = ("/1.0/instances", "/1.0/networks", "/1.0/storage-pools/default/volumes/custom")
        return [path for kind in found for path in self.daemon.get(kind) if "/shop" in path]
