"""The unmodified ``incus`` command with a daemon."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from daemon import Daemon


class Incus:
    """The ``incus`` command of package incus-client (or incus)."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.daemon = daemon
        self.env = os.environ | {
            "INCUS_SOCKET": str(daemon.socket),
            "INCUS_DIR": str(daemon.directory),
            "INCUS_CONF": str(home / "incus"),
            "HOME": str(home),
            "TERM": "xterm",
        }

    def __call__(self, *argv: str, status: int = 0, **options: Any) -> str:
        """Run it, check its exit status and return what it printed."""
        options = {"capture_output": True, "timeout": 240, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        options["env"] = self.env | options.pop("env", {})
        done: subprocess.CompletedProcess[Any] = subprocess.run(["incus", *argv], check=False, **options)
        text: str = done.stdout.decode(errors="replace")
        errors = (done.stderr or b"").decode()
        assert done.returncode == status, f"incus {' '.join(argv)}: {done.returncode} {text} {errors}"
        return text
