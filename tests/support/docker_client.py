"""The unmodified ``docker`` command on the socket of a daemon."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from daemon import Daemon


class DockerClient:
    """``docker("ps")`` is its standard output; a failure fails the test, unless ``status`` says that it is expected."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "DOCKER_HOST": f"unix://{daemon.directory}/docker.sock",
        }

    def __call__(self, *argv: str, status: int = 0) -> str:
        done = subprocess.run(["docker", *argv], capture_output=True, timeout=240, check=False, env=self.environment)
        said = done.stderr.decode()
        assert done.returncode == status, f"docker {' '.join(argv)}: {done.returncode}\n{said}{done.stdout.decode()}"
        return said if status else done.stdout.decode().strip()

    def inspect(self, *argv: str) -> Any:
        """The only object that ``docker ... inspect`` prints."""
        (found,) = json.loads(self(*argv))
        return found
