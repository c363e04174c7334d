"""The ``isola`` command with a daemon."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from daemon import Daemon


class Cli:
    """The ``isola`` command with a daemon."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.argv = [sys.executable, "-m", "isola.cli.main"]
        self.env = os.environ | {"ISOLA_DIR": str(daemon.directory), "NO_COLOR": "1", "TERM": "xterm"}

    def __call__(self, *arguments: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run it; fails the test on a nonzero exit status unless ``check`` is off."""
        options = {"capture_output": True, "text": True, "timeout": 240, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        done = subprocess.run([*self.argv, *arguments], env=self.env, check=False, **options)
        if check:
            assert done.returncode == 0, f"isola {' '.join(arguments)}: {done.stderr or done.stdout}"
        return done
