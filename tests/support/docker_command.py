"""The unmodified ``docker`` command on the socket of a daemon."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from daemon import Daemon


class Docker:
    """``docker("ps")`` returns standard output; other exit statuses than the expected one fail."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.host = f"unix://{daemon.directory}/docker.sock"
        self.env = {"PATH": os.environ["PATH"], "HOME": str(home), "DOCKER_HOST": self.host, "TERM": "xterm"}

    def __call__(self, *arguments: str, status: int = 0, stdin: str | None = None) -> str:
        return self.both(*arguments, status=status, stdin=stdin)[0]

    def both(self, *arguments: str, status: int = 0, stdin: str | None = None) -> tuple[str, str]:
        """Standard output and standard error."""
        done = subprocess.run(
            ["docker", *arguments],
            env=self.env,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == status, f"docker {' '.join(arguments)}: {done.returncode} {done.stdout}{done.stderr}"
        return done.stdout, done.stderr

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """A command that goes on; with pipes."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(["docker", *arguments], env=self.env, text=True, **pipes)

    def inspect(self, name: str) -> Any:
        """The description of a container."""
        return json.loads(self("container", "inspect", name))[0]
