"""Debian's unmodified ``lxc`` command with a daemon."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from daemon import Daemon


class Lxc:
    """The ``lxc`` command of package lxd-client."""

    def __init__(self, daemon: Daemon, home: Path) -> None:
        self.daemon = daemon
        self.env = os.environ | {"LXD_DIR": str(daemon.directory), "HOME": str(home), "TERM": "xterm"}
        self.env.pop("LXD_CONF", None)

    def __call__(self, *arguments: str, status: int = 0, **options: Any) -> str:
        """Run it, check its exit status and return what it printed."""
        options = {"capture_output": True, "timeout": 240, "stdin": subprocess.DEVNULL} | options
        if "input" in options:
            options.pop("stdin")
        done: subprocess.CompletedProcess[Any] = subprocess.run(
            ["lxc", *arguments], env=self.env, check=False, **options
        )
        text: str = done.stdout.decode(errors="replace")
        said = (done.stderr or b"").decode()
        assert done.returncode == status, f"lxc {' '.join(arguments)}: {done.returncode} {text} {said}"
        return text

    def until_operation(self, kind: str) -> str:
        """The id of an operation of a class (``websocket``) that runs; waits for it."""
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for operation in self.daemon.get("/1.0/operations?recursion=1").get("running", []):
                if operation["class"] == kind:
                    return str(operation["id"])
            time.sleep(0.05)
        raise AssertionError(f"no operation of class {kind} runs")
